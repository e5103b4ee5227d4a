#!/bin/sh
# A certificate, a key that xrdp wants though it only speaks TLS, and the first user, who may log in by RDP and nothing else.
set -eu
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
