#!/usr/bin/env python3
# timeout: 180
"""A month of messages does not fill the disk: what was received goes from it, also from a queue
that nobody writes to any more.
"""

import os
import shlex
import ssl
import subprocess
import time

import pika

#: More than a file of the broker's log has, which is 64 MiB.
MESSAGE, MESSAGES, KEPT_MIB = os.urandom(3_000_000), 40, 90
ssh = shlex.split(os.environ["SLIPWAY_SSH"])


def on_machine(command: str) -> str:
    return subprocess.run([*ssh, command], check=True, capture_output=True, text=True).stdout


def mib() -> int:
    return int(on_machine("du --summarize --block-size=1M /var/lib/rabbitmq | cut -f 1"))


context = ssl.create_default_context(cadata=on_machine("cat /etc/rabbitmq/tls/server.crt"))
credentials = pika.PlainCredentials(
    os.environ["SLIPWAY_PARAMETER_USER"], on_machine("cat /var/lib/slipway/parameters/password")
)
options = pika.SSLOptions(context, os.environ["SLIPWAY_ADDRESS"])
connection = pika.BlockingConnection(
    pika.ConnectionParameters(
        os.environ["SLIPWAY_ADDRESS"],
        5671,
        credentials=credentials,
        ssl_options=options,
        socket_timeout=60,
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
on_machine("systemctl is-active broker-shrink.timer")
until = time.monotonic() + 90
while True:
    on_machine("systemctl start broker-shrink.service")
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
