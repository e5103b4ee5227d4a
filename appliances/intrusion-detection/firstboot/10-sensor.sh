#!/bin/sh
# The two network cards without addresses of their own, the mode, and the page's certificate and password.
set -eu
umask 022
case "$PARAM_HOME_NETWORKS" in *[!0-9a-fA-F.:/,]* | '') echo "home_networks: addresses with commas between" >&2 && exit 1 ;; esac
install -d /etc/intrusion-detection
printf "UPSTREAM='%s'\nPROTECTED='%s'\nHOME_NETWORKS='%s'\n" "$INTERFACE_UPSTREAM" "$INTERFACE_PROTECTED" "$PARAM_HOME_NETWORKS" >/etc/intrusion-detection/networks
for card in "$INTERFACE_UPSTREAM" "$INTERFACE_PROTECTED"; do
    printf '[Match]\nName=%s\n[Link]\nActivationPolicy=always-up\nRequiredForOnline=no\nPromiscuous=yes\n[Network]\nDHCP=no\nLinkLocalAddressing=no\nIPv6AcceptRA=no\nLLDP=no\n' \
        "$card" >"/etc/systemd/network/10-sensor-$card.network"
done
networkctl reload
sensor-mode "$PARAM_MODE"

fingerprint=$(/usr/lib/slipway/certificate /etc/alerts-page root)
umask 077
python3 -I -c 'import hashlib, os, sys
salt = os.urandom(16)
print(salt.hex(), hashlib.scrypt(os.environ["PARAM_PASSWORD"].encode(), salt=salt, n=4096, r=8, p=1).hex(), sep=":")' >/etc/alerts-page/password
echo "Alerts: https, as admin; the certificate's SHA-256 is $fingerprint" >>"$SLIPWAY_BANNER"
