#!/bin/sh
# timeout: 60
# Packets are forwarded, with the inside address and the WireGuard interface in place.
set -eu
test "$(sysctl -n net.ipv4.ip_forward)" = 1
# shellcheck disable=SC1091 # the instance's own
. /etc/slipway/parameters.env
ip -4 -oneline address show | grep -qF " $PARAM_INSIDE_ADDRESS "
ip -4 -oneline address show dev wg0 | grep -qF " $PARAM_WIREGUARD_ADDRESS "
wg show wg0 listen-port | grep -qx 51820
