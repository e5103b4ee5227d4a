"""Find the open TCP ports of an address: ``scan.py ADDRESS [--patience=SECONDS] [--wait=SECONDS]
PORT...``

The scan fails unless the named ports are the open ones (run it as ``python -I scan.py``).

All 65,535 ports are tried, from this side of the network. A machine either refuses closed ports or,
behind a firewall, drops packets to them. If it refuses, a silent port is a lost packet. It is asked
again, and fails the scan if it stays silent, as an open port may hide there. If it drops, silence
is an answer. Of UDP only the named ports (``udp/PORT``) are asked; the scan fails if one is
refused. A range (``FIRST-LAST``) may be open, and need not be.

One scan decides, unless its only fault is a named port that is not open yet. Such a port is asked
again until the seconds are up. Once it has opened, all ports are asked anew. The exit status is 0
if all is as named, 1 if it is not. Imports nothing but the standard library, to run in any network
namespace.
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
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

__all__ = ["Scan", "main", "refused_udp_ports", "scan"]

#: The time limit for a port's answer on an idle host, in seconds. The kernel asks again after one
#: second.
PATIENCE_S = 2.0
#: The number of ports asked at once: at least, at first, and at most. The queue of the lab's links
#: is longer than the most (slipway.boot.lab).
AT_LEAST, AT_FIRST, AT_ONCE = 250, 4_000, 20_000
#: A machine with so many answers answers for all ports: a silent one was lost on the way.
ANSWERS = 1_000
#: The number of further rounds for such a machine's silent ports if none of them answers.
AGAIN = 4
#: The time for a slow machine to work off its queue, as a multiple of the patience.
DRAIN = 30


@dataclass(frozen=True, slots=True)
class Scan:
    """The answers of all ports: the open ones, the silent ones, and the number of refused ones."""

    open: tuple[int, ...]
    silent: tuple[int, ...]
    refused: int

    @property
    def drops(self) -> bool:
        """True if the machine drops packets to closed ports, so silence is an answer."""
        return len(self.open) + self.refused < ANSWERS

    @property
    def lost(self) -> tuple[int, ...]:
        """The ports of unknown state."""
        return () if self.drops else self.silent


def scan(
    address: str, ports: Iterable[int] = range(1, 65536), *, patience_s: float = PATIENCE_S
) -> Scan:
    """Ask TCP ports of an IPv4 address, as many at once as the machine answers in time.

    A slow machine may get more questions than it answers within the patience for one. Each further
    question would wait behind them. So the number halves when ports stay silent, and nothing is
    asked until a port answers again. It doubles when all answer, or when the machine drops packets.
    Silent ports are asked for as long as some of them answer, and a few times more.

    Raises:
        OSError: No route leads to the address.
    """
    found, waiting, refused = list[int](), list(ports), 0
    at_once, known, fruitless = AT_FIRST, 0, 0
    while fruitless < AGAIN:
        silent, before = list[int](), len(waiting)
        while waiting:
            batch, waiting = waiting[:at_once], waiting[at_once:]
            opened, quiet, closed = _ask(address, batch, patience_s)
            found += opened
            silent += quiet
            refused += len(closed)
            known = next(iter((*closed, *opened)), known)
            slow = quiet and len(found) + refused >= ANSWERS
            at_once = max(AT_LEAST, at_once // 2) if slow else min(AT_ONCE, at_once * 2)
            if slow:
                _drain(address, known, patience_s)
        if not silent or len(found) + refused < ANSWERS:
            break
        fruitless = fruitless + 1 if len(silent) == before else 0
        waiting = silent
    return Scan(tuple(sorted(found)), tuple(sorted(silent)), refused)


def _drain(address: str, known: int, patience_s: float) -> None:
    """Wait until a known port answers again, and with it all questions before it."""
    until = time.monotonic() + DRAIN * patience_s
    while time.monotonic() < until and _ask(address, [known], patience_s)[1]:
        pass


def _ask(
    address: str, ports: Sequence[int], patience_s: float
) -> tuple[list[int], list[int], list[int]]:
    """Return the ports that accept a connection, the silent ones, and the refused ones."""
    waiting, found, silent, refused = deque(ports), list[int](), list[int](), list[int]()
    asked: dict[int, tuple[socket.socket, int, float]] = {}
    at_once = _sockets(len(ports))
    with contextlib.closing(select.epoll()) as poll:
        while waiting or asked:
            while waiting and len(asked) < at_once:
                port = waiting.popleft()
                connection = _connect(address, port)
                if connection is None:
                    refused.append(port)
                    continue
                asked[connection.fileno()] = (connection, port, time.monotonic() + patience_s)
                poll.register(connection, select.EPOLLOUT)
            answered = {number for number, _ in poll.poll(0.1, at_once)}
            now = time.monotonic()
            overdue = {number for number, (_, _, until) in asked.items() if until < now}
            for number in answered | overdue:
                connection, port, _ = asked.pop(number)
                problem = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if number not in answered or problem not in (0, errno.ECONNREFUSED):
                    silent.append(port)  # such as "no route to host": the machine has not answered
                elif problem:
                    refused.append(port)
                else:
                    found.append(port)
                poll.unregister(connection)
                connection.close()
    return found, silent, refused


def _sockets(most: int) -> int:
    """Return the number of sockets that may be open at once, at most the given one.

    The limit is raised as far as possible first.
    """
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return max(1, min(most, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 50))


def _connect(address: str, port: int) -> socket.socket | None:
    """Return a connection under way; None if it was refused at once."""
    connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    problem = connection.connect_ex((address, port))
    if problem in (0, errno.EINPROGRESS):
        return connection
    connection.close()
    if problem == errno.ECONNREFUSED:
        return None
    raise OSError(problem, f"port {port} cannot be probed")


def refused_udp_ports(
    address: str, ports: Iterable[int], patience_s: float = PATIENCE_S
) -> list[int]:
    """Return the UDP ports of an IPv4 address that are refused (ICMP port unreachable).

    Nobody listens at a refused port.
    """
    refused = []
    for port in ports:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
            asked.settimeout(patience_s / 2)
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
    """Return the ports of ``80`` or ``8000-8099``."""
    first, _, last = port.partition("-")
    return range(int(first), int(last or first) + 1)


def _listed(ports: Collection[int]) -> str:
    """Return ports for people, the first forty of many."""
    shown = ", ".join(map(str, sorted(ports)[:40]))
    return f"{shown} and {len(ports) - 40} more" if len(ports) > 40 else shown or "none"


@dataclass(frozen=True, slots=True)
class Named:
    """The named ports: TCP ports and ranges as written, and UDP ports."""

    tcp: tuple[str, ...]
    udp: tuple[int, ...]

    @classmethod
    def read(cls, words: Iterable[str]) -> Named:
        """Read the words of the command line; a range of UDP ports is never asked."""
        tcp, udp = [], []
        for word in words:
            kind, _, port = word.rpartition("/")
            if kind != "udp":
                tcp.append(word)
            elif port.isdecimal():
                udp.append(int(port))
        return cls(tuple(tcp), tuple(udp))

    @property
    def allowed(self) -> set[int]:
        """Every TCP port that may be open."""
        return {number for port in self.tcp for number in _numbers(port)}

    def closed(
        self, address: str, is_open: Collection[int], patience_s: float
    ) -> tuple[list[int], list[int]]:
        """Return the named TCP ports that are not open, and the named UDP ports that are
        refused.
        """
        tcp = [int(port) for port in self.tcp if port.isdecimal() and int(port) not in is_open]
        return tcp, refused_udp_ports(address, self.udp, patience_s)


def _opened_late(
    address: str, closed: tuple[list[int], list[int]], wait_s: float, patience_s: float
) -> bool:
    """Ask only closed ports again; return True as soon as none is left."""
    until = time.monotonic() + wait_s
    tcp, udp = closed
    while (tcp or udp) and time.monotonic() < until:
        time.sleep(min(1.0, wait_s))
        opened = _ask(address, tcp, patience_s)[0]
        tcp = [port for port in tcp if port not in opened]
        udp = refused_udp_ports(address, udp, patience_s)
    return not tcp and not udp


def _problems(
    surplus: Sequence[int], lost: Sequence[int], closed: tuple[list[int], list[int]]
) -> list[str]:
    """Return the differences from the named ports, with the lines to add to the spec."""
    say = []
    for port in surplus[:10]:
        say.append(f"port {port} is open and not in the spec; if it is intended, add to ports:")
        say.append(f"  - {{port: {port}, protocol: tcp, purpose: ...}}")
    if len(surplus) > 10:
        say.append(f"open and not in the spec: {_listed(surplus)}")
    if lost:
        say.append(f"silent, though the machine refuses others: {_listed(lost)}")
    tcp, udp = closed
    if tcp:
        say.append(f"in the spec, but not open: {_listed(tcp)}")
    if udp:
        say.append(f"UDP, in the spec, but refused: {_listed(udp)}")
    return say


def main(argv: Sequence[str]) -> int:
    """Compare the ports of an address with the named ones, print the result, return the exit
    status.
    """
    address, *words = argv
    options = dict(word.split("=", 1) for word in words if word.startswith("--"))
    patience_s, wait_s = (
        float(options.get("--patience", PATIENCE_S)),
        float(options.get("--wait", 0)),
    )
    named = Named.read(word for word in words if not word.startswith("--"))
    begun = time.monotonic()
    found = scan(address, patience_s=patience_s)
    closed = named.closed(address, found.open, patience_s)
    wrong = bool(set(found.open) - named.allowed or found.lost)
    if any(closed) and not wrong and _opened_late(address, closed, wait_s, patience_s):
        found = scan(address, patience_s=patience_s)
        closed = named.closed(address, found.open, patience_s)
    took = time.monotonic() - begun
    how = "drops what is not allowed" if found.drops else "refuses closed ports"
    say = [
        (
            f"of 65535 TCP ports: {len(found.open)} open, {found.refused} refused, "
            f"{len(found.silent)} silent"
        ),
        f"({took:.1f} s; the machine {how})",
        f"open: {_listed(found.open)}",
    ]
    allowed = named.allowed
    surplus = [port for port in found.open if port not in allowed]
    say += _problems(surplus, found.lost, closed)
    sys.stdout.write("".join(f"{line}\n" for line in say))
    return 1 if surplus or found.lost or any(closed) else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
