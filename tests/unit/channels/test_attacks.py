"""What an enemy does who can write to the store, or who has stolen nightly's keys.

Python-tuf's own client is the judge.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tuf.api.exceptions import (
    BadVersionNumberError,
    DownloadError,
    DownloadLengthMismatchError,
    ExpiredMetadataError,
    LengthOrHashMismatchError,
    RepositoryError,
    UnsignedMetadataError,
)
from tuf.api.metadata import Metadata

from slipway.channels.client import Client
from slipway.channels.commit import Deadline, write_changes
from slipway.channels.download import download
from slipway.channels.keys import KeyRing, rotate
from slipway.channels.moves import promote, publish_all, withdraw
from slipway.channels.recover import look, restore
from slipway.channels.state import read_channel
from slipway.channels.upkeep import refresh
from slipway.errors import HostError, VerificationError
from slipway.records.reference import ReleaseRef
from slipway.stores.directory import DirectoryStore
from tuf_judge import Judge

Build = Callable[..., Path]
NIGHTLY, STABLE = "metadata/nightly", "metadata/stable"


@pytest.fixture
def user(store: DirectoryStore, ring: KeyRing, build: Build, tmp_path: Path) -> Judge:
    """A user of nightly who has seen its first release; the second one is there, too."""
    publish_all(store, ring, [build(1)])
    judge = Judge(store, "nightly", ring.roots[0], tmp_path / "judge")
    assert judge.has("example/1.0.0-b1/example.qcow2")
    publish_all(store, ring, [build(2)])
    return judge


def put(store: DirectoryStore, key: str, data: bytes) -> None:
    """Overwrite whatever is there: an enemy knows no conditions."""
    path = store.directory / key
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def altered(data: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    document = json.loads(data)
    change(document["signed"])
    return json.dumps(document).encode()


def refused(
    store: DirectoryStore,
    ring: KeyRing,
    tmp_path: Path,
    channel: str = "nightly",
    memory: str = "fresh",
) -> None:
    """Our own client says no as well, with a message for people."""
    with pytest.raises(VerificationError):
        client = Client(store, channel, ring.roots[0], tmp_path / memory)
        shelf = client.shelf("example")
        download(
            store,
            client.wanted(ReleaseRef("example", str(shelf.current)), "example.qcow2"),
            tmp_path / "out",
        )


def test_rollback(
    store: DirectoryStore, ring: KeyRing, user: Judge, build: Build, tmp_path: Path
) -> None:
    old = store.read(f"{NIGHTLY}/timestamp.json").data
    publish_all(store, ring, [build(3)])
    user.updater()
    Client(store, "nightly", ring.roots[0], tmp_path / "memory")
    put(store, f"{NIGHTLY}/timestamp.json", old)
    with pytest.raises(BadVersionNumberError, match="New timestamp version 2 must be >= 3"):
        user.updater()
    refused(store, ring, tmp_path, memory="memory")


def test_rollback_of_the_snapshot_behind_a_timestamp(
    store: DirectoryStore, user: Judge, ring: KeyRing, tmp_path: Path
) -> None:
    number = json.loads(store.read(f"{NIGHTLY}/timestamp.json").data)["signed"]["version"]
    put(
        store,
        f"{NIGHTLY}/{number}.snapshot.json",
        store.read(f"{NIGHTLY}/{number - 1}.snapshot.json").data,
    )
    with pytest.raises(LengthOrHashMismatchError):
        user.updater()
    refused(store, ring, tmp_path)


def test_freeze(store: DirectoryStore, ring: KeyRing, build: Build, tmp_path: Path) -> None:
    """The channel goes on, but this mirror does not: the timestamp tells, a week later."""
    publish_all(store, ring, [build(1)], clock=lambda: 1_500_000_000.0)
    with pytest.raises(ExpiredMetadataError):
        Judge(store, "nightly", ring.roots[0], tmp_path / "judge").updater()
    refused(store, ring, tmp_path)
    with pytest.raises(
        VerificationError, match="expired on 2017-07-21: newer ones may have been hidden"
    ):
        refresh(store, ring)
    restore(store, ring, look(store, ring, clock=time.time), clock=time.time)
    assert Judge(store, "nightly", ring.roots[0], tmp_path / "later").has(
        "example/1.0.0-b1/example.qcow2"
    )


@pytest.mark.parametrize("role", ["snapshot", "targets"])
def test_expired_metadata_of_other_roles(
    store: DirectoryStore, ring: KeyRing, build: Build, tmp_path: Path, role: str
) -> None:
    past = 1_500_000_000.0
    publish_all(store, ring, [build(1)], clock=lambda: past)
    if role == "targets":  # the timestamp and the snapshot are fresh, what they list is not
        write_changes(ring, read_channel(store, "nightly", ring.roots[0]), time.time, Deadline())
    else:
        signed: Any = Metadata.from_bytes(store.read(f"{NIGHTLY}/timestamp.json").data)
        signed.signed.expires = signed.signed.expires.replace(year=2099)
        put(store, f"{NIGHTLY}/timestamp.json", ring.sign(signed, "timestamp"))
    with pytest.raises(ExpiredMetadataError, match=role):
        Judge(store, "nightly", ring.roots[0], tmp_path / "judge").has(
            "example/1.0.0-b1/example.qcow2"
        )
    refused(store, ring, tmp_path)


def test_mix_and_match(store: DirectoryStore, ring: KeyRing, user: Judge, tmp_path: Path) -> None:
    """An appliance's older list under the name of the newer one, both signed by the right key."""
    put(store, f"{NIGHTLY}/2.example.json", store.read(f"{NIGHTLY}/1.example.json").data)
    with pytest.raises(LengthOrHashMismatchError):
        user.has("example/1.0.0-b1/example.qcow2")
    refused(store, ring, tmp_path)


def test_one_appliances_list_in_place_of_anothers(
    store: DirectoryStore, ring: KeyRing, build: Build, tmp_path: Path
) -> None:
    """It is signed by the right key and has the right number, but may not vouch for the other's
    paths.
    """
    publish_all(store, ring, [build(1, "web"), build(1, "mail")])
    put(store, f"{NIGHTLY}/1.web.json", store.read(f"{NIGHTLY}/1.mail.json").data)
    judge = Judge(store, "nightly", ring.roots[0], tmp_path / "judge")
    with pytest.raises(LengthOrHashMismatchError):
        judge.has("web/1.0.0-b1/web.qcow2")


def test_an_altered_blob(store: DirectoryStore, ring: KeyRing, user: Judge, tmp_path: Path) -> None:
    info = user.updater().get_targetinfo("example/1.0.0-b2/example.qcow2")
    assert info
    key = f"targets/example/1.0.0-b2/{info.hashes['sha256']}.example.qcow2"
    for data in (b"E" + store.read(key).data[1:], store.read(key).data[:-1]):
        put(store, key, data)
        with pytest.raises(LengthOrHashMismatchError):
            user.download("example/1.0.0-b2/example.qcow2")
        refused(store, ring, tmp_path)
        assert list((tmp_path / "out").iterdir()) == []


def test_altered_metadata(
    store: DirectoryStore, ring: KeyRing, user: Judge, tmp_path: Path
) -> None:
    def extend(signed: dict[str, Any]) -> None:
        signed["expires"] = "2099-01-01T00:00:00Z"

    for key in (
        f"{NIGHTLY}/timestamp.json",
        f"{NIGHTLY}/2.snapshot.json",
        f"{NIGHTLY}/1.targets.json",
        f"{NIGHTLY}/2.example.json",
    ):
        good = store.read(key).data
        put(store, key, altered(good, extend))
        fresh = Judge(store, "nightly", ring.roots[0], tmp_path / key.replace("/", "-"))
        with pytest.raises(
            UnsignedMetadataError if "timestamp" in key else LengthOrHashMismatchError
        ):
            fresh.has("example/1.0.0-b2/example.qcow2")
        with pytest.raises(VerificationError):
            read_channel(store, "nightly", ring.roots[0]).shelf("example")
        refused(store, ring, tmp_path)
        put(store, key, good)
    assert user.has("example/1.0.0-b2/example.qcow2")


def test_the_current_release_cannot_be_changed_either(
    store: DirectoryStore, ring: KeyRing, user: Judge, tmp_path: Path
) -> None:
    def point(signed: dict[str, Any]) -> None:
        signed["x-slipway"]["current"] = "1.0.0-b1"

    put(
        store,
        f"{NIGHTLY}/2.example.json",
        altered(store.read(f"{NIGHTLY}/2.example.json").data, point),
    )
    with pytest.raises(LengthOrHashMismatchError):
        user.has("example/1.0.0-b1/example.qcow2")
    refused(store, ring, tmp_path)


def test_nightlys_keys_cannot_sign_stable(
    store: DirectoryStore,
    ring: KeyRing,
    stable: KeyRing,
    build: Build,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    publish_all(store, ring, [build(1)])
    promote(store, stable, lambda: read_channel(store, "nightly", ring.roots[0]), "example")
    judge = Judge(store, "stable", stable.roots[0], tmp_path / "judge")
    assert judge.has("example/1.0.0-b1/example.qcow2")
    stolen = KeyRing(channel="stable", roots=stable.roots, signers=ring.signers, folder=ring.folder)
    with pytest.raises(HostError) as caught:
        publish_all(store, stolen, [build(2)])
    assert str(caught.value) == (
        "error: the targets key that is here is not one that the channel stable accepts\n"
        "  hint: it was replaced: get the new one from where it was made, with: invoke keys export"
    )
    for module in ("commit", "moves"):  # a thief does not care
        monkeypatch.setattr(f"slipway.channels.{module}.require_valid", lambda ring, channel: None)
    publish_all(store, stolen, [build(2)])
    with pytest.raises(UnsignedMetadataError, match="signed by 0/1 keys"):
        judge.updater()
    with pytest.raises(
        VerificationError,
        match="the timestamp metadata of the channel stable is not signed by its keys",
    ):
        read_channel(store, "stable", stable.roots[0])
    refused(store, stable, tmp_path, "stable")


def test_a_deleted_timestamp(store: DirectoryStore, user: Judge) -> None:
    store.delete(f"{NIGHTLY}/timestamp.json")
    with pytest.raises(DownloadError):
        user.updater()


def test_endless_data(store: DirectoryStore, ring: KeyRing, user: Judge, tmp_path: Path) -> None:
    for key, length in (
        (f"{NIGHTLY}/timestamp.json", 20_000),
        (f"{NIGHTLY}/2.root.json", 600_000),
        (f"{NIGHTLY}/2.example.json", 5_100_000),
    ):
        good = store.read(key).data if store.stat(key) else None
        put(store, key, b" " * length)
        with pytest.raises(DownloadLengthMismatchError):
            user.has("example/1.0.0-b2/example.qcow2")
        if good is None:
            store.delete(key)
        else:
            put(store, key, good)
    (key,) = [
        status.key
        for status in store.list("targets/example/1.0.0-b2/")
        if status.key.endswith(".qcow2")
    ]
    put(store, key, store.read(key).data + b" " * 1_000_000)
    with pytest.raises(DownloadLengthMismatchError):
        user.has("example/1.0.0-b2/example.qcow2")


@pytest.mark.parametrize("role", ["root", "targets", "snapshot", "timestamp"])
def test_a_proper_rotation_is_followed(
    store: DirectoryStore,
    ring: KeyRing,
    keys: Path,
    user: Judge,
    build: Build,
    tmp_path: Path,
    role: str,
) -> None:
    assert ring.folder
    old_keys = shutil.copytree(ring.folder, tmp_path / "old keys")
    after = rotate("nightly", keys, role)
    assert {key.keyid for key in after.public(role)}.isdisjoint(
        key.keyid for key in ring.public(role)
    )
    publish_all(store, after, [build(3)])
    assert user.has("example/1.0.0-b3/example.qcow2")
    assert user.has("example/1.0.0-b1/example.qcow2")
    assert Judge(store, "nightly", ring.roots[0], tmp_path / "new").has(
        "example/1.0.0-b2/example.qcow2"
    )
    withdraw(store, after, "example", "b3", "a test")
    if role != "root":
        old = KeyRing(channel="nightly", roots=after.roots, signers=ring.signers, folder=old_keys)
        with pytest.raises(
            HostError,
            match=f"the {role} key that is here is not one that the channel nightly accepts",
        ):
            publish_all(store, old, [build(4)])


def test_a_rotation_that_the_old_keys_did_not_sign(
    store: DirectoryStore, ring: KeyRing, user: Judge, tmp_path: Path
) -> None:
    from slipway.channels.keys import init

    enemy = init("nightly", tmp_path / "enemy")
    root: Any = Metadata.from_bytes(enemy.roots[0])
    root.signed.version = 2
    put(store, f"{NIGHTLY}/2.root.json", enemy.sign(root, "root"))
    with pytest.raises(UnsignedMetadataError):
        user.updater()
    refused(store, ring, tmp_path)


def test_a_channel_made_anew_with_other_keys(
    store: DirectoryStore, ring: KeyRing, user: Judge, build: Build, tmp_path: Path
) -> None:
    from slipway.channels.keys import init

    enemy = init("nightly", tmp_path / "enemy")
    for status in list(store.list("metadata/nightly/")):
        store.delete(status.key)
    publish_all(store, enemy, [build(9)])
    with pytest.raises(RepositoryError):
        user.updater()
    refused(store, ring, tmp_path)
    with pytest.raises(VerificationError):
        publish_all(store, ring, [build(3)])
