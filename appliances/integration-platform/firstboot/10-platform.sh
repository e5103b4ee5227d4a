#!/bin/sh
# A certificate for Tomcat and the broker; the user of both, and one that applications have to the broker.
set -eu
umask 027
# Tomcat and Spring would evaluate ${...} in a name.
/usr/lib/slipway/accept user '(?!(application|deploy)$)[A-Za-z0-9._@-]{1,64}' "a user's name: letters, digits and . _ @ -, and neither \"application\" nor \"deploy\""
python3 -E -s -B /usr/lib/integration-platform/users.py --check
renewed='/usr/lib/integration-platform/broker-certificate && systemctl try-restart tomcat11 broker'
fingerprint=$(/usr/lib/slipway/certificate /etc/tomcat11/tls tomcat -- sh -c "$renewed")
python3 -E -s -B /usr/lib/integration-platform/users.py
/usr/lib/integration-platform/broker-certificate
echo "Integration platform: user $PARAM_USER; the certificate's SHA-256 is $fingerprint" >>"$SLIPWAY_BANNER"
