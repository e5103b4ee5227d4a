#!/bin/sh
# timeout: 180
set -eu
runuser -u sensor -- suricata -T -c /etc/suricata/suricata.yaml
test -s /var/log/suricata/eve.json || test -e /var/log/suricata/eve.json
test "$(ps -o user= -C Suricata-Main | sort -u)" = sensor
