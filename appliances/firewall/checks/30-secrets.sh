#!/bin/sh
# timeout: 60
# WireGuard's key was made here, networkd and root alone can read it, and the console shows the public half.
set -eu
key=/etc/systemd/network/wireguard.key
test "$(stat -c '%a %U:%G' $key)" = "640 root:systemd-network"
public=$(wg pubkey <$key)
test "$(wg show wg0 public-key)" = "$public"
grep -qF "$public" /run/issue.d/50-slipway.issue
test "$(stat -c %a /etc/slipway/parameters.env)" = 600
