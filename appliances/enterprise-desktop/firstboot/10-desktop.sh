#!/bin/sh
# A certificate, a key that xrdp wants though it only speaks TLS, and the first user, who may log in by RDP and nothing else.
set -eu
/usr/lib/slipway/accept user '[a-z_][a-z0-9_-]{0,31}' "a user's name: a-z, 0-9, _ and -, 32 at most"
number=$(id -u -- "$PARAM_USER" 2>/dev/null || echo 1000)
if [ "$number" -lt 1000 ] || [ "$number" -gt 60000 ]; then
    echo "user must be the name of a person: $PARAM_USER is a user of the system" >&2
    exit 1
fi
# What RDP carries.
/usr/lib/slipway/accept password '.+' "a password" 255
fingerprint=$(/usr/lib/slipway/certificate /etc/xrdp/tls xrdp)
xrdp-keygen xrdp /etc/xrdp/rsakeys.ini >/dev/null
chown xrdp: /etc/xrdp/rsakeys.ini
chmod 600 /etc/xrdp/rsakeys.ini
if ! id -- "$PARAM_USER" >/dev/null 2>&1; then
    useradd --shell /bin/bash -- "$PARAM_USER"
fi
# Also where a first boot was stopped between two of these.
usermod --append --groups desktop-users -- "$PARAM_USER"
home=$(getent passwd -- "$PARAM_USER" | cut -d: -f6)
install -d -o "$PARAM_USER" -g "$PARAM_USER" -m 700 "$home"
if ! [ -e "$home/.profile" ]; then
    cp -R --no-target-directory /etc/skel "$home"
    chown -R "$PARAM_USER:" "$home"
fi
printf '%s:%s\n' "$PARAM_USER" "$PARAM_PASSWORD" | chpasswd
echo "Desktop: RDP as $PARAM_USER; the certificate's SHA-256 is $fingerprint" >>"$SLIPWAY_BANNER"
