#!/bin/sh
# A certificate of this instance's own, and the administrator.
set -eu
umask 077
# A colon ends the name in HTTP's and MQTT's logins; "guest" may only log in on the machine itself.
/usr/lib/slipway/accept user '(?!guest$)[^\s:]+' "a user's name without spaces and colons, and not \"guest\"" 255
fingerprint=$(/usr/lib/slipway/certificate /etc/rabbitmq/tls rabbitmq -- rabbitmqctl --quiet eval 'ssl:clear_pem_cache().')
python3 -E -s -B /usr/lib/message-broker/definitions.py >/etc/rabbitmq/definitions.json
chown rabbitmq:rabbitmq /etc/rabbitmq/definitions.json
# What nodes and tools prove themselves by; Erlang's own would be twenty letters.
openssl rand -base64 42 | tr -d '\n' >/var/lib/rabbitmq/.erlang.cookie.new
chown rabbitmq:rabbitmq /var/lib/rabbitmq/.erlang.cookie.new
chmod 400 /var/lib/rabbitmq/.erlang.cookie.new
mv /var/lib/rabbitmq/.erlang.cookie.new /var/lib/rabbitmq/.erlang.cookie
printf 'RabbitMQ: user %s; the SHA-256 of the certificate is %s\n' "$PARAM_USER" "$fingerprint" >>"$SLIPWAY_BANNER"
