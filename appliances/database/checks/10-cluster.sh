#!/bin/sh
# timeout: 60
# The cluster was made here, with checksums; its files are for its user alone; the pool and the timer are there.
set -eu
runuser -u postgres -- psql -AtXqc 'SHOW data_checksums' postgres | grep -qx on
test "$(stat -c '%a %U' /var/lib/postgresql/17/main)" = "700 postgres"
test "$(stat -c '%a %U' /etc/postgresql/17/main/server.key)" = "600 postgres"
systemctl is-active --quiet database-backup.timer
