#!/bin/sh
# timeout: 120
# What would lock people out is refused, and changes nothing. Rules with an error leave a way in, and none through.
set -eu
before=$(cat /etc/systemd/network/05-wg0.netdev; ip -4 route; wg show wg0 allowed-ips)
key=$(wg genkey | wg pubkey)
inside=$(sed -n 's/^Address=//p' /etc/systemd/network/05-inside.network)
network=$(python3 -c 'import ipaddress, sys; print(ipaddress.ip_interface(sys.argv[1]).network)' "$inside")
own=$(sed -n 's/^Address=\(.*\)\/.*/\1/p' /etc/systemd/network/05-wg0.network)
for networks in "$network" 0.0.0.0/0 "$own/32" "10.9.0.0/24@nosuch.invalid:51820"; do
    if firewall-peer "$key@$networks" 2>/run/said; then
        echo "$networks was taken"
        exit 1
    fi
    if grep -q Traceback /run/said || ! [ -s /run/said ]; then
        cat /run/said
        exit 1
    fi
done
test "$(cat /etc/systemd/network/05-wg0.netdev; ip -4 route; wg show wg0 allowed-ips)" = "$before"

cp /etc/nftables.conf /run/nftables.conf
trap 'cp /run/nftables.conf /etc/nftables.conf; systemctl restart nftables' EXIT
echo 'tabel inet mistyped {' >>/etc/nftables.conf
systemctl restart nftables.service
systemctl is-active nftables systemd-networkd
nft list chain inet firewall forward | grep -q 'policy drop'
nft list chain inet firewall forward | grep -q accept && exit 1
nft list chain inet firewall input | grep 'tcp dport' | grep -q 22
