#!/bin/sh
# timeout: 240
# What is installed cannot be changed, the user becomes nobody else, homes are on a volume, and the office programs read what is
# written.
set -eu
user=$(cat /var/lib/slipway/parameters/user)
test "$(findmnt --noheadings --output FSTYPE --target /usr/bin)" = squashfs
if touch /usr/bin/changed 2>/dev/null; then exit 1; fi
test "$(findmnt --noheadings --output TARGET --target "/home/$user")" = /home
findmnt --noheadings --output OPTIONS /home | grep -q nosuid
test "$(id -nG "$user")" = "$user desktop-users"
if command -v sudo >/dev/null && runuser -u "$user" -- sudo -n true 2>/dev/null; then exit 1; fi
if runuser -u "$user" -- pkexec --version >/dev/null 2>&1 && runuser -u "$user" -- pkexec true 2>/dev/null; then exit 1; fi
test "$(passwd --status root | cut -d ' ' -f 2)" = L
if runuser -u "$user" -- cat /etc/xrdp/tls/server.key 2>/dev/null; then exit 1; fi
test "$(ps -o user= -C xrdp | sort -u)" = xrdp
test "$(stat -c '%a %U' /etc/xrdp/rsakeys.ini /etc/xrdp/tls/server.key | sort -u)" = "600 xrdp"
directory=$(runuser -u "$user" -- mktemp -d)
printf 'city,people\nUlm,126000\n' >"$directory/table.csv"
runuser -u "$user" -- env HOME="$directory" soffice --headless --convert-to pdf --outdir "$directory" "$directory/table.csv"
head -c 5 "$directory/table.pdf" | grep -q '%PDF-'
rm -r "$directory"
