"""Shuts out who guesses passwords: Dovecot asks here before it compares one, for IMAP and for
Postfix, and reports after.

After more than 10 wrong passwords in five minutes an address is refused for five minutes, but for
users who logged in from there before: one program with an old password does not lock out an office.
Of IPv6, a /64 is one address. What is counted is forgotten at a restart. (Dovecot's manual,
"Authentication Policy".)
"""

from __future__ import annotations

import http.server
import ipaddress
import json
import sys
import threading
import time

LIMIT, WINDOW_S, KNOWN_S, MOST = 10, 300.0, 30 * 86400.0, 100_000
PORT = 4001


class Guard:
    """Counts wrong passwords by address."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wrong: dict[str, tuple[float, int]] = {}
        self._known: dict[tuple[str, str], float] = {}
        self._refused: dict[str, float] = {}

    def allows(self, source: str, user: str, now: float) -> bool:
        """Return whether a password may be compared."""
        with self._lock:
            if now - self._refused.get(source, -WINDOW_S) >= WINDOW_S:
                return True
            return now - self._known.get((source, user), -KNOWN_S) < KNOWN_S

    def learn(self, source: str, user: str, right: bool, now: float) -> None:
        """Count a wrong password, remember a user who gave the right one."""
        with self._lock:
            if right:
                self._known[source, user] = now
                self._forget(self._known)
                return
            if self._count(source, now) > LIMIT:
                self._refused[source] = now
                self._forget(self._refused)
                print(f"refused for {WINDOW_S:.0f} s after wrong passwords: {source}", flush=True)
            if self._count(f"{source} {user}", now) > LIMIT:
                self._known.pop((source, user), None)

    def _count(self, name: str, now: float) -> int:
        since, count = self._wrong.get(name, (now, 0))
        if now - since >= WINDOW_S:
            since, count = now, 0
        self._wrong[name] = (since, count + 1)
        self._forget(self._wrong)
        return count + 1

    @staticmethod
    def _forget(table: dict) -> None:
        """Drop the oldest entries of a table that is full."""
        while len(table) > MOST:
            del table[next(iter(table))]


GUARD = Guard()


def network(remote: str) -> str:
    """Return the address that is counted, or nothing for this machine itself."""
    try:
        address = ipaddress.ip_address(remote)
    except ValueError:
        return ""
    address = getattr(address, "ipv4_mapped", None) or address
    if address.is_loopback:
        return ""
    return (
        str(ipaddress.ip_network(f"{address}/64", strict=False))
        if address.version == 6
        else str(address)
    )


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers Dovecot."""

    protocol_version = "HTTP/1.1"
    timeout = 120

    def do_POST(self) -> None:
        """Take one question or report."""
        try:
            said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        except (TypeError, ValueError):
            return self.send_error(400)
        source, user, now = (
            network(str(said.get("remote", ""))),
            str(said.get("login", "")).lower(),
            time.monotonic(),
        )
        status = 0
        if "command=report" in self.path:
            if source and not said.get("policy_reject"):
                GUARD.learn(source, user, bool(said.get("success")), now)
        elif source and not GUARD.allows(source, user, now):
            status = -1
        body = json.dumps(
            {"status": status, "msg": "too many wrong passwords" if status else ""}
        ).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log no question: Dovecot logs what became of it."""


if __name__ == "__main__":
    try:
        http.server.ThreadingHTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
    except KeyboardInterrupt:
        sys.exit()
