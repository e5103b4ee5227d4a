#!/bin/sh
# timeout: 60
# Packets are forwarded, with the inside address and the WireGuard interface in place.
set -eu
test "$(sysctl -n net.ipv4.ip_forward)" = 1
ip -4 -oneline address show | grep -qF " $(cat /var/lib/slipway/parameters/inside_address) "
ip -4 -oneline address show dev wg0 | grep -qF " $(cat /var/lib/slipway/parameters/wireguard_address) "
wg show wg0 listen-port | grep -qx 51820
