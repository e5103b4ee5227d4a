#!/usr/bin/env python3
# timeout: 120
"""A message that no program can work with is not lost: after so many tries it is among the dead
letters.

The page answers by IPv6.
"""

import http.client
import time

import pika
from slipway_check import PATIENCE, address, parameter, root, secret, trusting

context = trusting("/etc/rabbitmq/tls/server.crt")
credentials = pika.PlainCredentials(parameter("user"), secret())
options = pika.SSLOptions(context, address())
parameters = pika.ConnectionParameters(
    address(),
    5671,
    credentials=credentials,
    ssl_options=options,
    socket_timeout=20 * PATIENCE,
)
connection = pika.BlockingConnection(parameters)
channel = connection.channel()
channel.confirm_delivery()
channel.queue_declare("poisoned", durable=True)
channel.queue_purge("poisoned")
channel.queue_purge("dead-letters")
channel.basic_publish(
    "", "poisoned", b"nobody can read this", pika.BasicProperties(delivery_mode=2), mandatory=True
)
until, tries = time.monotonic() + 60 * PATIENCE, 0
while True:
    method, _, body = channel.basic_get("poisoned")
    if method is None and tries > 20:
        break
    if method is not None:
        tries += 1
        channel.basic_nack(method.delivery_tag, requeue=True)
    assert time.monotonic() < until and tries < 40, f"given back {tries} times"
while True:
    method, _, body = channel.basic_get("dead-letters", auto_ack=True)
    if method is not None:
        break
    assert time.monotonic() < until, f"after {tries} tries it is gone"
    time.sleep(0.2)
assert body == b"nobody can read this", body
connection.close()

local = root(
    "ip -6 -o addr show scope link | sed -n 's/.*inet6 \\(fe80[^/]*\\).*/\\1/p' | head -n 1"
)
context.check_hostname = False  # no certificate names an address of one link
page = http.client.HTTPSConnection(
    f"{local}%outside", 15671, timeout=30 * PATIENCE, context=context
)
page.request("GET", "/api/overview")
assert page.getresponse().status == 401
