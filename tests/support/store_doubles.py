"""Stores that race and stores that lie, around any other store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from slipway.stores import MAX_READ, Blob, Status, Store
from store_faults import WrappedStore

__all__ = ["LyingStore", "RacingStore"]


class RacingStore(WrappedStore):
    """Runs a rival's deed once, just before the nth call of an operation, for keys that begin so.

    Args:
        operation: The name of the store's method.
        rival: The deed; it has a store of its own.
        at: Which call; calls count from 1.
        prefix: Only calls with such a key, or with such a prefix of a listing, count.
    """

    def __init__(
        self,
        store: Store,
        operation: str,
        rival: Callable[[], object],
        *,
        at: int = 1,
        prefix: str = "",
    ) -> None:
        super().__init__(store)
        assert hasattr(store, operation), operation
        self.operation, self.rival, self.left, self.prefix = operation, rival, at, prefix

    @property
    def done(self) -> bool:
        """Whether the rival has run."""
        return self.left < 1

    def _before(self, operation: str, key: str) -> None:
        if operation == self.operation and key.startswith(self.prefix):
            self.left -= 1
            if self.left == 0:
                self.rival()

    def create(self, key: str, data: bytes) -> bool:
        self._before("create", key)
        return super().create(key, data)

    def create_file(self, key: str, path: Path, *, sha256: str) -> bool:
        self._before("create_file", key)
        return super().create_file(key, path, sha256=sha256)

    def swap(self, key: str, data: bytes, *, etag: str | None) -> str:
        self._before("swap", key)
        return super().swap(key, data, etag=etag)

    def read(self, key: str, *, limit: int = MAX_READ) -> Blob:
        self._before("read", key)
        return super().read(key, limit=limit)

    def read_range(self, key: str, start: int, length: int) -> bytes:
        self._before("read_range", key)
        return super().read_range(key, start, length)

    def list(self, prefix: str = "") -> Iterator[Status]:
        self._before("list", prefix)
        return super().list(prefix)

    def stat(self, key: str) -> Status | None:
        self._before("stat", key)
        return super().stat(key)

    def delete(self, key: str) -> None:
        self._before("delete", key)
        super().delete(key)

    def renew(self, key: str) -> None:
        self._before("renew", key)
        super().renew(key)

    def now(self) -> float:
        self._before("now", "")
        return super().now()

    def sweep(self, before: float) -> int:
        self._before("sweep", "")
        return super().sweep(before)


class LyingStore(WrappedStore):
    """Answers honestly to the first read of a key, and with another content to those after it.

    Args:
        key: The key; None for a store that never lies.
        lie: Makes the other content from the true one.
        honest: How many reads get the truth.
    """

    def __init__(
        self, store: Store, key: str | None, lie: Callable[[bytes], bytes], *, honest: int = 1
    ) -> None:
        super().__init__(store)
        self.key, self.lie, self.honest, self.reads = key, lie, honest, 0

    def _lies(self, key: str) -> bool:
        """Count a read, and say whether its answer is a lie."""
        self.reads += key == self.key
        return key == self.key and self.reads > self.honest

    def read(self, key: str, *, limit: int = MAX_READ) -> Blob:
        blob = super().read(key, limit=limit)
        return Blob(data=self.lie(blob.data), etag=blob.etag) if self._lies(key) else blob

    def read_range(self, key: str, start: int, length: int) -> bytes:
        if self._lies(key):
            return self.lie(super().read(key).data)[start : start + length]
        return super().read_range(key, start, length)
