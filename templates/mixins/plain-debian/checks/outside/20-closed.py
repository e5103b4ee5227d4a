#!/usr/bin/env python3
# timeout: 60
"""Of the ports that name services use, none but SSH is open."""

import os
import socket

address = os.environ["SLIPWAY_ADDRESS"]
opened = []
with socket.create_connection((address, 22), timeout=10):
    for port in (21, 23, 25, 53, 80, 111, 443, 631, 3306, 5355, 5432, 6379, 8080):
        try:
            socket.create_connection((address, port), timeout=1).close()
            opened.append(port)
        except OSError:
            pass
assert not opened, f"open: {opened}"
