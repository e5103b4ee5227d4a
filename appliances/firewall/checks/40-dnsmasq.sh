#!/bin/sh
# timeout: 60
# DHCP and DNS run without root, and answer inside only.
set -eu
dnsmasq --test --conf-file=/etc/firewall/dnsmasq.conf
systemctl is-active firewall-dnsmasq.service
test "$(ps -o user= -p "$(systemctl show -p MainPID --value firewall-dnsmasq.service)")" = dnsmasq
# shellcheck disable=SC1091 # the instance's own
. /etc/slipway/parameters.env
ss -Hlnu 'sport = :53' | awk '{ print $4 }' | grep -q "^${PARAM_INSIDE_ADDRESS%/*}[:%]"
if ss -Hlntu 'sport = :53' | awk '{ print $5 }' | grep -E '^(0\.0\.0\.0|\*|\[::\])[:%]'; then exit 1; fi
