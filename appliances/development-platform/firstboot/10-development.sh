#!/bin/sh
# A certificate, the developer's password for nginx and JupyterLab, and the developer's key.
set -eu
umask 027
# bcrypt takes 72 bytes of a password and no more.
/usr/lib/slipway/accept password '.+' "a password" 72
if [ -n "$PARAM_SSH_KEY" ] && ! printf '%s\n' "$PARAM_SSH_KEY" | ssh-keygen -l -f /dev/stdin >/dev/null 2>&1; then
    echo "ssh_key must be a public SSH key, such as \"ssh-ed25519 AAAA... name\"" >&2
    exit 1
fi
fingerprint=$(/usr/lib/slipway/certificate /etc/nginx/tls root -- systemctl try-reload-or-restart nginx)
: >/etc/nginx/users
chown root:www-data /etc/nginx/users
chmod 640 /etc/nginx/users
printf '%s' "$PARAM_PASSWORD" | htpasswd -iB /etc/nginx/users developer 2>/dev/null
install -d -o developer -g developer -m 700 /home/developer/.jupyter /home/developer/.ssh
python3 -E -s -B - >/home/developer/.jupyter/jupyter_server_config.json <<'END'
import json
import os

from jupyter_server.auth import passwd

print(json.dumps({"PasswordIdentityProvider": {"hashed_password": passwd(os.environ["PARAM_PASSWORD"])}}))
END
if [ -n "$PARAM_SSH_KEY" ]; then printf '%s\n' "$PARAM_SSH_KEY" >/home/developer/.ssh/authorized_keys; fi
chown -R developer:developer /home/developer/.jupyter /home/developer/.ssh
echo "Development platform: user developer; the certificate's SHA-256 is $fingerprint" >>"$SLIPWAY_BANNER"
