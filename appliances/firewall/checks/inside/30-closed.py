#!/usr/bin/env python3
# timeout: 60
"""From inside, the firewall lets in SSH and DNS and nothing else."""

import os
import socket

firewall = os.environ["SLIPWAY_PARAMETER_INSIDE_ADDRESS"].partition("/")[0]
for port in (22, 53):
    socket.create_connection((firewall, port), timeout=10).close()
opened = []
for port in (80, 111, 443, 5355, 8080):
    try:
        socket.create_connection((firewall, port), timeout=1).close()
        opened.append(port)
    except OSError:
        pass
assert not opened, f"open from inside: {opened}"
