"""HTTP connections with limits for each request: received bytes and waiting time.

A socket's own timeout is for one call: a server sending one byte a second is never late. So every
received byte is counted here, below the HTTP library: status lines, headers, interim answers,
chunks, trailers and bodies. Invariants: received bytes stay within the limit of :func:`allowed`; a
request outside of it has a small fixed limit. The peer is awaited no longer than a fixed patience,
plus the time earned by its earlier bytes.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

from slipway.errors import StoreError

__all__ = ["MIN_SPEED", "OVERHEAD", "PATIENCE_S", "allowed", "paced"]

#: A peer's credit, in seconds of silence: slowness uses it up, speed refills it.
PATIENCE_S = 30.0
#: Bytes a second to keep the credit as it is.
MIN_SPEED: Final = 4096
#: Further bytes for headers and the like, besides the bodies.
OVERHEAD: Final = 1 << 20
#: Allowed reads at a connection's end; after more, the library is in a loop.
_MAX_ENDS: Final = 1000


@dataclass(slots=True)
class _Allowance:
    url: str
    what: str
    size: int
    patience_s: float
    credit_s: float
    received: int = 0
    ends: int = 0
    problem: StoreError | None = None

    def require(self) -> None:
        """Raise the error again after a limit was reached, because libraries retry."""
        if self.problem:
            raise self.problem

    def moved(self, count: int, waited_s: float, *, received: bool) -> None:
        """Count the bytes of one call and the time it took."""
        self.credit_s = min(self.credit_s - waited_s + count / MIN_SPEED, self.patience_s)
        self.received += count if received else 0
        self.ends = self.ends + 1 if received and not count else 0
        if self.received > self.size + OVERHEAD:
            hint = "its server is broken, or somebody changed what it has; tell its administrator"
            self.problem = StoreError(
                f"{self.url} sends more than {self.size} bytes for {self.what}", hint=hint
            )
        elif self.credit_s < 0:
            speed = f"less than {MIN_SPEED} bytes a second for {self.patience_s:g} seconds"
            hint = "try again later, or from another network"
            self.problem = StoreError(
                f"{self.url} sends {self.what} too slowly: {speed}", hint=hint
            )
        elif self.ends > _MAX_ENDS:
            self.problem = StoreError(f"{self.url} cut the connection", hint="try again")
        self.require()


_CURRENT: ContextVar[_Allowance | None] = ContextVar("allowance", default=None)


@contextmanager
def allowed(url: str, what: str, size: int, *, patience_s: float | None = None) -> Iterator[None]:
    """Limit this thread's requests in the block: together they may receive ``size`` bytes.

    Args:
        url: The store, for messages.
        what: The thing asked for, for messages.
        size: Bytes of bodies; some more are allowed for headers.

    Raises:
        StoreError: A limit was reached.
    """
    patience_s = PATIENCE_S if patience_s is None else patience_s
    allowance = _Allowance(url, what or "an answer", size, patience_s, patience_s)
    token = _CURRENT.set(allowance)
    try:
        yield
    except Exception as error:
        if allowance.problem and error is not allowance.problem:
            raise allowance.problem from error
        raise
    finally:
        _CURRENT.reset(token)


class _Reader(io.RawIOBase):
    """The receiving side of a socket, with counting."""

    def __init__(self, raw: Any, socket: _Socket) -> None:
        self._raw = raw
        self._socket = socket

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        allowance = self._socket.allowance()
        started = time.monotonic()
        count = self._raw.readinto(buffer) or 0
        allowance.moved(count, time.monotonic() - started, received=True)
        return count

    def fileno(self) -> int:
        return int(self._raw.fileno())

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Socket:
    """A connected socket; the HTTP library does not notice the counting."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._own: _Allowance | None = None

    def allowance(self) -> _Allowance:
        """Return this thread's allowance, or else the current request's own."""
        allowance = _CURRENT.get()
        if allowance is None:
            self._own = self._own or _Allowance(
                "the server", "an answer", OVERHEAD, PATIENCE_S, PATIENCE_S
            )
            allowance = self._own
        allowance.require()
        return allowance

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def makefile(self, mode: str = "rb", buffering: int | None = None) -> Any:
        reader = _Reader(self._inner.makefile("rb", buffering=0), self)
        return reader if buffering == 0 else io.BufferedReader(reader)

    def sendall(self, data: Any, *flags: int) -> None:
        self._own = None
        allowance = self.allowance()
        started = time.monotonic()
        self._inner.sendall(data, *flags)
        size = data.nbytes if isinstance(data, memoryview) else len(data)
        allowance.moved(size, time.monotonic() - started, received=False)


def paced(pool: Any) -> Any:
    """Return a subclass of a urllib3 connection pool whose connections count."""
    base: Any = pool.ConnectionCls

    class Connection(base):  # type: ignore[misc]
        sock: Any

        def connect(self) -> None:
            super().connect()
            self.sock = _Socket(self.sock)

    return type(pool.__name__, (pool,), {"ConnectionCls": Connection})
