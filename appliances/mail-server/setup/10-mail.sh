#!/bin/sh
# The owner of all mailboxes, and the two ports for users who log in.
set -eu
# Nobody's: first boot makes one.
rm -f /etc/ssl/private/ssl-cert-snakeoil.key /etc/ssl/certs/ssl-cert-snakeoil.pem
adduser --quiet --system --group --home /var/vmail --shell /usr/sbin/nologin vmail
chmod 700 /var/vmail
sievec /etc/dovecot/spam.sieve
# Dovecot puts its sockets there; Postfix would make it when it starts.
install -d -o postfix -g root -m 700 /var/spool/postfix/private
for service in submission submissions; do
    postconf -M "$service/inet=$service inet n - y - - smtpd"
    postconf -P "$service/inet/syslog_name=postfix/$service" \
        "$service/inet/smtpd_sasl_auth_enable=yes" \
        "$service/inet/smtpd_sender_restrictions=reject_sender_login_mismatch" \
        "$service/inet/smtpd_relay_restrictions=permit_sasl_authenticated,reject" \
        "$service/inet/smtpd_recipient_restrictions=permit_sasl_authenticated,reject"
done
postconf -P submission/inet/smtpd_tls_security_level=encrypt submissions/inet/smtpd_tls_wrappermode=yes
