"""A program that finds the open TCP ports of an address: ``python -I scan.py ADDRESS PORT...`` fails unless these are the open ones.

All 65,535 are tried, from this side of the network. A port that does not answer within :data:`PATIENCE_S` is closed; but where most
are refused, what is silent was lost on the way, and is asked again. Of UDP only those that are named (``udp/PORT``) are asked, and it
fails if one of them is refused: silence is an answer there. A range (``FIRST-LAST``) may be open, and need not be. It imports nothing
but the standard library, so that it runs in any network namespace.
"""

from __future__ import annotations

import contextlib
import errno
import resource
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Iterable

__all__ = ["main", "open_ports", "refused_udp_ports"]

#: How long a port may take to answer, in seconds, and how many are asked at once.
PATIENCE_S = 2.0
AT_ONCE = 2000
#: How many silent ports are still taken for lost packets, not for a firewall, and how often those are asked again.
FEW, AGAIN = 4000, 3


def open_ports(address: str, ports: Iterable[int] = range(1, 65536)) -> list[int]:
    """The TCP ports of an IPv4 address that accept connections, sorted.

    Raises:
        OSError: There is no way to the address.
    """
    found, silent = _ask(address, ports)
    for _ in range(AGAIN):
        if not 0 < len(silent) <= FEW:
            break
        more, silent = _ask(address, silent)
        found += more
    return sorted(found)


def _ask(address: str, ports: Iterable[int]) -> tuple[list[int], list[int]]:
    """The ports that accept a connection, and those that say nothing."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    at_once = min(AT_ONCE, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 50)
    waiting, found, unheard = deque(ports), [], []
    asked: dict[int, tuple[socket.socket, int, float]] = {}
    with contextlib.closing(select.epoll()) as poll:
        while waiting or asked:
            while waiting and len(asked) < at_once:
                port = waiting.popleft()
                connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
                refused = connection.connect_ex((address, port))
                if refused not in (0, errno.EINPROGRESS):
                    connection.close()
                    raise OSError(refused, f"port {port} cannot be asked")
                asked[connection.fileno()] = (connection, port, time.monotonic() + PATIENCE_S)
                poll.register(connection, select.EPOLLOUT)
            answered = [number for number, _ in poll.poll(0.1)]
            now = time.monotonic()
            # Asked in this order, so those whose time is up come first.
            silent = [number for number, (_, _, until) in asked.items() if until < now]
            for number in {*answered, *silent}:
                connection, port, _ = asked.pop(number)
                if number not in answered:
                    unheard.append(port)
                elif not connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    found.append(port)
                poll.unregister(connection)
                connection.close()
    return found, unheard


def refused_udp_ports(address: str, ports: Iterable[int]) -> list[int]:
    """Those of some UDP ports of an IPv4 address that are refused (ICMP port unreachable): nobody listens there."""
    refused = []
    for port in ports:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
            asked.settimeout(PATIENCE_S / 2)
            asked.connect((address, port))
            try:
                asked.send(b"")
                asked.recv(1)
            except ConnectionRefusedError:
                refused.append(port)
            except TimeoutError:
                continue
    return refused


def _numbers(port: str) -> range:
    """The ports that ``80`` or ``8000-8099`` stand for."""
    first, _, last = port.partition("-")
    return range(int(first), int(last or first) + 1)


def main(argv: list[str]) -> int:
    """The program: 0 if the named TCP ports are open and no others are, and no named UDP port is refused."""
    address, named = argv[0], argv[1:]
    allowed = {number for port in named if not port.startswith("udp/") for number in _numbers(port)}
    begun = time.monotonic()
    found = open_ports(address)
    lines = [f"of 65535 TCP ports these are open: {', '.join(map(str, found)) or 'none'} ({time.monotonic() - begun:.1f} s)"]
    surplus = [port for port in found if port not in allowed]
    lines += [f"not in the spec: {', '.join(map(str, surplus))}"] if surplus else []
    closed = [int(port) for port in named if port.isdecimal() and int(port) not in found]
    lines += [f"in the spec, but not open: {', '.join(map(str, closed))}"] if closed else []
    refused = refused_udp_ports(address, [int(port.removeprefix("udp/")) for port in named if port.startswith("udp/") and "-" not in port])
    lines += [f"UDP, in the spec, but refused: {', '.join(map(str, refused))}"] if refused else []
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 1 if surplus or closed or refused else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
