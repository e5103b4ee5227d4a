#!/bin/sh
# The two network cards without addresses of their own, the mode, and the page's certificate and password.
set -eu
umask 022
python3 -E -s -B - <<'END'
import ipaddress
import os
import sys

try:
    networks = [ipaddress.ip_network(item, strict=False) for item in os.environ["PARAM_HOME_NETWORKS"].split(",")]
except ValueError as error:
    sys.exit(f"home_networks must be networks with commas between, such as 192.168.0.0/16,fd00::/8: {error}")
if not all(network.prefixlen for network in networks):
    sys.exit("home_networks must leave something outside: a network of length 0 is everything")
END
install -d /etc/intrusion-detection
printf '%s\n' "$INTERFACE_UPSTREAM" >/etc/intrusion-detection/upstream
printf '%s\n' "$INTERFACE_PROTECTED" >/etc/intrusion-detection/protected
printf '%s\n' "$PARAM_HOME_NETWORKS" >/etc/intrusion-detection/home-networks
for card in "$INTERFACE_UPSTREAM" "$INTERFACE_PROTECTED"; do
    printf '[Match]\nName=%s\n[Link]\nActivationPolicy=always-up\nRequiredForOnline=no\nPromiscuous=yes\n[Network]\nDHCP=no\nLinkLocalAddressing=no\nIPv6AcceptRA=no\nLLDP=no\n' \
        "$card" >"/etc/systemd/network/10-sensor-$card.network"
done
networkctl reload
sensor-mode "$PARAM_MODE"
# What Suricata makes of it decides: it would cut the cable of every start.
said=$(runuser -u sensor -- suricata -T -c /etc/suricata/suricata.yaml -l /var/log/suricata 2>&1) || {
    printf '%s\n' "$said" >&2
    echo "home_networks are none that Suricata takes" >&2
    exit 1
}

fingerprint=$(/usr/lib/slipway/certificate /etc/alerts-page root -- systemctl try-restart alerts-page)
umask 077
python3 -I -c 'import hashlib, os, sys
salt = os.urandom(16)
print(salt.hex(), hashlib.scrypt(os.environ["PARAM_PASSWORD"].encode(), salt=salt, n=4096, r=8, p=1).hex(), sep=":")' >/etc/alerts-page/password
echo "Alerts: https, as admin; the certificate's SHA-256 is $fingerprint" >>"$SLIPWAY_BANNER"
