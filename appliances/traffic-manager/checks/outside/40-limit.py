#!/usr/bin/env python3
# timeout: 180
"""The memory limits how many connections there are: those beyond wait until others end, and HAProxy
lives. More memory is room for more.
"""

import socket
import ssl

from slipway_check import PATIENCE, address, eventually, root, trusting

#: What the machine is told to have (proc_meminfo(5)): enough for MOST connections at 64 KiB each,
#: of which a quarter is for them.
MEMORY_KIB, MOST = 32768, 128
TOLD = "/run/slipway-check-meminfo"
context = trusting()


def connect() -> ssl.SSLSocket:
    """Open a TLS connection, and leave it open."""
    connection = socket.create_connection((address(), 443), timeout=20 * PATIENCE)
    return context.wrap_socket(connection, server_hostname=address())


def held(number: int) -> list[ssl.SSLSocket]:
    return [connect() for _ in range(number)]


def main_process() -> str:
    return root("systemctl show --property=MainPID --value haproxy")


root(
    f"sed 's/^MemTotal:.*/MemTotal: {MEMORY_KIB} kB/' /proc/meminfo >{TOLD} && "
    f"mount --bind {TOLD} /proc/meminfo"
)
connections: list[ssl.SSLSocket] = []
try:
    root("systemctl restart haproxy")
    process = main_process()
    connections = held(MOST)
    waiting = socket.create_connection((address(), 443), timeout=20 * PATIENCE)
    waiting.settimeout(5)
    try:
        context.wrap_socket(waiting, server_hostname=address())
    except TimeoutError:
        print(f"connection {MOST + 1} waits")
    else:
        raise AssertionError(f"more than {MOST} connections with {MEMORY_KIB} KiB of memory")
    for connection in connections:
        connection.close()
    eventually(lambda: connect(), seconds=30).close()
    assert main_process() == process, "HAProxy was started again"
finally:
    for connection in connections:
        connection.close()
    root(f"umount /proc/meminfo; rm -f {TOLD}; systemctl restart haproxy")
connections = held(2 * MOST)
print(f"{len(connections)} connections with all the memory")
for connection in connections:
    connection.close()
