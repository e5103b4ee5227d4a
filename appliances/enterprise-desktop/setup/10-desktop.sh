#!/bin/sh
# Without the keys that packages made: first boot makes them. The desktop is Xfce's, and what a session cannot do here is not started.
set -eu
rm -f /etc/xrdp/rsakeys.ini /etc/xrdp/cert.pem /etc/xrdp/key.pem /etc/ssl/private/ssl-cert-snakeoil.key /etc/ssl/certs/ssl-cert-snakeoil.pem
update-alternatives --quiet --set x-session-manager /usr/bin/startxfce4 || update-alternatives --quiet --set x-session-manager /usr/bin/xfce4-session
