#!/bin/sh
# timeout: 60
# Passwords are kept as SHA-512, keys are root's alone, and the page is behind a socket that only Apache's user can open.
set -eu
grep -q '^[^:]*:[$]6[$]' /etc/documents/users
test "$(stat -c '%a %U:%G' /etc/documents/users)" = "640 root:www-data"
test "$(stat -c '%a %U' /etc/documents/tls/server.key)" = "600 root"
test "$(stat -c %U /run/documents/page.sock)" = www-data
svnadmin verify -q /var/lib/documents/repository
