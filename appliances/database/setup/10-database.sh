#!/bin/sh
# The packages make a cluster and a key when they are installed; every instance makes its own.
set -eu
pg_dropcluster 17 main
rm -f /etc/ssl/private/ssl-cert-snakeoil.key /etc/ssl/certs/ssl-cert-snakeoil.pem
find /etc/ssl/certs -xtype l -delete
rm -f /etc/pgbouncer/userlist.txt
rm -rf /var/log/postgresql/* /run/postgresql
install -d -o postgres -g postgres -m 700 /var/lib/database/wal /var/lib/database/backups
