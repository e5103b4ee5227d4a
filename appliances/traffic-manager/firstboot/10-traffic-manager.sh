#!/bin/sh
# A certificate of this instance's own, the administrator's password, and what is behind it.
set -eu
umask 077
name=$(hostname)
work=$(mktemp -d)
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj "/CN=$name" -addext "subjectAltName=DNS:$name" \
    -keyout "$work/key" -out "$work/crt" 2>/dev/null
cat "$work/crt" "$work/key" >/etc/haproxy/tls.pem
rm -rf "$work"
printf 'userlist admins\n    user admin password %s\n' "$(printf %s "$PARAM_PASSWORD" | openssl passwd -6 -stdin)" >/etc/haproxy/users.cfg
export TRAFFIC_MANAGER_FIRST_BOOT=yes
# shellcheck disable=SC2086 # a list of words
traffic-manager backends $PARAM_BACKENDS
[ -z "$PARAM_VIRTUAL_ADDRESS" ] || traffic-manager address "$PARAM_VIRTUAL_ADDRESS" "$PARAM_PRIORITY" "$PARAM_ROUTER_ID"
echo "HAProxy: statistics on port 8404; the certificate's SHA-256 is $(openssl x509 -in /etc/haproxy/tls.pem -noout -fingerprint -sha256 | cut -d= -f2)" >>"$SLIPWAY_BANNER"
