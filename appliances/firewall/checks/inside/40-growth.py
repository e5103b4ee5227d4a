#!/usr/bin/env python3
# timeout: 120
"""A month does not fill the disk: names that are asked for and packets that are dropped leave
little beside the journal, which has a limit.
"""

import contextlib
import os
import shlex
import socket
import struct
import subprocess

FIREWALL = os.environ["SLIPWAY_PARAMETER_INSIDE_ADDRESS"].partition("/")[0]
#: From inside, by the address inside.
ssh = [*shlex.split(os.environ["SLIPWAY_SSH"])[:-1], f"root@{FIREWALL}"]
EACH, ROUNDS, TRIES = 500, 3, 6


def on_machine(command: str) -> str:
    return subprocess.run(
        [*ssh, command], check=True, capture_output=True, text=True
    ).stdout.strip()


def kept() -> int:
    """What is on the disk below /etc and /var, but for the journal, in bytes."""
    return int(
        on_machine(
            "sync; du --summarize --total --block-size=1 --exclude=/var/log/journal /etc /var | "
            "tail -n 1 | cut -f 1"
        )
    )


def ask(number: int) -> None:
    """Ask for a name that nobody has: one question over UDP (RFC 1035, section 4.1)."""
    labels = (f"growth-{number}", *os.environ["SLIPWAY_PARAMETER_INSIDE_DOMAIN"].split("."))
    question = (
        b"".join(bytes([len(label)]) + label.encode() for label in labels)
        + b"\0"
        + struct.pack(">HH", 1, 1)
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect((FIREWALL, 53))
        client.settimeout(5)
        for _ in range(TRIES):  # as resolvers do: UDP may lose a packet
            client.send(struct.pack(">HHHHHH", number, 0x0100, 1, 0, 0, 0) + question)
            with contextlib.suppress(TimeoutError):
                answer = client.recv(512)
                assert answer[:2] == struct.pack(">H", number), answer
                return
    raise AssertionError(f"no answer to question {number} in {TRIES} tries")


grown = []
for each in range(ROUNDS):
    before = kept()
    for number in range(EACH):
        ask(each * EACH + number)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.sendto(b"dropped", (FIREWALL, 9))
    grown.append(kept() - before)
# What others write meanwhile is not in each round.
assert min(grown) < 4096, (
    f"{EACH} names and {EACH} packets leave {grown} bytes each time; written lately: "
    + on_machine(
        "find /etc /var -xdev -path /var/log/journal -prune -o -mmin -5 -printf '%p (%kK) '"
    )
)
journal = int(on_machine("du --summarize --block-size=1M /var/log/journal | cut -f 1"))
assert journal <= 136, f"{journal} MiB of journal"
print(
    f"{ROUNDS} times {EACH} names and {EACH} packets leave {grown} bytes; "
    f"the journal has {journal} MiB"
)
