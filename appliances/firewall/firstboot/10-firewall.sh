#!/bin/sh
# Parameters -> the configuration of nftables, networkd, WireGuard and dnsmasq, and all of it in force: rules first,
# then addresses, then forwarding, so that nothing is ever routed without rules.
set -eu
python3 -E -s -B /usr/lib/firewall/configure.py
nft -f /etc/nftables.conf
networkctl reload
sysctl --quiet --load=/etc/sysctl.d/60-firewall.conf
