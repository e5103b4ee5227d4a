#!/bin/sh
# timeout: 60
# Somebody at the screen and somebody at the serial line both get a prompt.
set -eu
systemctl is-active getty@tty1.service serial-getty@ttyS0.service
grep -qw console=ttyS0,115200 /proc/cmdline
