#!/usr/bin/env python3
# timeout: 180
"""A month of messages does not fill the disk: what was received goes from it, also from a queue
that nobody writes to any more.
"""

import os
import time

import pika
from slipway_check import PATIENCE, address, parameter, root, secret, trusting

#: More than a file of the broker's log has, which is 64 MiB.
MESSAGE, MESSAGES, KEPT_MIB = os.urandom(3_000_000), 40, 90


def mib() -> int:
    return int(root("du --summarize --block-size=1M /var/lib/rabbitmq | cut -f 1"))


context = trusting("/etc/rabbitmq/tls/server.crt")
credentials = pika.PlainCredentials(parameter("user"), secret())
options = pika.SSLOptions(context, address())
connection = pika.BlockingConnection(
    pika.ConnectionParameters(
        address(),
        5671,
        credentials=credentials,
        ssl_options=options,
        socket_timeout=60 * PATIENCE,
        heartbeat=0,
    )
)
channel = connection.channel()
channel.confirm_delivery()
channel.queue_declare("month", durable=True)
channel.queue_purge("month")
before = mib()
for _ in range(MESSAGES):
    channel.basic_publish(
        "", "month", MESSAGE, pika.BasicProperties(delivery_mode=2), mandatory=True
    )
    method, _, body = channel.basic_get("month")
    assert method and body == MESSAGE
    channel.basic_ack(method.delivery_tag)
received = mib()
root("systemctl is-active broker-shrink.timer")
until = time.monotonic() + 90 * PATIENCE
while True:
    root("systemctl start broker-shrink.service")
    if (kept := mib()) < before + KEPT_MIB:
        break
    assert time.monotonic() < until, (
        f"messages that were received are kept: {before} MiB before, {received} with "
        f"them, {kept} later"
    )
    time.sleep(3)
channel.queue_delete("month")
connection.close()
print(
    f"{MESSAGES} messages of {len(MESSAGE)} bytes: {before} MiB before, {received} with "
    f"them, {kept} later"
)
