"""A crash before or after any write: users see the state before or the one after, and the next run
completes it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from slipway.channels.audit import examine
from slipway.channels.collect import collect
from slipway.channels.keys import KeyRing, init, rotate
from slipway.channels.moves import promote, publish_all, withdraw
from slipway.channels.state import read_channel
from slipway.channels.upkeep import Policy, prune, refresh
from slipway.stores import Store
from slipway.stores.directory import DirectoryStore
from store_faults import CountingStore, Crash, CrashingStore
from tuf_judge import Judge

pytestmark = pytest.mark.integration

Build = Callable[..., Path]
Act = Callable[[Store], object]


def current(store: Store, ring: KeyRing) -> str | None:
    return read_channel(store, ring.channel, ring.roots[0]).shelf("example").current


def seen(store: Store, ring: KeyRing, folder: Path) -> frozenset[str]:
    """What a user can download of all that there ever was."""
    judge = Judge(store, ring.channel, ring.roots[0], folder)
    updater = judge.updater()
    found = set()
    for number in range(1, 5):
        path = f"example/1.0.0-b{number}/example.qcow2"
        info = updater.get_targetinfo(path)
        if info is not None:
            updater.download_target(info, str(folder / "download"))
            found.add(path)
    return frozenset(found)


def try_all(
    tmp_path: Path, prepared: Path, ring: KeyRing, act: Act, *, same_view: bool = False
) -> int:
    """Crash before and after every write that an act makes on a copy of a store.

    Returns their number.
    """
    counting = CountingStore(DirectoryStore(Path(shutil.copytree(prepared, tmp_path / "count"))))
    before = seen(counting, ring, tmp_path / "judge-before")
    act(counting)
    after = seen(counting, ring, tmp_path / "judge-after")
    assert (before == after) == same_view
    for at in range(1, len(counting.writes) + 1):
        for late in (False, True):
            store = DirectoryStore(Path(shutil.copytree(prepared, tmp_path / f"store-{at}-{late}")))
            user = tmp_path / f"judge-{at}-{late}"
            assert seen(store, ring, user) == before
            with pytest.raises(Crash):
                act(CrashingStore(store, at=at, after=late))
            assert seen(store, ring, user) in (before, after)
            lease = store.directory / "gc/lease"
            if lease.exists():
                os.utime(lease, (0, 0))  # what a stopped collection holds is held for six hours
            act(store)
            assert seen(store, ring, user) == after
            examine(
                store, read_channel(store, ring.channel, ring.roots[0]), store.now()
            ).require_sound()
    print(f"{2 * len(counting.writes)} crashes")
    return len(counting.writes)


@pytest.fixture
def prepared(store: DirectoryStore, ring: KeyRing, build: Build) -> Path:
    for number in (1, 2):
        publish_all(store, ring, [build(number)])
    return store.directory


def test_publish(tmp_path: Path, prepared: Path, ring: KeyRing, build: Build) -> None:
    folder = build(3)
    assert try_all(tmp_path, prepared, ring, lambda store: publish_all(store, ring, [folder])) == 10


def test_the_first_publish(tmp_path: Path, ring: KeyRing, build: Build) -> None:
    folder = build(1)
    for at in range(1, 13):
        for late in (False, True):
            store = DirectoryStore(tmp_path / f"store-{at}-{late}")
            with pytest.raises(Crash):
                publish_all(CrashingStore(store, at=at, after=late), ring, [folder])
            publish_all(store, ring, [folder])
            assert seen(store, ring, tmp_path / f"judge-{at}-{late}") == {
                "example/1.0.0-b1/example.qcow2"
            }
    publish_all(CrashingStore(DirectoryStore(tmp_path / "all"), at=13, after=False), ring, [folder])


def test_promote(tmp_path: Path, prepared: Path, ring: KeyRing, keys: Path) -> None:
    stable = init("stable", keys)
    store = DirectoryStore(prepared)
    promote(store, stable, lambda: read_channel(store, "nightly", ring.roots[0]), "example", "b1")

    def act(store: Store) -> object:
        return promote(
            store, stable, lambda: read_channel(store, "nightly", ring.roots[0]), "example", "b2"
        )

    assert try_all(tmp_path, prepared, stable, act) == 4


def test_withdraw(tmp_path: Path, prepared: Path, ring: KeyRing) -> None:
    assert (
        try_all(
            tmp_path, prepared, ring, lambda store: withdraw(store, ring, "example", "b2", "a test")
        )
        == 3
    )


@pytest.mark.parametrize("role", ["timestamp", "targets", "root"])
def test_rotation(tmp_path: Path, prepared: Path, ring: KeyRing, keys: Path, role: str) -> None:
    after = rotate("nightly", keys, role)

    def act(store: Store) -> object:
        return refresh(store, after)

    writes = try_all(tmp_path, prepared, ring, act, same_view=True)
    # New timestamp keys sign no targets anew.
    assert writes == {"root": 1 + 2, "targets": 2 + 4 + 2, "timestamp": 2 + 2 + 2}[role]


def test_collection(tmp_path: Path, prepared: Path, ring: KeyRing) -> None:
    store = DirectoryStore(prepared)
    prune(store, ring, Policy(days=1, weeks=0, months=0))
    withdraw(store, ring, "example", "b1", "a test")
    long_ago = store.now() - 10 * 86400
    for path in store.directory.rglob("*"):
        os.utime(path, (long_ago, long_ago))

    def act(store: Store) -> object:
        return collect(store, {"nightly": ring.roots[0]})

    writes = try_all(tmp_path, prepared, ring, act, same_view=True)
    assert writes >= 10
    act(store)
    assert {status.key.split("/")[2] for status in store.list("targets/")} == {"1.0.0-b2"}
