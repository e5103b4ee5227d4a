#!/bin/sh
# The domain, the first mailbox, and a certificate of this instance's own.
set -eu
umask 022
case "$PARAM_USER" in '' | *[!a-z0-9._-]*) echo "user: a mailbox is named with a-z, 0-9 and . _ -" >&2 && exit 1 ;; esac
fingerprint=$(/usr/lib/slipway/certificate /etc/postfix/tls root)
postconf -e "myhostname=$PARAM_HOSTNAME" "mydomain=$PARAM_DOMAIN" "myorigin=$PARAM_DOMAIN" "virtual_mailbox_domains=$PARAM_DOMAIN" "relayhost=$PARAM_RELAY"
echo "$PARAM_DOMAIN" >/etc/mailname
: >/etc/postfix/mailboxes
install -o root -g dovecot -m 640 /dev/null /etc/dovecot/users
printf '%s %s\n' "postmaster@$PARAM_DOMAIN" "$PARAM_USER@$PARAM_DOMAIN" "abuse@$PARAM_DOMAIN" "$PARAM_USER@$PARAM_DOMAIN" \
    "root@$PARAM_DOMAIN" "$PARAM_USER@$PARAM_DOMAIN" >/etc/postfix/aliases
printf '%s\n' "$PARAM_PASSWORD" | mailbox add "$PARAM_USER@$PARAM_DOMAIN"
echo "Mail: $PARAM_USER@$PARAM_DOMAIN; the certificate's SHA-256 is $fingerprint" >>"$SLIPWAY_BANNER"
