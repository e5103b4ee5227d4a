#!/bin/sh
# timeout: 120
# A log file that grows without end, as under a month's guesses, stays within a limit; who writes it goes on, and its end is kept.
set -eu
log=/var/log/slipway-check.log
trap 'rm -f "$log" "$log.old"' EXIT
systemctl is-active slipway-logs.timer
exec 5>>"$log"
for month in 1 2 3; do
    yes 'Failed password for invalid user admin from 192.0.2.99 port 40222' | head -c 80000000 >&5
    echo "the last line of $month" >&5
    systemctl start slipway-logs.service
    echo "after $month" >&5
done
test "$(tail -n 1 "$log")" = 'after 3'
tail -n 1 "$log.old" | grep -q 'the last line of 3$'
test "$(cat "$log" "$log.old" | wc -c)" -le 140000000
