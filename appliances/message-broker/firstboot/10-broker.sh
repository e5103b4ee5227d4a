#!/bin/sh
# A certificate of this instance's own, and the administrator.
set -eu
umask 077
fingerprint=$(/usr/lib/slipway/certificate /etc/rabbitmq/tls rabbitmq)
python3 -E -s -B /usr/lib/message-broker/definitions.py >/etc/rabbitmq/definitions.json
chown rabbitmq:rabbitmq /etc/rabbitmq/definitions.json
echo "RabbitMQ: user $PARAM_USER; the certificate's SHA-256 is $fingerprint" >>"$SLIPWAY_BANNER"
