#!/bin/sh
# timeout: 120
# What would lock people out is refused, and changes nothing. Rules with an error leave a way in, and none through. What a
# cloud says of the outside card stays.
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

for file in /var/lib/slipway/parameters/*; do
    name=PARAM_$(basename "$file" | tr '[:lower:]' '[:upper:]')
    export "$name=$(cat "$file")"
done
made=/run/made
trap 'cp /run/nftables.conf /etc/nftables.conf; systemctl restart nftables; rm -rf "$made"' EXIT
# written LINE...: whether DHCP is written for the outside card where cloud-init has a file with these lines.
written() {
    rm -rf "$made"
    mkdir -p "$made/etc/systemd/network" "$made/sys/class/net/outside0"
    echo 52:54:00:aa:bb:cc >"$made/sys/class/net/outside0/address"
    printf '%s\n' "$@" >"$made/etc/systemd/network/10-cloud-init-x.network"
    (
        cd /usr/lib/firewall
        INTERFACE_OUTSIDE=outside0 INTERFACE_INSIDE=inside0 SLIPWAY_BANNER=/dev/null python3 -s -B -c \
            'import os, pathlib, sys, configure; configure.configure(configure.read(os.environ), pathlib.Path(sys.argv[1]))' "$made"
    )
    test -e "$made/etc/systemd/network/05-inside.network"
    test -e "$made/etc/systemd/network/05-outside.network"
}
written '[Match]' Name=outside0 '[Network]' DHCP=ipv4
written '[Match]' Name=other0 '[Network]' Address=203.0.113.5/29
written '[Match]' MACAddress=52:54:00:11:22:33 '[Network]' Address=203.0.113.5/29
for card in Name=outside0 MACAddress=52:54:00:aa:bb:cc MACAddress=52:54:00:AA:BB:CC; do
    for setting in Address=203.0.113.5/29 Address=2001:db8::5/64 DNS=203.0.113.1 'Domains=example.org'; do
        if written '[Match]' "$card" '[Network]' DHCP=ipv4 "$setting"; then
            echo "$card: cloud-init's $setting is overruled"
            exit 1
        fi
    done
    if written '[Match]' "$card" '[Link]' MTUBytes=1400 '[Network]' DHCP=ipv4; then
        echo "$card: cloud-init's MTU is overruled"
        exit 1
    fi
done
