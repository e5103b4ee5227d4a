#!/bin/sh
# Every instance makes its own data and cookie.
set -eu
find /var/lib/rabbitmq -mindepth 1 -delete
rm -rf /var/log/rabbitmq/*
# The port mapper of Erlang is started by the broker itself, on loopback; it need not be there before it.
systemctl --quiet mask epmd.socket epmd.service
