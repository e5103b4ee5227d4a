#!/bin/sh
# The developer, with identities for the users inside of containers, and a place for repositories.
set -eu
useradd --uid 1000 --create-home --shell /bin/bash --comment Developer developer
grep -q '^developer:' /etc/subuid || echo developer:100000:65536 >>/etc/subuid
grep -q '^developer:' /etc/subgid || echo developer:100000:65536 >>/etc/subgid
install -d -o developer -g developer -m 755 /srv/git
# What loginctl enable-linger does.
install -d -m 755 /var/lib/systemd/linger
: >/var/lib/systemd/linger/developer
rm -f /etc/nginx/sites-enabled/default
