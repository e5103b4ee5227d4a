#!/bin/sh
# A certificate of this instance's own, and the administrator.
set -eu
umask 077
folder=/etc/rabbitmq/tls
name=$(hostname)
install -d -o rabbitmq -g rabbitmq -m 700 $folder
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj "/CN=$name" -addext "subjectAltName=DNS:$name" \
    -keyout $folder/server.key -out $folder/server.crt 2>/dev/null
chown rabbitmq:rabbitmq $folder/server.key $folder/server.crt
python3 -E -s -B /usr/lib/message-broker/definitions.py >/etc/rabbitmq/definitions.json
chown rabbitmq:rabbitmq /etc/rabbitmq/definitions.json
echo "RabbitMQ: user $PARAM_USER; the certificate's SHA-256 is $(openssl x509 -in $folder/server.crt -noout -fingerprint -sha256 | cut -d= -f2)" >>"$SLIPWAY_BANNER"
