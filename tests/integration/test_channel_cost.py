"""What channels cost: bytes written by a promotion, bytes read by a new user, and whether a year
makes either worse.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from slipway.channels.commit import commit
from slipway.channels.keys import Clock, init
from slipway.channels.state import Channel, Listed
from slipway.channels.upkeep import prune, refresh
from slipway.errors import StoreError
from slipway.stores import MAX_READ, AlreadyExists, Blob, Conflict, NotFound, Status
from store_faults import CountingStore
from tuf_judge import Judge

APPLIANCES = [f"appliance-{number:02}" for number in range(12)]
FILES = ("qcow2", "ova", "vhdx", "manifest.json", "sbom.cdx.json", "provenance.intoto.json")
DAY = 86400
pytestmark = [pytest.mark.integration, pytest.mark.nightly]


class MemoryStore:
    """The whole protocol in memory: 365 nights write 20,000 files."""

    url = "memory"

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def create(self, key: str, data: bytes) -> bool:
        if key in self.objects and self.objects[key] != data:
            raise AlreadyExists(f"{key} exists already with another content")
        created = key not in self.objects
        self.objects[key] = data
        return created

    def create_file(self, key: str, path: Path, *, sha256: str) -> bool:
        raise StoreError("not here")

    def swap(self, key: str, data: bytes, *, etag: str | None) -> str:
        found = self.objects.get(key)
        if (hashlib.sha256(found).hexdigest() if found is not None else None) != etag:
            raise Conflict(f"{key} was changed by another writer")
        self.objects[key] = data
        return hashlib.sha256(data).hexdigest()

    def read(self, key: str, *, limit: int = MAX_READ) -> Blob:
        if key not in self.objects:
            raise NotFound(f"there is no {key}")
        return Blob(data=self.objects[key], etag=hashlib.sha256(self.objects[key]).hexdigest())

    def read_range(self, key: str, start: int, length: int) -> bytes:
        return self.read(key).data[start : start + length]

    def list(self, prefix: str = "") -> Iterator[Status]:
        return iter(
            [
                Status(key=key, size=len(data), modified=0)
                for key, data in sorted(self.objects.items())
                if key.startswith(prefix)
            ]
        )

    def stat(self, key: str) -> Status | None:
        return (
            Status(key=key, size=len(self.objects[key]), modified=0)
            if key in self.objects
            else None
        )

    def delete(self, key: str) -> None:
        self.objects.pop(key, None)

    def renew(self, key: str) -> None: ...

    def now(self) -> float:
        return time.time()

    def sweep(self, before: float) -> int:
        return 0


def clock_of(now: float) -> Clock:
    return lambda: now


def test_a_year_of_nights_costs_a_new_user_little_and_publishing_no_more(tmp_path: Path) -> None:
    ring = init("nightly", tmp_path / "keys", now=time.time() - 200 * DAY)
    store = CountingStore(MemoryStore())
    now = time.time() - 365 * DAY
    written: list[int] = []
    read: list[tuple[int, int]] = []
    for night in range(365):
        now += DAY

        def add(channel: Channel, now: float = now, night: int = night) -> None:
            for name in APPLIANCES:
                release = f"1.0.0-{hashlib.sha256(f'{name}{night}'.encode()).hexdigest()[:12]}"
                files = {
                    f"{name}-1.0.0.{file}": (
                        50_000_000 + night,
                        hashlib.sha256(f"{release}{file}".encode()).hexdigest(),
                    )
                    for file in FILES
                }
                channel.shelf(name).add(
                    release, Listed(created=int(now), added=int(now), files=files)
                )

        store.writes.clear()
        store.reads.clear()
        commit(store, ring, add, clock=clock_of(now))
        read.append((len(store.reads), sum(size for _, size in store.reads)))
        # Every night, really; now and then is enough for this, and five times as fast.
        if night % 7 == 0:
            prune(store, ring, clock=clock_of(now))
        if night % 28 == 0:
            refresh(store, ring, clock=clock_of(now))
        written.append(sum(size for _, size in store.writes))
        # What nobody refers to any more; garbage collection would find it by its age, which a
        # simulation does not have.
        inner = store.store
        assert isinstance(inner, MemoryStore)
        if night % 30 == 29:
            for key in [key for key in inner.objects if "snapshot" in key][:-3]:
                inner.delete(key)
    user = Judge(store, "nightly", ring.roots[0], tmp_path / "judge")
    updater = user.updater()
    newest = hashlib.sha256(f"{APPLIANCES[0]}364".encode()).hexdigest()[:12]
    assert (
        updater.get_targetinfo(f"{APPLIANCES[0]}/1.0.0-{newest}/{APPLIANCES[0]}-1.0.0.qcow2")
        is not None
    )
    fetched = sum(size for _, size in user.fetched)
    print(
        f"a new user fetches {fetched} bytes of metadata; a night writes {written[61]} bytes "
        f"after 2 months, {written[-2]} after 12"
    )
    assert fetched < 100_000
    print(f"a night reads {read[121]} (requests, bytes) after 4 months, {read[-2]} after 12")
    assert written[-2] < written[121] * 1.5
    assert read[-2][0] == read[121][0]
    assert read[-2][1] < read[121][1] * 1.5
