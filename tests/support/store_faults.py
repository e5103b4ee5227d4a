"""Stores that do what networks and power failures do, around any other store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from slipway.stores import MAX_READ, Blob, Status, Store

__all__ = ["CountingStore", "Crash", "CrashingStore", "WrappedStore"]


class Crash(BaseException):
    """The process ends here."""


class WrappedStore:
    """Another store; subclasses change what :meth:`write` does."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.url = store.url

    def write(self, key: str, size: int, act: Callable[[], Any]) -> Any:
        """Do a write of so many bytes."""
        return act()

    def create(self, key: str, data: bytes) -> bool:
        return bool(self.write(key, len(data), lambda: self.store.create(key, data)))

    def create_file(self, key: str, path: Path, *, sha256: str) -> bool:
        return bool(
            self.write(
                key, path.stat().st_size, lambda: self.store.create_file(key, path, sha256=sha256)
            )
        )

    def swap(self, key: str, data: bytes, *, etag: str | None) -> str:
        return str(self.write(key, len(data), lambda: self.store.swap(key, data, etag=etag)))

    def delete(self, key: str) -> None:
        self.write(key, 0, lambda: self.store.delete(key))

    def read(self, key: str, *, limit: int = MAX_READ) -> Blob:
        return self.store.read(key, limit=limit)

    def read_range(self, key: str, start: int, length: int) -> bytes:
        return self.store.read_range(key, start, length)

    def list(self, prefix: str = "") -> Iterator[Status]:
        return self.store.list(prefix)

    def stat(self, key: str) -> Status | None:
        return self.store.stat(key)

    def renew(self, key: str) -> None:
        self.write(key, 0, lambda: self.store.renew(key))

    def now(self) -> float:
        return self.store.now()

    def sweep(self, before: float) -> int:
        return self.store.sweep(before)


class CrashingStore(WrappedStore):
    """Ends the process before or after its nth write: nothing is written by it after that, whatever
    tidies up.
    """

    def __init__(self, store: Store, *, at: int, after: bool) -> None:
        super().__init__(store)
        self.left, self.after = at, after

    def write(self, key: str, size: int, act: Callable[[], Any]) -> Any:
        self.left -= 1
        if self.left < 0 or (self.left == 0 and not self.after):
            raise Crash
        result = act()
        if self.left == 0:
            raise Crash
        return result


class CountingStore(WrappedStore):
    """Notes the key and size of every write, and the key and size of every read."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.writes: list[tuple[str, int]] = []
        self.reads: list[tuple[str, int]] = []

    def write(self, key: str, size: int, act: Callable[[], Any]) -> Any:
        self.writes.append((key, size))
        return act()

    def read(self, key: str, *, limit: int = MAX_READ) -> Blob:
        blob = super().read(key, limit=limit)
        self.reads.append((key, len(blob.data)))
        return blob

    def read_range(self, key: str, start: int, length: int) -> bytes:
        data = super().read_range(key, start, length)
        self.reads.append((key, len(data)))
        return data
