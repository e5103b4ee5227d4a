#!/bin/sh
# timeout: 120
# A login takes no locale from its client, which this machine may not have; and it says which disk is full.
set -eu
if /usr/sbin/sshd -T | grep -Ei '^acceptenv .*(LANG|LC_)'; then exit 1; fi
test -z "$(run-parts /etc/update-motd.d | grep 'disk is full' || true)"
trap 'rm -f /var/tmp/filler' EXIT
fallocate -l "$(($(df --output=avail --block-size=1 /var/tmp | tail -n 1) - 1048576))" /var/tmp/filler
run-parts /etc/update-motd.d | tee /run/said
grep -q "^The disk is full: $(findmnt --noheadings --output TARGET --target /var/tmp) has " /run/said
systemctl restart slipway-space.service
grep -q '^The disk is full' /run/issue.d/70-space.issue
rm /var/tmp/filler /run/said
systemctl restart slipway-space.service
test ! -s /run/issue.d/70-space.issue
