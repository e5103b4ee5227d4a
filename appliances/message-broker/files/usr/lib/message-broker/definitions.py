"""The broker's first definitions: its administrator, with a hash of the password (RabbitMQ's guide "Passwords").

Reads PARAM_USER and PARAM_PASSWORD from the environment and writes JSON.
"""

import base64
import hashlib
import json
import os
import secrets
import sys

user, salt = os.environ["PARAM_USER"], secrets.token_bytes(4)
digest = hashlib.sha256(salt + os.environ["PARAM_PASSWORD"].encode()).digest()
definitions = {
    "users": [
        {
            "name": user,
            "password_hash": base64.b64encode(salt + digest).decode(),
            "hashing_algorithm": "rabbit_password_hashing_sha256",
            "tags": ["administrator"],
        }
    ],
    # Classic queues confirm before a message is safe from a power cut; quorum queues, also those of one node, after.
    # MQTT's subscriptions are exclusive queues, which quorum queues cannot be: they have a virtual host of their own.
    "vhosts": [
        {"name": name, "default_queue_type": kind, "metadata": {"default_queue_type": kind}}
        for name, kind in (("/", "quorum"), ("mqtt", "classic"))
    ],
    "permissions": [{"user": user, "vhost": name, "configure": ".*", "write": ".*", "read": ".*"} for name in ("/", "mqtt")],
}
json.dump(definitions, sys.stdout, indent=1)
