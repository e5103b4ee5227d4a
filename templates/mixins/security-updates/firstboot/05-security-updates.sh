#!/bin/sh
# The hour of the updates, and of a restart that they need.
set -eu
umask 022
/usr/lib/slipway/accept update_time '([01][0-9]|2[0-3]):[0-5][0-9]' "a time such as 04:00"
/usr/lib/slipway/accept reboot_time '(never|([01][0-9]|2[0-3]):[0-5][0-9])' "a time such as 05:00, or never"
install -d /etc/systemd/system/apt-daily-upgrade.timer.d
printf '[Timer]\nOnCalendar=\nOnCalendar=*-*-* %s\nRandomizedDelaySec=15m\n' "$PARAM_UPDATE_TIME" >/etc/systemd/system/apt-daily-upgrade.timer.d/50-time.conf
if [ "$PARAM_REBOOT_TIME" != never ]; then
    printf 'Unattended-Upgrade::Automatic-Reboot "true";\nUnattended-Upgrade::Automatic-Reboot-Time "%s";\n' "$PARAM_REBOOT_TIME"
else
    printf 'Unattended-Upgrade::Automatic-Reboot "false";\n'
fi >/etc/apt/apt.conf.d/60reboot-time
systemctl daemon-reload
systemctl try-restart --no-block apt-daily-upgrade.timer
