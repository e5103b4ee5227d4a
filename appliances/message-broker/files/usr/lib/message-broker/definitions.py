"""The broker's first definitions: its administrator, with a hash of the password (RabbitMQ's guide
"Passwords").

Reads PARAM_USER and PARAM_PASSWORD from the environment and writes JSON.
"""

import base64
import hashlib
import json
import os
import secrets
import sys

#: Where messages end that no program could work with.
DEAD = "dead-letters"

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
    # Classic queues confirm before a message is safe from a power cut; quorum queues, also those of
    # one node, after. (Said here, not for the whole node: MQTT's own queues, which are exclusive,
    # would be refused.)
    "vhosts": [
        {"name": "/", "default_queue_type": "quorum", "metadata": {"default_queue_type": "quorum"}}
    ],
    # A quorum queue gives a message up after 20 tries (RabbitMQ's guide "Quorum Queues"): it goes
    # on here.
    "exchanges": [
        {
            "name": DEAD,
            "vhost": "/",
            "type": "fanout",
            "durable": True,
            "auto_delete": False,
            "internal": False,
            "arguments": {},
        }
    ],
    "queues": [
        {
            "name": DEAD,
            "vhost": "/",
            "durable": True,
            "auto_delete": False,
            "arguments": {"x-queue-type": "quorum"},
        }
    ],
    "bindings": [
        {
            "source": DEAD,
            "vhost": "/",
            "destination": DEAD,
            "destination_type": "queue",
            "routing_key": "",
            "arguments": {},
        },
    ],
    "policies": [
        {
            "name": "undeliverable",
            "vhost": "/",
            "pattern": f"^(?!{DEAD}$)",
            "apply-to": "quorum_queues",
            "priority": 0,
            "definition": {
                "dead-letter-exchange": DEAD,
                "dead-letter-strategy": "at-least-once",
                "overflow": "reject-publish",
            },
        },
        {
            "name": "undeliverable-kept",
            "vhost": "/",
            "pattern": f"^{DEAD}$",
            "apply-to": "quorum_queues",
            "priority": 0,
            "definition": {"max-length-bytes": 256 << 20, "overflow": "drop-head"},
        },
    ],
    "permissions": [{"user": user, "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}],
}
json.dump(definitions, sys.stdout, indent=1)
