#!/usr/bin/env python3
# timeout: 150
# before: reset
"""The message that was confirmed before the power was cut is there."""

import os
import shlex
import ssl
import subprocess

import pika

ssh = shlex.split(os.environ["SLIPWAY_SSH"])
password = subprocess.run(
    [*ssh, "cat /var/lib/slipway/parameters/password"], check=True, capture_output=True, text=True
).stdout
trusted = subprocess.run(
    [*ssh, "cat /etc/rabbitmq/tls/server.crt"], check=True, capture_output=True, text=True
).stdout
context = ssl.create_default_context(cadata=trusted)
credentials = pika.PlainCredentials(os.environ["SLIPWAY_PARAMETER_USER"], password)
options = pika.SSLOptions(context, os.environ["SLIPWAY_ADDRESS"])
parameters = pika.ConnectionParameters(
    os.environ["SLIPWAY_ADDRESS"],
    5671,
    credentials=credentials,
    ssl_options=options,
    socket_timeout=20,
)
connection = pika.BlockingConnection(parameters)
_, _, body = connection.channel().basic_get("proof")
assert body == b"a message that lasts", body
connection.close()
