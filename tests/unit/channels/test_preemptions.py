"""The real collection, promotion and commit, each interrupted once, before every one of its operations at the store.

The bound: two actors, and one preemption, in which the other one runs to its end. What needs more than that, or two at
the same time for longer, is searched for in test_interleavings.py, over a model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from slipway.channels.client import audit
from slipway.channels.collect import GRACE_S, collect
from slipway.channels.keys import KeyRing
from slipway.channels.moves import promote, publish_all, withdraw
from slipway.channels.state import channels_in, read_channel
from slipway.errors import StoreError
from slipway.stores import Blob, Status, Store
from slipway.stores.directory import DirectoryStore
from store_faults import WrappedStore

Build = Callable[..., Path]
Act = Callable[[Store], object]


class SteppingStore(WrappedStore):
    """Before its nth operation another actor runs; its clock is ahead, so that what is there is old."""

    def __init__(self, store: Store, rival: Act = lambda store: None, at: int = 0, ahead: float = 0.0) -> None:
        super().__init__(store)
        self.rival, self.at, self.ahead, self.steps = rival, at, ahead, 0

    def _step(self) -> None:
        self.steps += 1
        if self.steps == self.at:
            self.rival(self.store)

    def write(self, key: str, size: int, act: Callable[[], Any]) -> Any:
        self._step()
        return act()

    def read(self, key: str) -> Blob:
        self._step()
        return super().read(key)

    def read_range(self, key: str, start: int, length: int) -> bytes:
        self._step()
        return super().read_range(key, start, length)

    def list(self, prefix: str = "") -> Iterator[Status]:
        self._step()
        return super().list(prefix)

    def stat(self, key: str) -> Status | None:
        self._step()
        return super().stat(key)

    def now(self) -> float:
        self._step()
        return self.store.now() + self.ahead


@pytest.mark.parametrize("first", ["collection", "promotion"])
def test_nothing_that_a_channel_refers_to_is_lost(tmp_path: Path, ring: KeyRing, stable: KeyRing, build: Build, first: str) -> None:
    """A promotion, and the withdrawal of what it promotes from its source, beside a collection eight days later."""
    roots = {keys.channel: keys.roots[0] for keys in (ring, stable)}
    first_build, second_build = build(1), build(2)

    def move(store: Store) -> None:
        promote(store, stable, lambda: read_channel(store, "nightly", ring.roots[0]), "example", "b1")
        withdraw(store, ring, "example", "b1", "moved")

    def drop_and_collect(store: Store) -> None:
        withdraw(store, ring, "example", "b1", "moved")
        collect(SteppingStore(store, ahead=GRACE_S - 3600.0), roots)

    at, steps = 0, 1
    while at <= steps:
        below = DirectoryStore(tmp_path / f"{first}-{at}")
        for folder in (first_build, second_build):
            publish_all(below, ring, [folder])
        if first == "collection":
            store = SteppingStore(below, move, at, ahead=GRACE_S + 86400.0)
            collect(store, roots)
        else:
            store = SteppingStore(below, drop_and_collect, at)
            try:
                promote(store, stable, lambda store=store: read_channel(store, "nightly", ring.roots[0]), "example", "b1")  # type: ignore[misc]
            except StoreError:
                assert at  # it was withdrawn before the promotion looked
        for name in channels_in(below):
            audit(below, read_channel(below, name, roots[name]), 0.0)
        at, steps = at + 1, store.steps
    print(f"{steps} places")
    assert steps > 10
