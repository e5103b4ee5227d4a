#!/bin/sh
# The domain, the first mailbox, and a certificate of this instance's own.
set -eu
umask 022
/usr/lib/slipway/accept user '[a-z0-9_][a-z0-9_-]*(\.[a-z0-9_-]+)*' "a mailbox's name: a-z, 0-9 and . _ -" 64
/usr/lib/slipway/accept password '.{12,}' "a password of 12 characters or more" 256
/usr/lib/slipway/accept relay '(|none|(\[[A-Za-z0-9.:-]+\]|[A-Za-z0-9.-]+)(:[0-9]{1,5})?)' "[host]:port, host:port, or empty" 300
PARAM_DOMAIN=$(printf %s "$PARAM_DOMAIN" | tr '[:upper:]' '[:lower:]')
PARAM_HOSTNAME=$(printf %s "$PARAM_HOSTNAME" | tr '[:upper:]' '[:lower:]')
if [ "$PARAM_RELAY" = none ]; then PARAM_RELAY=; fi
fingerprint=$(/usr/lib/slipway/certificate /etc/postfix/tls root --name "$PARAM_HOSTNAME" -- systemctl try-reload-or-restart postfix dovecot)
postconf -e "myhostname=$PARAM_HOSTNAME" "mydomain=$PARAM_DOMAIN" "myorigin=$PARAM_DOMAIN" "virtual_mailbox_domains=$PARAM_DOMAIN" "relayhost=$PARAM_RELAY"
echo "$PARAM_DOMAIN" >/etc/mailname
: >/etc/postfix/mailboxes
install -o root -g dovecot -m 640 /dev/null /etc/dovecot/users
printf '%s %s\n' "postmaster@$PARAM_DOMAIN" "$PARAM_USER@$PARAM_DOMAIN" "abuse@$PARAM_DOMAIN" "$PARAM_USER@$PARAM_DOMAIN" \
    "root@$PARAM_DOMAIN" "$PARAM_USER@$PARAM_DOMAIN" >/etc/postfix/aliases
printf '%s\n' "$PARAM_PASSWORD" | mailbox add "$PARAM_USER@$PARAM_DOMAIN"
echo "Mail: $PARAM_USER@$PARAM_DOMAIN; the certificate's SHA-256 is $fingerprint" >>"$SLIPWAY_BANNER"
