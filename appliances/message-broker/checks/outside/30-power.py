#!/usr/bin/env python3
# timeout: 150
# before: reset
"""The message that was confirmed before the power was cut is there."""

import pika
from slipway_check import PATIENCE, address, parameter, secret, trusting

credentials = pika.PlainCredentials(parameter("user"), secret())
options = pika.SSLOptions(trusting("/etc/rabbitmq/tls/server.crt"), address())
parameters = pika.ConnectionParameters(
    address(),
    5671,
    credentials=credentials,
    ssl_options=options,
    socket_timeout=20 * PATIENCE,
)
connection = pika.BlockingConnection(parameters)
_, _, body = connection.channel().basic_get("proof")
assert body == b"a message that lasts", body
connection.close()
