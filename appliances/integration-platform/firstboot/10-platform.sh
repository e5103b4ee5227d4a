#!/bin/sh
# A certificate for Tomcat and the broker; the user of both, and one that applications have to the broker.
set -eu
umask 027
fingerprint=$(/usr/lib/slipway/certificate /etc/tomcat11/tls tomcat)
python3 -E -s -B /usr/lib/integration-platform/users.py
/usr/lib/integration-platform/broker-certificate
echo "Integration platform: user $PARAM_USER; the certificate's SHA-256 is $fingerprint" >>"$SLIPWAY_BANNER"
