#!/bin/sh
# What this instance's Kamailio and rtpengine differ in from others: a domain, an interface,
# an address, a certificate, a database.
set -eu
umask 027
number='(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])'
/usr/lib/slipway/accept public_address "(|$number(\\.$number){3})" "an IPv4 address, or empty"
domain=$(printf %s "$PARAM_SIP_DOMAIN" | tr '[:upper:]' '[:lower:]')
fingerprint=$(/usr/lib/slipway/certificate /etc/kamailio/tls kamailio --name "$PARAM_SIP_DOMAIN" -- /usr/lib/voip-server/use-certificate)
cat >/etc/kamailio/instance.cfg <<END
# Made on first boot from the parameters; yours to change since.
#!substdef "!SIP_DOMAIN!$domain!g"
alias="$domain"
END
cat >/etc/rtpengine/rtpengine.conf <<END
# Made on first boot; yours to change since. The interfaces are added when it starts (/usr/lib/voip-server/prepare.py).
[rtpengine]
table = -1
listen-ng = 127.0.0.1:2223
timeout = 60
silent-timeout = 3600
tos = 184
port-min = 30000
port-max = 30999
endpoint-learning = heuristic
log-level = 5
END
install -d -m 755 /etc/voip-server
printf '{"interface": "%s", "public_address": "%s"}\n' "$INTERFACE_OUTSIDE" "$PARAM_PUBLIC_ADDRESS" >/etc/voip-server/network.json
chmod 644 /etc/voip-server/network.json
chgrp kamailio /etc/kamailio/instance.cfg
chgrp rtpengine /etc/rtpengine/rtpengine.conf
database=/var/lib/kamailio/kamailio.db
install -d -o kamailio -g kamailio -m 750 /var/lib/kamailio
if ! [ -s "$database" ]; then
    rm -f "$database.new"
    for part in standard auth_db usrloc dialog; do cat "/usr/share/kamailio/db_sqlite/$part-create.sql"; done | sqlite3 "$database.new"
    chown kamailio:kamailio "$database.new"
    chmod 640 "$database.new"
    sync "$database.new"
    mv "$database.new" "$database"
fi
echo "SIP: domain $domain; add a phone with: phone add NAME" >>"$SLIPWAY_BANNER"
echo "SIP: the certificate's SHA-256 is $fingerprint" >>"$SLIPWAY_BANNER"
