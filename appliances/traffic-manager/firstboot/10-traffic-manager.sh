#!/bin/sh
# A certificate of this instance's own, the administrator's password, and what is behind it.
set -eu
umask 077
# No value is expanded: a back end "*:80" is no pattern for files.
set -f
host='[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?' port='0*([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])'
/usr/lib/slipway/accept backends " *((\\[[0-9A-Fa-f:.]+\\]|$host):$port( +|\$))*" "host:port or [IPv6 address]:port, with spaces between"
/usr/lib/slipway/accept health_path '/[A-Za-z0-9/._~%?=&-]*' "a path of a URL" 1000
/usr/lib/slipway/accept priority '[1-9][0-9]?|1[0-9]{2}|2[0-4][0-9]|25[0-4]' "a number from 1 to 254"
/usr/lib/slipway/accept router_id '[1-9][0-9]?|1[0-9]{2}|2[0-4][0-9]|25[0-5]' "a number from 1 to 255"
# What `openssl passwd` reads.
/usr/lib/slipway/accept password '.+' "a password" 256
python3 -E -s -B - <<'END'
import ipaddress
import os
import sys

try:
    given = os.environ["PARAM_VIRTUAL_ADDRESS"]
    address = ipaddress.ip_interface(given or "192.0.2.1/24").ip
    if given and ("/" not in given or address.is_multicast or address.is_unspecified or address.is_loopback):
        raise ValueError(f"{given!r} is no host's address with its length")
except ValueError as error:
    sys.exit(f"virtual_address must be an address with its length, such as 192.0.2.10/24, or empty: {error}")
END
if [ -n "$PARAM_VIRTUAL_ADDRESS" ] && [ -n "$PARAM_ACME_DIRECTORY" ]; then
    echo "acme_directory: must be empty with virtual_address: a challenge reaches only the instance that has the address" >&2
    exit 1
fi
fingerprint=$(/usr/lib/slipway/certificate /etc/haproxy/tls root -- /usr/lib/traffic-manager/use-certificate)
/usr/lib/traffic-manager/use-certificate
printf 'userlist admins\n    user admin password %s\n' "$(printf %s "$PARAM_PASSWORD" | openssl passwd -6 -stdin)" >/etc/haproxy/users.cfg
export TRAFFIC_MANAGER_FIRST_BOOT=yes
# The card of the first network, which a shared address is on.
install -d -m 755 /var/lib/traffic-manager
printf '%s\n' "${INTERFACE_OUTSIDE-}" >/var/lib/traffic-manager/interface
# shellcheck disable=SC2086 # a list of words
traffic-manager backends $PARAM_BACKENDS
[ -z "$PARAM_VIRTUAL_ADDRESS" ] || traffic-manager address "$PARAM_VIRTUAL_ADDRESS" "$PARAM_PRIORITY" "$PARAM_ROUTER_ID"
echo "HAProxy: statistics on port 8404; the certificate's SHA-256 is $fingerprint" >>"$SLIPWAY_BANNER"
