#!/bin/sh
# timeout: 60
# The cluster was made here, with checksums; its files are for its user alone; a first backup is there; the memory it uses
# follows the machine's; what is refused stands in the journal, and in no file that grows.
set -eu
runuser -u postgres -- psql -AtXqc 'SHOW data_checksums' postgres | grep -qx on
test "$(stat -c '%a %U' /var/lib/postgresql/17/main)" = "700 postgres"
test "$(stat -c '%a %U' /etc/postgresql/17/main/server.key)" = "600 postgres"
systemctl is-active --quiet database-backup.timer
test -n "$(find /var/lib/database/backups -maxdepth 1 -name '*Z')"
mib=$(awk '/^MemTotal:/ { print int($2 / 1024) }' /proc/meminfo)
shared=$(runuser -u postgres -- psql -AtXqc "SELECT setting::bigint * 8 / 1024 FROM pg_settings WHERE name = 'shared_buffers'" postgres)
test "$shared" -eq $((mib / 4))
runuser -u postgres -- psql -AtXqc 'CREATE EXTENSION IF NOT EXISTS pg_stat_statements' -c 'SELECT 1 FROM pg_stat_statements LIMIT 1' postgres | grep -qx 1
size() { find /var/log/postgresql -type f -printf '%s\n' | awk '{ sum += $1 } END { print sum + 0 }'; }
before=$(size)
for _ in 1 2 3; do PGPASSWORD=wrong psql -AtXqc 'SELECT 1' "host=127.0.0.1 user=nobody-here sslmode=require dbname=postgres" && exit 1; done
until journalctl -t postgresql --no-pager | grep -q nobody-here; do sleep 1; done
test "$(size)" -eq "$before"
