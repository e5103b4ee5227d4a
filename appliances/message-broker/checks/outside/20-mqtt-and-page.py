#!/usr/bin/env python3
# timeout: 120
"""What is published by MQTT arrives at a subscriber.

The management API answers its administrator and nobody else.
"""

import base64
import json
import os
import queue
import shlex
import ssl
import subprocess
import urllib.error
import urllib.request

import paho.mqtt.client as mqtt

ssh = shlex.split(os.environ["SLIPWAY_SSH"])
password = subprocess.run(
    [*ssh, "cat /var/lib/slipway/parameters/password"], check=True, capture_output=True, text=True
).stdout
trusted = subprocess.run(
    [*ssh, "cat /etc/rabbitmq/tls/server.crt"], check=True, capture_output=True, text=True
).stdout
context = ssl.create_default_context(cadata=trusted)
address, user = os.environ["SLIPWAY_ADDRESS"], os.environ["SLIPWAY_PARAMETER_USER"]

arrived: queue.Queue[bytes] = queue.Queue()
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="check")
client.username_pw_set(user, password)
client.tls_set_context(context)
client.on_connect = lambda *_: client.subscribe("proof/#", qos=1)
client.on_subscribe = lambda *answer: (
    arrived.put(f"{answer[3]}".encode())
    if answer[3][0].is_failure
    else client.publish("proof/one", b"by MQTT", qos=1)
)
client.on_message = lambda _, __, message: arrived.put(message.payload)
client.connect(address, 8883, keepalive=30)
client.loop_start()
answer = arrived.get(timeout=30)
assert answer == b"by MQTT", answer
client.loop_stop()


def overview(secret: str) -> dict:
    header = base64.b64encode(f"{user}:{secret}".encode()).decode()
    request = urllib.request.Request(
        f"https://{address}:15671/api/overview", headers={"Authorization": f"Basic {header}"}
    )
    with urllib.request.urlopen(request, context=context, timeout=30) as answer:
        return json.load(answer)


print(overview(password)["rabbitmq_version"])
try:
    overview("not-this-one")
except urllib.error.HTTPError as error:
    assert error.code == 401, error
else:
    raise SystemExit("the page let in a wrong password")
