#!/usr/bin/env python3
# timeout: 240
"""A month does not fill the disk: messages that were received go from it, one that nobody could
work with goes after a week, and logs have a limit.
"""

import os
import shlex
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

import stomp
from slipway_check import PATIENCE

ADDRESS, USER = os.environ["SLIPWAY_ADDRESS"], os.environ["SLIPWAY_PARAMETER_USER"]
WEEK_MS = 7 * 86_400_000
#: KahaDB's files have 32 MiB each.
MESSAGE, MESSAGES, FILE_MIB = "m" * 4_000_000, 12, 32
ssh = shlex.split(os.environ["SLIPWAY_SSH"])


def on_machine(command: str) -> str:
    return subprocess.run(
        [*ssh, command], check=True, capture_output=True, text=True
    ).stdout.strip()


def mib(folder: str) -> int:
    return int(on_machine(f"du --summarize --apparent-size --block-size=1M {folder} | cut -f 1"))


class Received(stomp.ConnectionListener):
    def __init__(self) -> None:
        self.frames: list[stomp.utils.Frame] = []

    def on_message(self, frame: stomp.utils.Frame) -> None:
        self.frames.append(frame)

    def next(self) -> stomp.utils.Frame:
        until = time.monotonic() + 60 * PATIENCE
        while not self.frames:
            assert time.monotonic() < until, "no message comes"
            time.sleep(0.05)
        return self.frames.pop(0)


CERTIFICATE = on_machine("cat /etc/tomcat11/tls/server.crt")
client, received = (
    stomp.Connection12([(ADDRESS, 61612)], timeout=60 * PATIENCE, reconnect_attempts_max=1),
    Received(),
)
with tempfile.NamedTemporaryFile("w", suffix=".pem") as authority:
    authority.write(CERTIFICATE)
    authority.flush()
    client.set_ssl([(ADDRESS, 61612)], ca_certs=authority.name, ssl_version=ssl.PROTOCOL_TLS)
    client.connect(USER, on_machine("cat /var/lib/slipway/parameters/password"), wait=True)
client.set_listener("", received)

before = mib("/var/lib/broker/kahadb")
client.subscribe("/queue/month", "1", ack="client-individual")
for _ in range(MESSAGES):
    client.send("/queue/month", MESSAGE, headers={"persistent": "true"})
    client.ack(received.next().headers["ack"])
until = time.monotonic() + 120 * PATIENCE
while (kept := mib("/var/lib/broker/kahadb")) > before + FILE_MIB:
    assert time.monotonic() < until, (
        f"messages that were received are kept: {before} MiB, then {kept}"
    )
    time.sleep(5)

client.send("/queue/month", "nobody can read this", headers={"persistent": "true"})
client.nack(received.next().headers["ack"])
client.subscribe("/queue/ActiveMQ.DLQ", "2", ack="client-individual")
dead = received.next()
assert dead.body == "nobody can read this", dead
kept_ms = int(dead.headers["expires"]) - time.time() * 1000
assert WEEK_MS - 3_600_000 < kept_ms < WEEK_MS + 3_600_000, f"kept for {kept_ms} ms"
client.ack(dead.headers["ack"])
client.disconnect()

context = ssl.create_default_context(cadata=CERTIFICATE)
for _ in range(6):
    on_machine(
        "truncate -s 40M /var/log/tomcat11/access.log && systemctl start platform-logs.service"
    )
assert mib("/var/log/tomcat11") < 200, f"{mib('/var/log/tomcat11')} MiB of logs"
until = time.monotonic() + 60 * PATIENCE
while on_machine("grep -c later-growth /var/log/tomcat11/access.log || :") in ("", "0"):
    assert time.monotonic() < until, "no log after it was put aside"
    try:
        urllib.request.urlopen(
            f"https://{ADDRESS}/later-growth", context=context, timeout=60 * PATIENCE
        )
    except urllib.error.HTTPError as error:
        assert error.code == 404
    except OSError as error:
        print(f"no answer yet: {error}")
    time.sleep(2)
on_machine("rm -f /var/log/tomcat11/access.log.?")
others = on_machine("find /var/log/tomcat11 -type f -not -name access.log")
assert not others, f"nothing limits {others}"
print(
    f"{MESSAGES} messages of {len(MESSAGE)} bytes leave {kept} MiB, where {before} were; "
    "logs have a limit"
)
