#!/bin/sh
# timeout: 60
# DHCP and DNS run without root, and answer inside only.
set -eu
dnsmasq --test --conf-file=/etc/firewall/dnsmasq.conf
systemctl is-active firewall-dnsmasq.service
test "$(ps -o user= -p "$(systemctl show -p MainPID --value firewall-dnsmasq.service)")" = dnsmasq
address=$(cat /var/lib/slipway/parameters/inside_address)
ss -Hlnu 'sport = :53' | awk '{ print $4 }' | grep -q "^${address%/*}[:%]"
if ss -Hlntu 'sport = :53' | awk '{ print $5 }' | grep -E '^(0\.0\.0\.0|\*|\[::\])[:%]'; then exit 1; fi
