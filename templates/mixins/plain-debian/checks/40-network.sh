#!/bin/sh
# timeout: 60
# An address, a route and a name server by DHCP; names are resolved, also the appliance's own; the clock is kept; users may
# ping.
set -eu
ip -4 route show default | grep -q 'proto dhcp'
ip -4 -oneline address show scope global | grep -q dynamic
getent ahostsv4 "$(hostname)"
test -n "$(resolvectl dns | sed 's/^[^:]*://' | tr -d ' \n')"
test "$(timedatectl show -p NTP --value)" = yes
systemctl is-active systemd-timesyncd.service
setpriv --reuid=nobody --clear-groups ping -c 1 -W 20 127.0.0.1
