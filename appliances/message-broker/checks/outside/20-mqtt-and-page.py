#!/usr/bin/env python3
# timeout: 120
"""What is published by MQTT arrives at a subscriber.

The management API answers its administrator and nobody else.
"""

import base64
import json
import queue
import urllib.error
import urllib.request

import paho.mqtt.client as mqtt
from slipway_check import PATIENCE, address, parameter, secret, trusting

context = trusting("/etc/rabbitmq/tls/server.crt")
user, password = parameter("user"), secret()

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
client.connect(address(), 8883, keepalive=30)
client.loop_start()
answer = arrived.get(timeout=30 * PATIENCE)
assert answer == b"by MQTT", answer
client.loop_stop()


def overview(password: str) -> dict:
    header = base64.b64encode(f"{user}:{password}".encode()).decode()
    request = urllib.request.Request(
        f"https://{address()}:15671/api/overview", headers={"Authorization": f"Basic {header}"}
    )
    with urllib.request.urlopen(request, context=context, timeout=30 * PATIENCE) as answer:
        return json.load(answer)


print(overview(password)["rabbitmq_version"])
try:
    overview("not-this-one")
except urllib.error.HTTPError as error:
    assert error.code == 401, error
else:
    raise SystemExit("the page let in a wrong password")
