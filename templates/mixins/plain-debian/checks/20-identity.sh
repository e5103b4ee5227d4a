#!/bin/sh
# timeout: 60
# This instance has made its own identity, readable by root alone, and nobody can log in with a password.
set -eu
grep -qxE '[0-9a-f]{32}' /etc/machine-id
for kind in ed25519 ecdsa; do
    key=/etc/ssh/ssh_host_${kind}_key
    test "$(stat -c '%a %U' "$key")" = "600 root"
    # The key's halves belong together.
    test "$(ssh-keygen -y -f "$key" | cut -d' ' -f1-2)" = "$(cut -d' ' -f1-2 "$key.pub")"
done
test "$(systemctl show -p Result --value slipway-firstboot.service)" = success
if cut -d: -f1,2 /etc/shadow | grep -vE ':[!*]+$'; then
    echo "these accounts have a password" >&2
    exit 1
fi
sshd -T | grep -qx 'passwordauthentication no'
# Its name is its own, too.
hostname | grep -qxE "$(cat /usr/lib/slipway/image-name)-[0-9a-f]{6}"
test "$(hostname)" = "$(cat /etc/hostname)"
