"""Making and replacing keys, interrupted at any write: the same command completes it."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slipway.channels.keys import KeyRing, Secret, init, load_ring, protect, rotate
from slipway.channels.keys import files as key_files
from slipway.channels.moves import publish_all
from slipway.channels.upkeep import refresh
from slipway.errors import HostError
from slipway.stores.directory import DirectoryStore
from store_faults import Crash
from tuf_judge import Judge

pytestmark = pytest.mark.integration

Build = Callable[..., Path]
IMAGE = "example/1.0.0-b1/example.qcow2"


class Interrupted:
    """The writes and removals of key files, of which one fails, before or after it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int = 0, *, late: bool = False) -> None:
        self.count, self.at, self.late = 0, at, late
        for name in ("write", "remove"):
            monkeypatch.setattr(key_files, name, self._wrapped(getattr(key_files, name)))

    def _wrapped(self, real: Callable[..., None]) -> Callable[..., None]:
        def act(*args: Any) -> None:
            self.count += 1
            if self.count == self.at and not self.late:
                raise Crash
            real(*args)
            if self.count == self.at:
                raise Crash

        return act


def privates(keys: Path) -> dict[str, bytes]:
    """Every private key by its file's name."""
    return {path.name: path.read_bytes() for path in keys.rglob("*.pem")}


@pytest.mark.parametrize(
    ("role", "steps"), [("timestamp", 7), ("snapshot", 7), ("targets", 7), ("root", 10)]
)
def test_a_rotation_that_is_interrupted_at_any_write_is_completed_by_the_next(
    tmp_path: Path,
    store: DirectoryStore,
    build: Build,
    monkeypatch: pytest.MonkeyPatch,
    role: str,
    steps: int,
) -> None:
    prepared = tmp_path / "prepared"
    before = init(
        "stable",
        prepared,
        root_keys=3 if role == "root" else 1,
        threshold=2 if role == "root" else 1,
    )
    publish_all(store, before, [build(1)])
    with monkeypatch.context() as patch:
        counted = Interrupted(patch)
        rotate("stable", Path(shutil.copytree(prepared, tmp_path / "counted")), role)
    assert counted.count == steps
    for at in range(1, steps + 1):
        for late in (False, True):
            keys = Path(shutil.copytree(prepared, tmp_path / f"keys-{at}-{late}"))
            old = privates(keys)
            with monkeypatch.context() as patch, pytest.raises(Crash):
                Interrupted(patch, at, late=late)
                rotate("stable", keys, role)
            if not list((keys / "stable").glob(f"{2 if role == 'root' else 3}.root.json")):
                # nothing is lost before the new root is there
                assert old.items() <= privates(keys).items()
            whole = at == steps and late
            after = load_ring("stable", keys) if whole else rotate("stable", keys, role)
            assert len(after.roots) == (2 if role == "root" else 3)
            assert not (keys / "stable/change.json").exists()
            assert {key.keyid for key in after.public(role)}.isdisjoint(
                key.keyid for key in before.public(role)
            )
            assert len(privates(keys)) == len(old)
            copy = DirectoryStore(
                Path(shutil.copytree(store.directory, tmp_path / f"store-{at}-{late}"))
            )
            refresh(copy, after)
            assert Judge(copy, "stable", before.roots[0], tmp_path / f"judge-{at}-{late}").has(
                IMAGE
            )


def test_a_rotation_without_space_is_completed_once_there_is_some(
    keys: Path, stable: KeyRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = os.fsync, [0]
    for at in range(1, 6):
        calls[0] = 0

        def fsync(descriptor: int, at: int = at) -> None:
            calls[0] += 1
            if calls[0] == at:
                raise OSError(errno.ENOSPC, "No space left on device")
            real(descriptor)

        number = len(load_ring("stable", keys).roots)
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fsync)
            with pytest.raises(HostError) as caught:
                rotate("stable", keys, "targets")
        assert str(caught.value) == (
            f"error: no space left in {keys / 'stable'}\n"
            "  hint: free some space, or run: invoke cache prune"
        )
        assert len(rotate("stable", keys, "targets").roots) == number + 2
    assert len(list((keys / "stable").glob("*.pem"))) == 4


def test_nothing_uses_keys_of_which_a_change_is_not_whole(
    keys: Path, stable: KeyRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(Crash):
        Interrupted(patch, 3)
        rotate("stable", keys, "targets")
    with pytest.raises(HostError) as caught:
        load_ring("stable", keys)
    assert str(caught.value) == (
        f"error: a change of the keys in {keys / 'stable'} was interrupted\n"
        "  hint: complete it, run again: invoke keys rotate stable --role targets"
    )
    assert len(rotate("stable", keys, "snapshot").roots) == 5  # completes the one, and does its own


def test_keys_that_were_begun_are_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        counted = Interrupted(patch)
        init("stable", tmp_path / "counted", root_keys=3, threshold=2)
    for at in range(1, counted.count + 1):
        for late in (False, True):
            keys = tmp_path / f"{at}-{late}"
            with monkeypatch.context() as patch, pytest.raises(Crash):
                Interrupted(patch, at, late=late)
                init("stable", keys, root_keys=3, threshold=2)
            if not (at == counted.count and late):
                init("stable", keys, root_keys=3, threshold=2)
            ring = load_ring("stable", keys)
            assert len(ring.of("root")) == 3
            assert len(privates(keys)) == 6
            assert not (keys / "stable/change.json").exists()


def test_a_passphrase_that_was_interrupted_is_completed(
    keys: Path, stable: KeyRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(Crash):
        Interrupted(patch, 3)
        protect("stable", keys, Secret(b"one"))
    protect("stable", keys, Secret(b"one"))
    protected = [name for name, pem in privates(keys).items() if b"ENCRYPTED" in pem]
    assert sorted(name.partition("-")[0] for name in protected) == ["root", "targets"]
