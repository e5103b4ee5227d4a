#!/bin/sh
set -eu
adduser --quiet --system --group --no-create-home --home /var/log/suricata sensor
install -d -o sensor -g sensor -m 750 /var/log/suricata
