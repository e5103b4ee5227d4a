#!/bin/sh
# timeout: 120
# The cluster was made here, with checksums; its files are for its user alone; a first backup is there; the memory it uses
# follows the machine's; what is refused stands in the journal, and in no file that grows. First boot refuses by its name
# what would delete all backups, and names of PostgreSQL's own. A database in another server's locale can be made.
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

# refused NAME VALUE: first boot takes no such value, and says whose it is.
refused() (
    for file in /var/lib/slipway/parameters/*; do
        export "PARAM_$(basename "$file" | tr '[:lower:]' '[:upper:]')=$(cat "$file")"
    done
    export "PARAM_$(echo "$1" | tr '[:lower:]' '[:upper:]')=$2"
    if said=$(sh /usr/lib/slipway/firstboot.d/10-database.sh 2>&1); then
        echo "$1=$2 was taken"
        exit 1
    fi
    case $said in "$1 must be "*) ;; *)
        echo "$1=$2: $said"
        exit 1
        ;;
    esac
)
for number in 0 -1 10000; do refused backups "$number"; done
refused user pgbouncer
refused database template1

# A dump of a server in the United States is read as it is.
sed -i 's/^# *en_US.UTF-8 UTF-8/en_US.UTF-8 UTF-8/' /etc/locale.gen
locale-gen
systemctl restart postgresql@17-main
runuser -u postgres -- createdb --template=template0 --locale=en_US.UTF-8 american
test "$(runuser -u postgres -- psql -AtXqc "SELECT string_agg(w, '' ORDER BY w) FROM unnest(ARRAY['B', 'a', 'C']) w" american)" = aBC
runuser -u postgres -- dropdb american
