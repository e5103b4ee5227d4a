#!/bin/sh
# A certificate, an empty repository and the first user.
set -eu
umask 027
/usr/lib/slipway/accept user '[A-Za-z0-9_][A-Za-z0-9._-]{0,63}' "a user's name: letters, digits and . _ -, 64 at most"
# htpasswd takes 255 bytes of a password and no more.
/usr/lib/slipway/accept password '.+' "a password" 255
fingerprint=$(/usr/lib/slipway/certificate /etc/documents/tls root -- systemctl try-reload-or-restart apache2)
install -d -o www-data -g www-data -m 750 /var/lib/documents
if ! [ -d /var/lib/documents/repository ]; then
    rm -rf /var/lib/documents/repository.new
    svnadmin create /var/lib/documents/repository.new
    printf '#!/bin/sh\n: >/var/lib/documents/changed\n' >/var/lib/documents/repository.new/hooks/post-commit
    chmod 750 /var/lib/documents/repository.new/hooks/post-commit
    chown -R www-data:www-data /var/lib/documents/repository.new
    sync # a power cut leaves the whole repository or none
    mv /var/lib/documents/repository.new /var/lib/documents/repository
fi
# A clone, or a restored backup, keeps its users and rules.
if ! [ -s /etc/documents/access ]; then
    cat >/etc/documents/access.new <<END
[groups]
editors = $PARAM_USER

# Who may read (r) and write (w) a folder and all below it, as Subversion has it.
[/]
@editors = rw
\$authenticated = r
END
    mv /etc/documents/access.new /etc/documents/access
fi
[ -e /etc/documents/users ] || : >/etc/documents/users
chown root:www-data /etc/documents/access /etc/documents/users
chmod 640 /etc/documents/access /etc/documents/users
# SHA-512: all of a password counts (bcrypt takes its first 72 bytes).
printf '%s' "$PARAM_PASSWORD" | htpasswd -i5 /etc/documents/users "$PARAM_USER"
echo "Documents: user $PARAM_USER; the certificate's SHA-256 is $fingerprint" >>"$SLIPWAY_BANNER"
