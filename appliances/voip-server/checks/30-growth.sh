#!/bin/sh
# timeout: 180
# A month of registrations does not fill the disk: when those of a hundred phones have ended, nothing of them is in the database,
# also if somebody reads it all the while, as a backup does.
set -eu
database=/var/lib/kamailio/kamailio.db
rows() { sqlite3 -cmd '.timeout 20000' $database "SELECT count(*) FROM location WHERE username LIKE 'growth%'"; }
{
    echo 'BEGIN; SELECT count(*) FROM location;'
    sleep 90
    echo 'COMMIT;'
} | sqlite3 $database &
for number in $(seq 100); do
    # For 35 seconds; what is registered is written, and what has ended goes, every 30.
    kamcmd -s unix:/run/kamailio/kamailio_ctl ul.add location "growth$number" "sip:growth$number@192.0.2.1" 35 1.0 . 0 0 0
done
until [ "$(rows)" -gt 0 ]; do sleep 1; done
while [ "$(rows)" -gt 0 ]; do sleep 1; done
wait
size=$(stat -c %s $database)
echo "the database has $size bytes"
test "$size" -lt 1048576
