#!/usr/bin/env python3
# timeout: 120
"""A message is published with confirms into a durable queue.

Wrong passwords and the well-known one are refused.
"""

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


def connect(user: str, secret: str) -> pika.BlockingConnection:
    credentials = pika.PlainCredentials(user, secret)
    options = pika.SSLOptions(context, os.environ["SLIPWAY_ADDRESS"])
    return pika.BlockingConnection(
        pika.ConnectionParameters(
            os.environ["SLIPWAY_ADDRESS"],
            5671,
            credentials=credentials,
            ssl_options=options,
            socket_timeout=20,
        )
    )


user = os.environ["SLIPWAY_PARAMETER_USER"]
for wrong in ((user, "not-this-one"), ("guest", "guest")):
    try:
        connect(*wrong).close()
    except pika.exceptions.ProbableAuthenticationError:
        pass
    else:
        raise SystemExit(f"{wrong[0]} was let in")

connection = connect(user, password)
channel = connection.channel()
channel.confirm_delivery()
channel.queue_declare("proof", durable=True)
channel.queue_purge("proof")
channel.basic_publish(
    "", "proof", b"a message that lasts", pika.BasicProperties(delivery_mode=2), mandatory=True
)
connection.close()
