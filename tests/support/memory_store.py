"""A store in memory whose clock a test moves: the whole Store Protocol, quick to copy."""

from __future__ import annotations

import hashlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from slipway.errors import StoreError
from slipway.stores import (
    MAX_READ,
    AlreadyExists,
    Blob,
    Conflict,
    NotFound,
    Status,
    TooLarge,
    check_key,
)

__all__ = ["MemoryStore"]

_copies = itertools.count(1)


class MemoryStore:
    """Objects by key: content, version, time of writing.

    Args:
        clock: The store's clock, in seconds since 1970.
    """

    url = "memory://"

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self.objects: dict[str, tuple[bytes, str, float]] = {}
        self._lock = threading.Lock()

    def copy(self, clock: Callable[[], float]) -> MemoryStore:
        """Return a store with the same objects, another clock, and another name: nobody has seen it
        before.
        """
        other = MemoryStore(clock)
        other.url = f"memory://{next(_copies)}"
        other.objects = dict(self.objects)
        return other

    def digest(self) -> str:
        """Return a hash of all contents and times."""
        state = hashlib.sha256()
        for key, (data, _, modified) in sorted(self.objects.items()):
            state.update(f"{key}\0{hashlib.sha256(data).hexdigest()}\0{modified}\0".encode())
        return state.hexdigest()

    def _put(self, key: str, data: bytes) -> str:
        # Two writers of the same content have different versions, and the order of writes makes no
        # difference.
        before = self.objects.get(key)
        etag = hashlib.sha256((before[1] if before else "").encode() + b"\0" + data).hexdigest()
        self.objects[key] = (data, etag, self.clock())
        return etag

    def _get(self, key: str) -> tuple[bytes, str, float]:
        check_key(key)
        try:
            return self.objects[key]
        except KeyError:
            raise NotFound(f"there is no {key} in {MemoryStore.url}") from None

    def create(self, key: str, data: bytes) -> bool:
        check_key(key)
        with self._lock:
            if key not in self.objects:
                self._put(key, data)
                return True
            if self.objects[key][0] != data:
                raise AlreadyExists(
                    f"{key} exists already with another content",
                    hint="what is published is never replaced",
                )
            return False

    def create_file(self, key: str, path: Path, *, sha256: str) -> bool:
        data = path.read_bytes()
        found = hashlib.sha256(data).hexdigest()
        if found != sha256:
            raise StoreError(f"the new content of {key} has the SHA-256 {found}, expected {sha256}")
        return self.create(key, data)

    def swap(self, key: str, data: bytes, *, etag: str | None) -> str:
        check_key(key)
        with self._lock:
            there = self.objects.get(key)
            if there is None and etag is not None:
                raise Conflict(f"{key} is not there any more")
            if there is not None and there[1] != etag:
                raise Conflict(f"{key} was changed by another writer")
            return self._put(key, data)

    def read(self, key: str, *, limit: int = MAX_READ) -> Blob:
        data, etag, _ = self._get(key)
        if len(data) > limit:
            raise TooLarge(f"{key} in {self.url} is larger than {limit} bytes")
        return Blob(data=data, etag=etag)

    def read_range(self, key: str, start: int, length: int) -> bytes:
        return self._get(key)[0][start : start + length]

    def list(self, prefix: str = "") -> Iterator[Status]:
        found = [
            status
            for key in sorted(self.objects)
            if key.startswith(prefix) and (status := self.stat(key))
        ]
        return iter(found)

    def stat(self, key: str) -> Status | None:
        try:
            data, _, modified = self._get(key)
        except NotFound:
            return None
        return Status(key=key, size=len(data), modified=modified)

    def delete(self, key: str) -> None:
        check_key(key)
        with self._lock:
            self.objects.pop(key, None)

    def renew(self, key: str) -> None:
        data, etag, _ = self._get(key)
        self.objects[key] = (data, etag, self.clock())

    def now(self) -> float:
        return self.clock()

    def sweep(self, before: float) -> int:
        return 0
