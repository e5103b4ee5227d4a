#!/bin/sh
# timeout: 90
# It runs as its own user with secrets that only that user can read, and the user "guest" does not exist.
set -eu
test "$(stat -c '%a %U' /etc/rabbitmq/tls/server.key)" = "600 rabbitmq"
test "$(stat -c '%a %U' /etc/rabbitmq/definitions.json)" = "600 rabbitmq"
rabbitmqctl --quiet await_startup
test "$(rabbitmqctl --quiet --no-table-headers list_users | cut -f1)" = "$(cat /var/lib/slipway/parameters/user)"
