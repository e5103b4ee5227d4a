"""What is done to channels, with python-tuf's client as the judge of what users see."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from slipway.channels.expiry import require_fresh
from slipway.channels.keys import KeyRing, fingerprint
from slipway.channels.layout import channels_in, sums_key
from slipway.channels.minisign import public_key
from slipway.channels.moves import (
    Moved,
    package_difference,
    promote,
    publish_all,
    rollback,
    withdraw,
)
from slipway.channels.state import Channel, read_channel
from slipway.channels.upkeep import Policy, kept, prune, refresh
from slipway.errors import StoreError, VerificationError
from slipway.host import process
from slipway.records.reference import ReleaseRef
from slipway.stores import Store
from slipway.stores.directory import DirectoryStore
from store_faults import CountingStore
from tuf_judge import Judge

Build = Callable[..., Path]
T = 1_800_000_000.0


def channel_of(store: Store, ring: KeyRing) -> Channel:
    return read_channel(store, ring.channel, ring.roots[0])


def source(store: Store, ring: KeyRing) -> Callable[[], Channel]:
    return lambda: channel_of(store, ring)


def judge(store: Store, ring: KeyRing, tmp_path: Path) -> Judge:
    return Judge(store, ring.channel, ring.roots[0], tmp_path / "judge" / ring.channel)


def test_what_is_published_is_what_a_client_downloads(
    store: DirectoryStore, ring: KeyRing, build: Build, tmp_path: Path
) -> None:
    (moved,) = publish_all(store, ring, [build(1)])
    assert (moved.release, moved.before, moved.written) == ("1.0.0-b1", None, True)
    user = judge(store, ring, tmp_path)
    assert user.download("example/1.0.0-b1/example.qcow2") == b"image 1" * 1000
    assert user.has("example/1.0.0-b1/manifest.json")
    assert not user.has("example/1.0.0-b2/example.qcow2")


def test_publishing_again_does_nothing(store: DirectoryStore, ring: KeyRing, build: Build) -> None:
    publish_all(store, ring, [build(1)])
    counting = CountingStore(store)
    (moved,) = publish_all(counting, ring, [build(1)])
    assert not moved.written
    assert counting.writes == []


def test_one_commit_for_many_appliances(
    store: DirectoryStore, ring: KeyRing, build: Build, tmp_path: Path
) -> None:
    counting = CountingStore(store)
    moves = publish_all(counting, ring, [build(1, "web"), build(1, "mail"), build(1, "dns")])
    assert [moved.appliance for moved in moves] == ["web", "mail", "dns"]
    assert [key for key, _ in counting.writes if key.endswith("timestamp.json")] == [
        "metadata/nightly/timestamp.json"
    ]
    user = judge(store, ring, tmp_path)
    assert all(user.has(f"{name}/1.0.0-b1/{name}.qcow2") for name in ("web", "mail", "dns"))


def test_promotion_moves_a_pointer_and_no_image(
    store: DirectoryStore, ring: KeyRing, stable: KeyRing, build: Build, tmp_path: Path
) -> None:
    publish_all(store, ring, [build(1)])
    counting = CountingStore(store)
    moved = promote(counting, stable, source(counting, ring), "example")
    assert (moved.release, moved.before, moved.channel) == ("1.0.0-b1", None, "stable")
    assert not [key for key, _ in counting.writes if key.startswith("targets/")]
    assert (
        judge(store, stable, tmp_path).download("example/1.0.0-b1/example.qcow2")
        == b"image 1" * 1000
    )
    publish_all(store, ring, [build(2)])
    counting = CountingStore(store)
    promote(counting, stable, source(counting, ring), "example", "b2")
    assert [key for key, _ in counting.writes] == [
        "metadata/stable/2.example.json",
        "metadata/stable/2.snapshot.json",
        "metadata/stable/timestamp.json",
        "releases/example/1.0.0-b2/SHA256SUMS.stable.minisig",
    ]
    assert not promote(store, stable, source(store, ring), "example").written


def test_only_what_the_source_has_is_promoted(
    store: DirectoryStore, ring: KeyRing, stable: KeyRing, build: Build
) -> None:
    with pytest.raises(StoreError) as caught:
        promote(store, stable, source(store, ring), "example")
    assert (
        str(caught.value)
        == "error: nightly has no release of example\n  hint: see: invoke channels"
    )
    publish_all(store, ring, [build(1)])
    with pytest.raises(StoreError) as caught:
        promote(store, stable, source(store, ring), "example", "b9")
    assert (
        str(caught.value)
        == "error: nightly has no release b9 of example\n  hint: choose from: 1.0.0-b1"
    )
    key = next(status.key for status in store.list("targets/") if status.key.endswith(".qcow2"))
    store.delete(key)
    with pytest.raises(StoreError) as caught:
        promote(store, stable, source(store, ring), "example")
    assert (
        str(caught.value)
        == f"error: {key} is missing\n  hint: publish the build again, from where it was made"
    )


def test_an_expired_source_is_not_promoted_from(
    store: DirectoryStore, ring: KeyRing, stable: KeyRing, build: Build
) -> None:
    publish_all(store, ring, [build(1)], clock=lambda: T)
    with pytest.raises(VerificationError) as caught:
        promote(store, stable, source(store, ring), "example", clock=lambda: T + 8 * 86400)
    assert str(caught.value) == (
        "error: the timestamp metadata of the channel nightly expired on 2027-01-22; "
        "this host's clock says 2027-01-23 08:00 UTC\n"
        "  hint: if this clock is right, the publisher has to run: invoke recover nightly; "
        "if that was done, this store is an old copy"
    )


def test_rollback_points_at_what_was_before_with_new_metadata(
    store: DirectoryStore, ring: KeyRing, build: Build
) -> None:
    for number in (1, 2, 3):
        publish_all(store, ring, [build(number)])
    version = channel_of(store, ring).timestamp
    moved = rollback(store, ring, "example")
    assert (moved.before, moved.release) == ("1.0.0-b3", "1.0.0-b2")
    after = channel_of(store, ring).timestamp
    assert version and after and after.signed.version > version.signed.version
    assert rollback(store, ring, "example", "b3").release == "1.0.0-b3"
    rollback(store, ring, "example", "b1")
    with pytest.raises(StoreError, match=r"nightly has no release of example before 1\.0\.0-b1"):
        rollback(store, ring, "example")
    # it is listed: publishing it again does not undo the rollback
    publish_all(store, ring, [build(3)])
    assert channel_of(store, ring).shelf("example").current == "1.0.0-b1"


def test_what_is_withdrawn_leaves_a_tombstone_and_does_not_come_back(
    store: DirectoryStore, ring: KeyRing, stable: KeyRing, build: Build, tmp_path: Path
) -> None:
    for number in (1, 2):
        publish_all(store, ring, [build(number)], clock=lambda: T)
        promote(store, stable, source(store, ring), "example", clock=lambda: T)
    for keys in (stable, ring):
        moved = withdraw(store, keys, "example", "b2", "it eats disks", clock=lambda: T)
        assert (moved.before, moved.release) == ("1.0.0-b2", "1.0.0-b1")
        shelf = channel_of(store, keys).shelf("example")
        assert list(shelf.releases) == ["1.0.0-b1"]
        stone = shelf.withdrawn["1.0.0-b2"]
        assert (stone.reason, stone.replacement, stone.time) == (
            "it eats disks",
            "1.0.0-b1",
            int(T),
        )
        assert not withdraw(store, keys, "example", "b2", "again").written
    with pytest.raises(StoreError) as caught:
        publish_all(store, ring, [build(2)])
    assert (
        str(caught.value)
        == "error: example 1.0.0-b2 was withdrawn from nightly: it eats disks\n  hint: use 1.0.0-b1"
    )
    with pytest.raises(StoreError) as caught:
        promote(store, stable, source(store, ring), "example", "b2", clock=lambda: T)
    assert caught.value.hint == "it was withdrawn: it eats disks"


def test_channels_are_listed_the_most_trusted_first(
    store: DirectoryStore, ring: KeyRing, stable: KeyRing, build: Build
) -> None:
    publish_all(store, ring, [build(1)])
    assert channels_in(store) == ("nightly",)
    promote(store, stable, source(store, ring), "example")
    assert channels_in(store) == ("stable", "nightly")


@pytest.mark.integration
def test_pruning_keeps_days_weeks_months_and_what_a_rollback_needs(
    store: DirectoryStore, ring: KeyRing, build: Build
) -> None:
    builds = [build(number) for number in range(1, 61)]
    for path in builds:
        publish_all(store, ring, [path])
    rollback(store, ring, "example", "b30")
    shelf = channel_of(store, ring).shelf("example")
    keep = kept(shelf, Policy(days=3, weeks=2, months=2))
    # b60 was made on 2027-03-16, a Tuesday; b58 on the Sunday before, b44 on 28 February.
    assert keep == {"1.0.0-b60", "1.0.0-b59", "1.0.0-b58", "1.0.0-b44", "1.0.0-b30", "1.0.0-b29"}
    assert len(kept(shelf, Policy())) <= 34 + 2
    counting = CountingStore(store)
    gone = prune(counting, ring, Policy(days=3, weeks=2, months=2), dry_run=True)
    assert counting.writes == []
    assert prune(counting, ring, Policy(days=3, weeks=2, months=2)) == gone
    assert not [key for key, _ in counting.writes if key.startswith("targets/")]
    after = channel_of(store, ring).shelf("example")
    assert set(after.releases) == keep
    assert after.current == "1.0.0-b30"
    assert prune(store, ring, Policy(days=3, weeks=2, months=2)) == {}


def test_refresh_renews_what_expires(store: DirectoryStore, ring: KeyRing, build: Build) -> None:
    publish_all(store, ring, [build(1)], clock=lambda: T)
    refresh(store, ring, clock=lambda: T + 6 * 86400)
    channel = channel_of(store, ring)
    require_fresh(channel, T + 12 * 86400)
    assert channel.targets and channel.targets.signed.version == 1
    for day in range(12, 61, 6):
        refresh(store, ring, clock=lambda day=day: T + day * 86400)  # type: ignore[misc]
    channel = channel_of(store, ring)
    channel.shelf("example")
    require_fresh(channel, T + 66 * 86400)
    assert channel.targets and channel.targets.signed.version == 2


def test_the_difference_of_packages(store: DirectoryStore, ring: KeyRing, build: Build) -> None:
    def bill(**versions: str) -> bytes:
        return json.dumps(
            {
                "components": [
                    {"name": name, "version": version} for name, version in versions.items()
                ]
            }
        ).encode()

    publish_all(store, ring, [build(1, bill=bill(nginx="1.26", curl="8.14"))])
    publish_all(store, ring, [build(2, bill=bill(nginx="1.27", zlib="1.3"))])
    releases = channel_of(store, ring).shelf("example").releases
    old, new = releases.items()
    changes = package_difference(store, "example", old, new)
    assert (changes.added, changes.removed, changes.changed) == (
        {"zlib": "1.3"},
        {"curl": "8.14"},
        {"nginx": ("1.26", "1.27")},
    )
    assert package_difference(store, "example", None, new).added == {"nginx": "1.27", "zlib": "1.3"}


def test_sums_are_signed_for_minisign(
    store: DirectoryStore, ring: KeyRing, build: Build, tmp_path: Path
) -> None:
    publish_all(store, ring, [build(1)])
    folder = store.directory / "releases/example/1.0.0-b1"
    (key,) = ring.public("targets")
    text = public_key(key, "nightly")
    assert text
    (tmp_path / "key.pub").write_text(text)
    signature = folder / "SHA256SUMS.nightly.minisig"
    said = process.run(
        ["minisign", "-V", "-p", tmp_path / "key.pub", "-x", signature, "-m", folder / "SHA256SUMS"]
    ).stdout.decode()
    assert "Trusted comment: appliance=example release=1.0.0-b1 channel=nightly time=" in said
    process.run(
        ["minisign", "-V", "-P", text.splitlines()[1], "-x", signature, "-m", folder / "SHA256SUMS"]
    )
    altered = tmp_path / "SHA256SUMS"
    altered.write_bytes((folder / "SHA256SUMS").read_bytes() + b"\n")
    assert (
        process.run(
            ["minisign", "-V", "-p", tmp_path / "key.pub", "-x", signature, "-m", altered],
            check=False,
        ).returncode
        == 1
    )
    assert len(base64.b64decode(text.splitlines()[1])) == 42
    assert len(fingerprint(key)) == 39


def test_a_name_that_tuf_uses_is_refused(
    store: DirectoryStore, ring: KeyRing, build: Build
) -> None:
    with pytest.raises(StoreError) as caught:
        publish_all(store, ring, [build(1, "snapshot")])
    assert str(caught.value) == (
        'error: an appliance that is called "snapshot" cannot be published\n'
        "  hint: that name has a meaning in TUF"
    )
    assert list(store.list()) == []


def test_a_deleted_timestamp_is_not_taken_for_a_new_channel(
    store: DirectoryStore, ring: KeyRing, build: Build
) -> None:
    for number in (1, 2):
        publish_all(store, ring, [build(number)])
    store.delete("metadata/nightly/timestamp.json")
    with pytest.raises(StoreError) as caught:
        publish_all(store, ring, [build(3)])
    assert str(caught.value) == (
        "error: the channel nightly has metadata, but its timestamp.json was deleted\n"
        "  hint: clients keep their last state; to inspect and recover: "
        "invoke recover nightly"
    )


def test_an_older_build_of_the_same_release_is_what_is_listed(
    store: DirectoryStore, ring: KeyRing, build: Build, tmp_path: Path
) -> None:
    publish_all(store, ring, [build(1)])
    again = build(1, created=1_800_009_999)
    (moved,) = publish_all(store, ring, [again])
    assert not moved.written
    assert isinstance(moved, Moved)
    assert judge(store, ring, tmp_path).has("example/1.0.0-b1/manifest.json")
    assert store.stat(sums_key(ReleaseRef("example", "1.0.0-b1")))
