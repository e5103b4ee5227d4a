#!/bin/sh
# timeout: 120
# A quiet database, with one row every five minutes, does not fill its disk: the log that it keeps from backup to backup
# is measured for some of these pieces, and counted for all.
set -eu
sql() { runuser -u postgres -- psql -AtXqc "$1" postgres; }
wal=/var/lib/database/wal
sql 'CREATE TABLE growth (moment timestamptz)'
before=$(find $wal -name '*.zst' | wc -l)
for _ in 1 2 3 4 5 6; do sql 'INSERT INTO growth SELECT now()' && sql 'SELECT pg_switch_wal()' >/dev/null; done
sql 'DROP TABLE growth'
while [ "$(find $wal -name '*.zst' | wc -l)" -lt $((before + 6)) ]; do sleep 1; done
largest=$(find $wal -name '*.zst' -printf '%T@ %b\n' | sort -n | tail -n 6 | awk '{ if ($2 > most) most = $2 } END { print most * 512 }')
kept=$(($(cat /var/lib/slipway/parameters/backups) + 1))
size=$(df -B1 --output=size $wal | tail -n 1)
month=$((largest * 288 * kept))
echo "a piece of the log has at most $largest bytes; $kept days of them have $((month >> 20)) MiB of $((size >> 20))"
test $((month * 4)) -lt "$size"
