#!/bin/sh
# A cluster of this instance's own, with its key, its database and the owner of that.
set -eu
umask 077
# Names of PostgreSQL have 63 bytes; those of its own and of the pool's are taken.
name='(?!(postgres|pgbouncer|template[01]|public|none|pg_.*)$).+'
/usr/lib/slipway/accept database "$name" "the name of a new database" 63
/usr/lib/slipway/accept user "$name" "the name of a new user" 63
/usr/lib/slipway/accept password '.+' "a password" 1000
/usr/lib/slipway/accept backups '[1-9][0-9]{0,3}' "a number from 1 to 9999"
/usr/lib/database/access "$PARAM_CLIENTS" --check
as_postgres() { runuser -u postgres -- "$@"; }

folder=/etc/postgresql/17/main
data=/var/lib/postgresql/17/main
making=/var/lib/postgresql/.making
# A cluster that a first boot was making when it was stopped holds nothing of anybody's. One that was finished stays, as
# in a clone of an instance.
if [ -e $making ] || ! [ -e $data/PG_VERSION ]; then
    : >$making
    sync $making
    rm -rf $folder $data
    pg_createcluster 17 main --locale=C.UTF-8 --encoding=UTF8 -- --data-checksums --auth-local=peer --auth-host=scram-sha-256 >/dev/null
fi

fingerprint=$(/usr/lib/slipway/certificate $folder postgres -- systemctl try-reload-or-restart postgresql@17-main pgbouncer)
install -o postgres -g postgres -m 640 /usr/lib/database/postgresql.conf $folder/conf.d/10-database.conf
cp /usr/lib/database/pg_ident.conf $folder/pg_ident.conf
/usr/lib/database/access "$PARAM_CLIENTS"
chown postgres:postgres $folder/pg_hba.conf $folder/pg_ident.conf /etc/pgbouncer/hba.conf

# Without its service, which waits for this script: nobody but this script is let in yet.
pg_ctlcluster --skip-systemctl-redirect 17 main start -- -o "-c listen_addresses=''"
as_postgres psql --quiet --no-psqlrc -v ON_ERROR_STOP=1 -v database="$PARAM_DATABASE" -v owner="$PARAM_USER" -v password="$PARAM_PASSWORD" \
    -f /usr/lib/database/first.sql postgres
pg_ctlcluster --skip-systemctl-redirect 17 main stop
sync
rm -f $making

install -o postgres -g postgres -m 600 /usr/lib/database/pgbouncer.ini /etc/pgbouncer/pgbouncer.ini
install -o postgres -g postgres -m 600 /dev/null /etc/pgbouncer/userlist.txt

# The cluster's own unit is known to systemd from the next start on; it starts when this has ended.
systemctl daemon-reload
systemctl start --no-block postgresql@17-main.service
# Moments can be restored from the first hour on.
systemctl start --no-block database-backup.service
printf 'PostgreSQL: database %s of %s; the SHA-256 of the certificate is %s\n' "$PARAM_DATABASE" "$PARAM_USER" "$fingerprint" >>"$SLIPWAY_BANNER"
