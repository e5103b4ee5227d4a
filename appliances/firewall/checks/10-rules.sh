#!/bin/sh
# timeout: 60
# What no rule lets in or through is dropped, and the rules that are loaded are those of the file.
set -eu
for chain in input forward; do
    nft list chain inet firewall "$chain" | grep -q "hook $chain priority filter; policy drop;"
done
nft -c -f /etc/nftables.conf
# No other table lets in what this one drops, or is left over.
test "$(nft list tables)" = "table inet firewall"
test "$(systemctl show -p Result --value nftables.service)" = success
