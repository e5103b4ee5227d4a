#!/usr/bin/env python3
# timeout: 240
"""A connection lasts: over a restart of the sensor, over kill -9, and idle for longer than Suricata
remembers it. A rule that is wrong is refused by a reload, and cuts nothing at the next start. An
alert stays on the page among many events, which says what was missed. The page is reached by IPv6,
and a wrong password costs it little.
"""

import base64
import http.client
import json
import os
import shlex
import ssl
import subprocess
import sys
import time
import uuid

from slipway_check import PATIENCE

ssh = shlex.split(os.environ["SLIPWAY_SSH"])
ADDRESS = os.environ["SLIPWAY_ADDRESS"]
RULES = "/etc/suricata/rules/local.rules"
ECHO = """
import socket, threading
def serve(connection):
    while word := connection.recv(1000):
        connection.sendall(word)
with socket.create_server(("192.168.50.2", 7000)) as server:
    print("ready", flush=True)
    while True:
        threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
"""
TALK = """
import socket, sys
connection = socket.create_connection(("192.168.50.2", 7000), timeout=30)
for line in sys.stdin:
    connection.settimeout(20)
    try:
        connection.sendall(line.encode())
        print(connection.recv(1000).decode().strip(), flush=True)
    except OSError as error:
        print("dead:", error, flush=True)
"""


def root(command: str) -> str:
    return subprocess.run(
        [*ssh, command], check=True, capture_output=True, text=True, timeout=120 * PATIENCE
    ).stdout.strip()


context = ssl.create_default_context(cadata=root("cat /var/lib/slipway/certificates/authority.crt"))


def at(segment: str, code: str) -> subprocess.Popen[str]:
    argv = ["ip", "netns", "exec", segment, sys.executable, "-I", "-c", code]
    return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def says(talk: subprocess.Popen[str], word: str) -> str:
    assert talk.stdin and talk.stdout
    talk.stdin.write(f"{word}\n")
    talk.stdin.flush()
    return talk.stdout.readline().strip()


def passes() -> bool:
    with at("upstream", TALK) as talk:
        try:
            return says(talk, "new") == "new"
        finally:
            talk.terminate()


def wait_for(what: str, true: object, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not true():  # type: ignore[operator]
        assert time.monotonic() < until, what
        time.sleep(1)


def ask(path: str, password: str | None, host: str = ADDRESS) -> tuple[int, str]:
    connection = http.client.HTTPSConnection(host, 443, timeout=30 * PATIENCE, context=context)
    header = (
        {}
        if password is None
        else {"Authorization": "Basic " + base64.b64encode(f"admin:{password}".encode()).decode()}
    )
    connection.request("GET", path, headers=header)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


with at("protected", ECHO) as echo:
    try:
        assert echo.stdout and echo.stdout.readline() == "ready\n"
        wait_for("nothing passes", passes)
        with at("upstream", TALK) as talk:
            try:
                assert says(talk, "first") == "first"
                root("systemctl restart sensor")
                wait_for("nothing passes after a restart", passes)
                assert says(talk, "after a restart") == "after a restart"
                root("systemctl kill --kill-whom=main --signal=KILL sensor")
                wait_for("nothing passes after kill -9", passes)
                assert says(talk, "after kill -9") == "after kill -9"
                # As after five idle minutes: it has forgotten the connection.
                root(
                    "printf 'flow-timeouts:\\n  tcp: {established: 5, emergency-established: "
                    "5}\\n' >>/etc/suricata/sensor.yaml"
                )
                root("systemctl restart sensor")
                wait_for("nothing passes", passes)
                assert says(talk, "again") == "again"
                time.sleep(20)
                assert says(talk, "after a pause") == "after a pause"
                # A rule that is wrong, and one that is there twice.
                root(f"cp {RULES} {RULES}.kept")
                wrong = (
                    "alert tcp any any -> any any (msg:broken sid:1;",
                    'alert tcp any any -> any any (msg:"twice"; sid:1000001; rev:1;)',
                )
                for rule in wrong:
                    root(f"echo {shlex.quote(rule)} >>{RULES}")
                    assert (
                        root("systemctl reload sensor && echo reloaded || echo refused")
                        == "refused"
                    ), rule
                    root("systemctl restart sensor")
                    wait_for(f"nothing passes with {rule}", passes)
                    root(f"cp {RULES}.kept {RULES}")
                assert says(talk, "after all") == "after all"
            finally:
                talk.terminate()
                root(
                    f"[ ! -e {RULES}.kept ] || mv {RULES}.kept {RULES}; sensor-mode inline; "
                    "systemctl reload sensor"
                )
        wait_for("nothing passes at the end", passes)
    finally:
        echo.terminate()
print("a connection lasts")

password = root("cat /var/lib/slipway/parameters/password")
mark = f"mark {uuid.uuid4()}"
alert = {
    "event_type": "alert",
    "timestamp": "2026-01-01T00:00:00",
    "alert": {"signature": mark, "signature_id": 1, "action": "allowed"},
}
root(f"echo {shlex.quote(json.dumps(alert))} >>/var/log/suricata/alerts.json")
event = json.dumps({"event_type": "dns", "filler": "x" * 400})
root(f"yes {shlex.quote(event)} | head -n 20000 >>/var/log/suricata/eve.json")
status, text = ask("/alerts.json", password)
assert status == 200 and mark in text, "an alert is gone from the page"


def counted() -> bool:
    found = json.loads(ask("/capture.json", password)[1])
    return "kernel_drops" in found and found["kernel_packets"] > 0


wait_for("the page does not say what was captured", counted)
context.check_hostname = False  # no certificate names an address of one link
local = root(
    "ip -6 -o address show scope link | sed -n 's/.*inet6 \\(fe80[^/]*\\).*/\\1/p' | head -n 1"
)
assert ask("/alerts.json", password, f"{local}%{os.environ['SLIPWAY_INTERFACE']}")[0] == 200, (
    "no page by IPv6"
)
context.check_hostname = True

begun = time.monotonic()
codes = [ask("/", None)[0] for _ in range(20)] + [
    ask("/", f"wrong {number}")[0] for number in range(14)
]
assert set(codes[:20]) == {401} and codes[-1] == 429, codes
assert ask("/", password)[0] == 200, "the administrator is shut out with the guesser"

# Logs: what is too long is put aside, the fifth goes.
for _ in range(6):
    root("truncate -s 300M /var/log/suricata/eve.json && systemctl start sensor-logs.service")
size = int(
    root("du --apparent-size --block-size=1M --total /var/log/suricata | tail -n 1 | cut -f 1")
)
assert size < 1500, f"{size} MiB of logs"
wait_for(
    "no log after it was put aside",
    lambda: int(root("stat -c %s /var/log/suricata/eve.json || echo 0")) < 2**20,
)
root("rm -f /var/log/suricata/eve.json.?")
print("alerts, capture, IPv6, guessers and logs are as promised")
