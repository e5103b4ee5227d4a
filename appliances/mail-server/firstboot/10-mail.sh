#!/bin/sh
# The domain, the first mailbox, a certificate and a signing key of this instance's own. What is there already stays: in a
# clone, or where first boot is run again, mailboxes are people's.
set -eu
umask 022
/usr/lib/slipway/accept user '[a-z0-9_][a-z0-9_-]*(\.[a-z0-9_-]+)*' "a mailbox's name: a-z, 0-9 and . _ -" 64
/usr/lib/slipway/accept password '.{12,}' "a password of 12 characters or more" 256
/usr/lib/slipway/accept relay '(|none|(\[[A-Za-z0-9.:-]+\]|[A-Za-z0-9.-]+)(:[0-9]{1,5})?)' "[host]:port, host:port, or empty" 300
/usr/lib/slipway/accept quota_mib '[1-9][0-9]{0,8}' "a number of MiB"
PARAM_DOMAIN=$(printf %s "$PARAM_DOMAIN" | tr '[:upper:]' '[:lower:]')
PARAM_HOSTNAME=$(printf %s "$PARAM_HOSTNAME" | tr '[:upper:]' '[:lower:]')
if [ "$PARAM_RELAY" = none ]; then PARAM_RELAY=; fi
fingerprint=$(/usr/lib/slipway/certificate /etc/postfix/tls root --name "$PARAM_HOSTNAME" -- systemctl try-reload-or-restart postfix dovecot)
postconf -e "myhostname=$PARAM_HOSTNAME" "mydomain=$PARAM_DOMAIN" "myorigin=$PARAM_DOMAIN" "virtual_mailbox_domains=$PARAM_DOMAIN" "relayhost=$PARAM_RELAY"
echo "$PARAM_DOMAIN" >/etc/mailname
postconf -e "smtpd_sender_restrictions=permit_mynetworks, check_sender_access inline:{ {$PARAM_DOMAIN = REJECT Log in to send in the name of $PARAM_DOMAIN} }"
sed -i "s/quota_storage_size = .*/quota_storage_size = $PARAM_QUOTA_MIB M/" /etc/dovecot/quota.conf
first=$PARAM_USER@$PARAM_DOMAIN
[ -e /etc/postfix/mailboxes ] || : >/etc/postfix/mailboxes
[ -e /etc/dovecot/users ] || install -o root -g dovecot -m 640 /dev/null /etc/dovecot/users
[ -e /etc/postfix/aliases ] || printf '%s %s\n' "postmaster@$PARAM_DOMAIN" "$first" "abuse@$PARAM_DOMAIN" "$first" "root@$PARAM_DOMAIN" "$first" >/etc/postfix/aliases
mailbox list | grep -qxF -- "$first" || printf '%s\n' "$PARAM_PASSWORD" | mailbox add "$first"
keys=/var/lib/rspamd/dkim
key=$keys/$PARAM_DOMAIN.mail
install -d -o _rspamd -g _rspamd -m 750 "$keys"
if ! [ -s "$key.key" ] || ! [ -s "$key.txt" ]; then
    rspamadm dkim_keygen -s mail -d "$PARAM_DOMAIN" -b 2048 -k "$key.new" >"$key.txt.new"
    chown _rspamd:_rspamd "$key.new"
    chmod 400 "$key.new"
    sync "$key.new" "$key.txt.new"
    mv "$key.txt.new" "$key.txt"
    mv "$key.new" "$key.key"
fi
{
    echo "Mail: $first; the certificate's SHA-256 is $fingerprint"
    echo "Mail: the DNS entries of $PARAM_DOMAIN, which \`mailbox dns\` prints again:"
    mailbox dns
} >>"$SLIPWAY_BANNER"
