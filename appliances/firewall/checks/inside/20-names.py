#!/usr/bin/env python3
# timeout: 60
"""The firewall resolves names for inside: one of its own, and one that it asks its name server
outside for.
"""

import os
import socket
import struct

FIREWALL = os.environ["SLIPWAY_PARAMETER_INSIDE_ADDRESS"].partition("/")[0]


def resolve(name: str) -> str:
    """The IPv4 address of a name, by one question over UDP (RFC 1035, section 4.1)."""
    question = (
        b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
        + b"\0"
        + struct.pack(">HH", 1, 1)
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(5)
        client.connect((FIREWALL, 53))
        client.send(struct.pack(">HHHHHH", 0x5157, 0x0100, 1, 0, 0, 0) + question)
        answer = client.recv(512)
    number, flags, _, answers = struct.unpack(">HHHH", answer[:8])
    assert number == 0x5157 and flags & 0x800F == 0x8000 and answers, (
        f"{name}: no answer (flags {flags:04x})"
    )
    # The first record follows the question: a two-byte pointer to the name, type, class, time to
    # live, length, data.
    kind, _, _, length = struct.unpack(">HHIH", answer[12 + len(question) + 2 :][:10])
    assert (kind, length) == (1, 4), f"{name}: record type {kind}"
    return socket.inet_ntoa(answer[12 + len(question) + 12 :][:4])


own = "firewall." + os.environ["SLIPWAY_PARAMETER_INSIDE_DOMAIN"]
for name, expected in ((own, FIREWALL), ("upstream.test", os.environ["SLIPWAY_GATEWAY"])):
    address = resolve(name)
    print(f"{name} is {address}")
    assert address == expected, f"{name} is {address}, not {expected}"
