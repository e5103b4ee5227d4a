#!/bin/sh
# A certificate, a key that xrdp wants though it only speaks TLS, and the first user, who may log in by RDP and nothing else.
set -eu
fingerprint=$(/usr/lib/slipway/certificate /etc/xrdp/tls xrdp)
xrdp-keygen xrdp /etc/xrdp/rsakeys.ini >/dev/null
chown xrdp: /etc/xrdp/rsakeys.ini
chmod 600 /etc/xrdp/rsakeys.ini
if ! id -- "$PARAM_USER" >/dev/null 2>&1; then
    useradd --create-home --shell /bin/bash --groups desktop-users -- "$PARAM_USER"
fi
printf '%s:%s\n' "$PARAM_USER" "$PARAM_PASSWORD" | chpasswd
echo "Desktop: RDP as $PARAM_USER; the certificate's SHA-256 is $fingerprint" >>"$SLIPWAY_BANNER"
