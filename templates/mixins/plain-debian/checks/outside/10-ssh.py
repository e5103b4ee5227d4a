#!/usr/bin/env python3
# timeout: 60
"""SSH answers with its banner."""

import os
import socket

with socket.create_connection((os.environ["SLIPWAY_ADDRESS"], 22), timeout=10) as connection:
    banner = connection.recv(64)
print(banner)
assert banner.startswith(b"SSH-2.0-OpenSSH"), banner
