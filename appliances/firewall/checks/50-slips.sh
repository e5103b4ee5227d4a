#!/bin/sh
# timeout: 120
# What would lock people out is refused, and changes nothing. Rules with an error leave a way in, and none through. A fixed
# address that cloud-init was told stays.
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

# written NAME ADDRESS: whether DHCP is written for the outside card where cloud-init has a file for NAME with ADDRESS.
written() {
    rm -rf /run/made
    mkdir -p /run/made/etc/systemd/network /run/made/etc/sysctl.d /run/made/etc/dnsmasq.d
    printf '[Match]\nName=%s\n[Network]\n%s\n' "$1" "$2" >/run/made/etc/systemd/network/10-cloud-init-x.network
    (
        set -a
        # shellcheck source=/dev/null
        . /etc/slipway/parameters.env
        cd /usr/lib/firewall
        env INTERFACE_OUTSIDE=outside0 INTERFACE_INSIDE=inside0 SLIPWAY_BANNER=/dev/null python3 -s -B -c 'import os, pathlib, configure
configure.configure(configure.read(os.environ), pathlib.Path("/run/made"))'
    )
    test -e /run/made/etc/systemd/network/05-inside.network
    test -e /run/made/etc/systemd/network/05-outside.network
}
written outside0 DHCP=yes
written other0 Address=203.0.113.5/29
if written outside0 Address=203.0.113.5/29; then
    echo "the fixed address of cloud-init is overruled"
    exit 1
fi
test -e /run/made/etc/systemd/network/05-inside.network
rm -rf /run/made
