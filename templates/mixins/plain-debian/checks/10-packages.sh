#!/bin/sh
# timeout: 120
# Packages can be installed: their database is consistent, and apt has sources whose keys exist.
# A locale can be made.
set -eu
apt-get check
test -z "$(dpkg --audit)"
apt-get --print-uris update | tee /run/uris
grep -q '/dists/[^/]*/InRelease' /run/uris
rm /run/uris
keys=$(sed -n 's/^Signed-By: *//p' /etc/apt/sources.list.d/*.sources)
test -n "$keys"
for key in $keys; do test -s "$key"; done

localedef --no-archive --inputfile=de_DE --charmap=UTF-8 /run/de_DE.UTF-8
rm -r /run/de_DE.UTF-8
