#!/bin/sh
# timeout: 60
# Every night, what the distribution's security archive has is installed.
set -eu
# One key stops all of it (apt.systemd.daily).
if apt-config dump | grep -qxF 'APT::Periodic::Enable "0";'; then exit 1; fi
apt-config dump | grep -qxF 'APT::Periodic::Unattended-Upgrade "1";'
apt-config dump | grep -F 'Unattended-Upgrade::Origins-Pattern::' | grep -q Debian-Security
systemctl is-enabled apt-daily.timer apt-daily-upgrade.timer
systemctl is-active apt-daily.timer apt-daily-upgrade.timer
