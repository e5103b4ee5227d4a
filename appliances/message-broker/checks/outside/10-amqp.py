#!/usr/bin/env python3
# timeout: 120
"""A message is published with confirms into a durable queue.

Wrong passwords and the well-known one are refused.
"""

import pika
from slipway_check import PATIENCE, address, parameter, secret, trusting

context = trusting("/etc/rabbitmq/tls/server.crt")


def connect(user: str, password: str) -> pika.BlockingConnection:
    credentials = pika.PlainCredentials(user, password)
    options = pika.SSLOptions(context, address())
    return pika.BlockingConnection(
        pika.ConnectionParameters(
            address(),
            5671,
            credentials=credentials,
            ssl_options=options,
            socket_timeout=20 * PATIENCE,
        )
    )


user = parameter("user")
for wrong in ((user, "not-this-one"), ("guest", "guest")):
    try:
        connect(*wrong).close()
    except pika.exceptions.ProbableAuthenticationError:
        pass
    else:
        raise SystemExit(f"{wrong[0]} was let in")

connection = connect(user, secret())
channel = connection.channel()
channel.confirm_delivery()
channel.queue_declare("proof", durable=True)
channel.queue_purge("proof")
channel.basic_publish(
    "", "proof", b"a message that lasts", pika.BasicProperties(delivery_mode=2), mandatory=True
)
connection.close()
