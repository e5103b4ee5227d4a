#!/bin/sh
# timeout: 60
# Its workers run as a user of their own; what is secret is root's; a wrong back end changes nothing.
set -eu
pgrep -u haproxy -x haproxy >/dev/null
test "$(stat -c '%a %U' /etc/haproxy/tls.pem /etc/haproxy/users.cfg | sort -u)" = "600 root"
before=$(cat /etc/haproxy/backends.cfg)
if traffic-manager backends 'localhost:80 evil' 2>/dev/null; then exit 1; fi
if traffic-manager backends localhost:99999 2>/dev/null; then exit 1; fi
test "$(cat /etc/haproxy/backends.cfg)" = "$before"
