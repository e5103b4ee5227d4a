#!/usr/bin/env python3
# timeout: 90
"""From outside, no port is open that has not been declared: not SSH, not DNS, though both listen on
the machine.
"""

import os
import pathlib
import socket

address = os.environ["SLIPWAY_ADDRESS"]
opened = []
for port in (22, 53, 67, 80, 443, 8081, 51820):
    try:
        socket.create_connection((address, port), timeout=1).close()
        opened.append(port)
    except OSError:
        pass
assert not opened, f"open from outside: {opened}"

# Silence proves something only if the machine is there: it has answered ARP (flag 2 is "complete",
# proc(5)).
entries = [line.split() for line in pathlib.Path("/proc/net/arp").read_text().splitlines()[1:]]
assert any(entry[0] == address and int(entry[2], 16) & 2 for entry in entries), (
    f"{address} does not answer ARP: {entries}"
)
