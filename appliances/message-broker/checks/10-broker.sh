#!/bin/sh
# timeout: 90
# It runs as its own user with secrets that only that user can read, and the user "guest" does not exist. Its log is the
# journal's; definitions can be exported as the README says; a shovel can be made (its plug-ins run).
set -eu
test "$(stat -c '%a %U' /etc/rabbitmq/tls/server.key)" = "600 rabbitmq"
test "$(stat -c '%a %U' /etc/rabbitmq/definitions.json)" = "600 rabbitmq"
rabbitmqctl --quiet await_startup
test "$(rabbitmqctl --quiet --no-table-headers list_users | cut -f1)" = "$(cat /var/lib/slipway/parameters/user)"
test "$(stat -c '%a %U' /var/lib/rabbitmq/.erlang.cookie)" = "400 rabbitmq"
test "$(stat -c %s /var/lib/rabbitmq/.erlang.cookie)" -ge 42
journalctl -u rabbitmq-server | grep -q 'Server startup complete'
test -z "$(find /var/log/rabbitmq -type f -size +0)"
rabbitmqctl --quiet export_definitions - | python3 -c 'import json, sys; assert json.load(sys.stdin)["users"]'
rabbitmq-plugins --quiet is_enabled rabbitmq_shovel rabbitmq_shovel_management
