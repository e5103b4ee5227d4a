#!/bin/sh
# timeout: 300
# A newer package in a doctored security archive is installed by the night's own services, at the hour of the parameter; its
# daemon is restarted, and after a new kernel the console asks for a restart. A month of such nights does not fill the disk.
set -eu
work=/var/tmp/slipway-updates
configuration=/etc/apt/apt.conf.d/99slipway-check
clean() {
    systemctl stop updates-probe.service 2>/dev/null || true
    dpkg --purge updates-probe >/dev/null 2>&1 || true
    rm -rf "$work" "$configuration" /run/reboot-required /run/reboot-required.pkgs /run/issue.d/60-restart-needed.issue
    rm -f /var/lib/apt/lists/*slipway-updates*
    systemctl daemon-reload
}
trap clean EXIT

package() { # VERSION: a daemon, whose program is another file in each version
    rm -rf "$work/tree"
    install -d "$work/tree/DEBIAN" "$work/tree/usr/bin" "$work/tree/usr/lib/systemd/system" "$work/archive"
    install -m 755 /usr/bin/sleep "$work/tree/usr/bin/updates-probe"
    printf '%s' "$1" >>"$work/tree/usr/bin/updates-probe"
    printf '[Service]\nExecStart=/usr/bin/updates-probe 1000000\n' >"$work/tree/usr/lib/systemd/system/updates-probe.service"
    printf 'Package: updates-probe\nVersion: %s\nArchitecture: all\nMaintainer: check <root@localhost>\nDescription: daemon of a check\n' \
        "$1" >"$work/tree/DEBIAN/control"
    dpkg-deb --root-owner-group --build "$work/tree" "$work/$1.deb" >/dev/null
}
# Beside the journal, which has a limit, and apt's caches of its lists, which are replaced; in KiB.
kept() {
    sync
    du --summarize --total --exclude=/var/log/journal --exclude='*.bin' /var/log /var/cache /var/backups | tail -n 1 | cut -f 1
}
main_pid() { systemctl show -p MainPID --value updates-probe.service; }

rm -rf "$work" && mkdir -m 755 "$work"
package 1.0
dpkg --install "$work/1.0.deb" >/dev/null
systemctl daemon-reload
systemctl start updates-probe.service
before=$(main_pid)

package 2.0
cp "$work/2.0.deb" "$work/archive/"
cd "$work/archive"
{
    dpkg-deb --field 2.0.deb
    printf 'Filename: ./2.0.deb\nSize: %s\nSHA256: %s\n' "$(stat -c %s 2.0.deb)" "$(sha256sum 2.0.deb | cut -d' ' -f1)"
} >Packages
# shellcheck source=/dev/null # the system's own
. /usr/lib/os-release
{
    printf 'Origin: Debian\nLabel: Debian-Security\nSuite: stable-security\nCodename: %s-security\nDate: %s\nSHA256:\n' \
        "$VERSION_CODENAME" "$(date -u -R | sed 's/+0000/UTC/')"
    printf ' %s %s Packages\n' "$(sha256sum Packages | cut -d' ' -f1)" "$(stat -c %s Packages)"
} >Release
cd /
mkdir "$work/parts"
echo "deb [trusted=yes] file:$work/archive ./" >"$work/parts/check.list"
printf 'Dir::Etc::SourceList "/dev/null";\nDir::Etc::SourceParts "%s/parts";\n' "$work" >"$configuration"

# The night: what the timers start, and nothing else.
grep -qx "OnCalendar=\*-\*-\* $(cat /var/lib/slipway/parameters/update_time)" /etc/systemd/system/apt-daily-upgrade.timer.d/50-time.conf
systemctl is-active apt-daily.timer apt-daily-upgrade.timer
rm -f /var/lib/apt/periodic/*
/etc/kernel/postinst.d/unattended-upgrades "$(uname -r)" "/boot/vmlinuz-$(uname -r)"
before_night=$(kept)
systemctl start apt-daily.service
systemctl start apt-daily-upgrade.service
month=$((($(kept) - before_night) * 31))
echo "a month of such nights leaves $month KiB"
test $((month * 4)) -lt "$(df --output=size /var/log | tail -n 1)"
test "$(dpkg-query -W -f '${Version}' updates-probe)" = 2.0
test "$(main_pid)" != "$before"
cmp "/proc/$(main_pid)/exe" /usr/bin/updates-probe
grep -q 'RESTART NEEDED' /run/issue.d/60-restart-needed.issue
