#!/bin/sh
# timeout: 120
set -eu
postfix check
doveconf -n >/dev/null
rspamadm configtest >/dev/null
test "$(mailbox list)" = "$(cat /var/lib/slipway/parameters/user)@$(cat /var/lib/slipway/parameters/domain)"
if mailbox add nobody@elsewhere.test </dev/null; then exit 1; fi
printf 'a-second-password\n' | mailbox add second@"$(cat /var/lib/slipway/parameters/domain)"
test "$(mailbox list | wc -l)" = 2
mailbox remove second@"$(cat /var/lib/slipway/parameters/domain)"
test "$(mailbox list | wc -l)" = 1
