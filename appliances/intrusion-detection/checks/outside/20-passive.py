#!/usr/bin/env python3
# timeout: 180
"""Beside a network: what passes by is alerted and goes on, and nothing crosses from one port to the
other.
"""

import os
import shlex
import subprocess
import sys
import time

from slipway_check import PATIENCE

ssh = shlex.split(os.environ["SLIPWAY_SSH"])
SEND = """
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
    sender.sendto(b"uid=0(root) gid=0(root)", ("192.168.50.77", 9))
"""


def root(command: str) -> str:
    return subprocess.run(
        [*ssh, command], check=True, capture_output=True, text=True, timeout=120 * PATIENCE
    ).stdout


def at(segment: str, *argv: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["ip", "netns", "exec", segment, *argv], check=False, capture_output=True, text=True
    )


root("sensor-mode passive")
try:
    for segment, own in (("upstream", "192.168.50.1/24"), ("protected", "192.168.50.2/24")):
        at(segment, "ip", "address", "replace", own, "dev", "client0")
        at(segment, "ip", "link", "set", "client0", "up")
    # Somebody who is not there: the network shows the packet to everybody.
    at(
        "upstream",
        "ip",
        "neighbour",
        "replace",
        "192.168.50.77",
        "lladdr",
        "52:54:00:00:00:77",
        "dev",
        "client0",
    )
    for _ in range(60):
        sent = at("upstream", sys.executable, "-I", "-c", SEND)
        assert sent.returncode == 0, sent
        found = root("grep -c '\"signature_id\":1000002' /var/log/suricata/eve.json || :")
        if int(found or 0):
            break
        time.sleep(1)
    last = root("grep '\"signature_id\":1000002' /var/log/suricata/eve.json | tail -n 1")
    assert '"action":"allowed"' in last, last
    assert at("upstream", "ping", "-c", "1", "-W", "3", "192.168.50.2").returncode != 0, (
        "traffic crosses"
    )
finally:
    root("sensor-mode inline")
