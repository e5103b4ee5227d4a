#!/usr/bin/env python3
# timeout: 120
"""A message that no program can work with is not lost: after so many tries it is among the dead
letters.

The page answers by IPv6.
"""

import http.client
import os
import shlex
import ssl
import subprocess
import time

import pika

ssh = shlex.split(os.environ["SLIPWAY_SSH"])


def on_machine(command: str) -> str:
    return subprocess.run([*ssh, command], check=True, capture_output=True, text=True).stdout


password = on_machine("cat /var/lib/slipway/parameters/password")
context = ssl.create_default_context(cadata=on_machine("cat /etc/rabbitmq/tls/server.crt"))
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
channel = connection.channel()
channel.confirm_delivery()
channel.queue_declare("poisoned", durable=True)
channel.queue_purge("poisoned")
channel.queue_purge("dead-letters")
channel.basic_publish(
    "", "poisoned", b"nobody can read this", pika.BasicProperties(delivery_mode=2), mandatory=True
)
until, tries = time.monotonic() + 60, 0
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

local = on_machine(
    "ip -6 -o addr show scope link | sed -n 's/.*inet6 \\(fe80[^/]*\\).*/\\1/p' | head -n 1"
).strip()
context.check_hostname = False  # no certificate names an address of one link
page = http.client.HTTPSConnection(f"{local}%outside", 15671, timeout=30, context=context)
page.request("GET", "/api/overview")
assert page.getresponse().status == 401
