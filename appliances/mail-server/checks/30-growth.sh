#!/bin/sh
# timeout: 180
# Mail that was read and removed leaves little: what stays of each is measured, and counted for 30,000 in a month. What
# rspamd says of them is in the journal alone.
set -eu
address=$(cat /var/lib/slipway/parameters/user)@$(cat /var/lib/slipway/parameters/domain)
mails=10
# The journal has a limit of its own.
kept() {
    sync
    du --summarize --total --block-size=1 --exclude=/var/log/journal /var/vmail /var/spool /var/lib /var/log | tail -n 1 | cut -f 1
}
there() { doveadm search -u "$address" mailbox '*' subject growth | wc -l; }
deliver() {
    for number in $(seq $mails); do
        {
            printf 'From: %s\nTo: %s\nSubject: growth %s\n\n' "$address" "$address" "$number"
            yes 'Words of a letter.' | head -n 1000
        } | sendmail -f "$address" "$address"
    done
    until [ "$(there)" -ge $mails ]; do sleep 1; done
    doveadm expunge -u "$address" mailbox '*' subject growth
}
doveadm expunge -u "$address" mailbox '*' subject growth
deliver # folders and indices are made
before=$(kept)
deliver
grown=$(($(kept) - before))
size=$(df -B1 --output=size /var/vmail | tail -n 1)
month=$((grown > 0 ? grown * 30000 / mails : 0))
echo "$mails mails that were removed leave $grown bytes: a month $((month >> 20)) MiB of $((size >> 20))"
test $((month * 4)) -lt "$size"
while [ -n "$(postqueue -j)" ]; do sleep 1; done
# It has looked at the mail above.
journalctl --quiet --unit=rspamd --lines=1 | grep -q .
if [ -n "$(ls -A /var/log/rspamd 2>/dev/null)" ]; then
    ls -l /var/log/rspamd
    exit 1
fi
