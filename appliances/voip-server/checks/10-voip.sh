#!/bin/sh
# timeout: 60
# Both run as users of their own; the database and the key are Kamailio's alone; rtpengine is controlled from here alone.
set -eu
kamailio -c -f /etc/kamailio/kamailio.cfg >/run/kamailio-check 2>&1 || { cat /run/kamailio-check; exit 1; }
test "$(stat -c '%a %U' /var/lib/kamailio/kamailio.db)" = "640 kamailio"
test "$(stat -c '%a %U' /etc/kamailio/tls/server.key)" = "600 kamailio"
test "$(ps -o user= -C kamailio | sort -u)" = kamailio
test "$(ps -o user= -C rtpengine | sort -u)" = rtpengin+ || test "$(ps -o user= -C rtpengine | sort -u)" = rtpengine
ss -Hlnu 'sport = :2223' | grep -q '127.0.0.1:2223'
