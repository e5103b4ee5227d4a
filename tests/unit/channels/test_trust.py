"""What is believed, and on whose word: by hash, by signature, by number, by date, and by what a
manifest is about.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import Metadata

from slipway.channels import download as download_module
from slipway.channels.audit import examine
from slipway.channels.client import Client, fetch_image, fetch_manifest
from slipway.channels.commit import commit
from slipway.channels.download import download
from slipway.channels.expiry import require_fresh
from slipway.channels.keys import KeyRing, init, load_ring, rotate
from slipway.channels.layout import target_key
from slipway.channels.moves import promote, publish_all, rollback, withdraw
from slipway.channels.state import Channel, Listed, read_channel
from slipway.errors import HostError, StoreError, VerificationError
from slipway.records.reference import ReleaseRef
from slipway.records.release import Release, read_release
from slipway.stores import Store
from slipway.stores.directory import DirectoryStore
from slipway.terminal.progress import Progress
from store_doubles import LyingStore, RacingStore

Build = Callable[..., Path]
MakeRelease = Callable[..., Release]
T = 1_800_000_000.0
MIXED_UP = (
    "whoever listed it in the channel mixed up two releases, or means harm: tell the publisher"
)


def channel_of(store: Store, ring: KeyRing) -> Channel:
    return read_channel(store, ring.channel, ring.roots[0])


def put(store: DirectoryStore, key: str, data: bytes) -> None:
    """Overwrite whatever is there."""
    path = store.directory / key
    path.unlink(missing_ok=True)
    path.write_bytes(data)


def key_of(store: Store, file: str, release: str = "1.0.0-b1") -> str:
    (key,) = [
        status.key
        for status in store.list(f"targets/example/{release}/")
        if status.key.endswith(f".{file}")
    ]
    return key


def list_by_hand(store: Store, ring: KeyRing, release: str, files: Mapping[str, bytes]) -> None:
    """List any files as a release, as somebody can who has the channel's keys."""
    listed = {}
    for file, data in files.items():
        sha256 = hashlib.sha256(data).hexdigest()
        store.create(target_key(ReleaseRef("example", release), file, sha256), data)
        listed[file] = (len(data), sha256)

    def add(channel: Channel) -> None:
        channel.shelf("example").add(release, Listed(created=int(T), added=int(T), files=listed))

    commit(store, ring, add)


def files_of(release: Release) -> dict[str, bytes]:
    return {file: (release.folder / file).read_bytes() for file in release.hashes}


def refuse_promotion(store: Store, ring: KeyRing, stable: KeyRing, message: str) -> None:
    """Neither is it promoted, nor is anything written to the channel."""
    with pytest.raises(VerificationError) as caught:
        promote(store, stable, lambda: channel_of(store, ring), "example")
    assert str(caught.value) == f"error: {message}"
    assert store.stat("metadata/stable/timestamp.json") is None


# --- by hash --------------------------------------------------------------------------------------


def test_a_changed_manifest_is_neither_promoted_nor_believed(
    store: DirectoryStore, ring: KeyRing, stable: KeyRing, build: Build, tmp_path: Path
) -> None:
    publish_all(store, ring, [build(1)])
    key = key_of(store, "manifest.json")
    put(store, key, store.read(key).data.replace(b"An example", b"An Example"))
    said = (
        f"{key} is not what was published\n"
        "  hint: the store was changed by something else; run: invoke verify"
    )
    refuse_promotion(store, ring, stable, said)
    with pytest.raises(VerificationError) as caught:
        fetch_manifest(
            Client(store, "nightly", ring.roots[0], tmp_path / "memory"), "example", None
        )
    assert str(caught.value) == f"error: {said}"


def test_a_changed_image_is_not_kept(
    store: DirectoryStore, ring: KeyRing, build: Build, tmp_path: Path
) -> None:
    publish_all(store, ring, [build(1)])
    user = Client(store, "nightly", ring.roots[0], tmp_path / "memory")
    wanted = user.wanted(ReleaseRef("example", "1.0.0-b1"), "example.qcow2")
    data = store.read(wanted.key).data.replace(b"image", b"IMAGE", 1)
    put(store, wanted.key, data)
    with pytest.raises(VerificationError) as caught:
        download(store, wanted, tmp_path / "out")
    assert str(caught.value) == (
        f"error: {wanted.key} has the SHA-256 {hashlib.sha256(data).hexdigest()}, its channel "
        f"says {wanted.sha256}\n"
        "  hint: the store was changed; nothing was kept"
    )
    assert list((tmp_path / "out").iterdir()) == []


def test_an_image_that_changes_while_it_is_downloaded_is_not_kept(
    store: DirectoryStore,
    ring: KeyRing,
    build: Build,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(download_module, "_RANGE", 1000)
    publish_all(store, ring, [build(1)])
    wanted = Client(store, "nightly", ring.roots[0], tmp_path / "memory").wanted(
        ReleaseRef("example", "1.0.0-b1"), "example.qcow2"
    )
    with pytest.raises(VerificationError, match=r"has the SHA-256 .* its channel says"):
        download(LyingStore(store, wanted.key, bytes.upper), wanted, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
    download(LyingStore(store, wanted.key, bytes.upper, honest=7), wanted, tmp_path / "out")


def test_a_manifest_that_changes_between_two_reads_is_not_promoted(
    store: DirectoryStore, ring: KeyRing, stable: KeyRing, build: Build
) -> None:
    """The first attempt reads the truth and loses its race.

    The second one must not believe what it reads then.
    """
    publish_all(store, ring, [build(1), build(1, "other")])
    promote(store, stable, lambda: channel_of(store, ring), "other")
    key = key_of(store, "manifest.json")
    lying = LyingStore(store, key, lambda data: data.replace(b"An example", b"An Example"))
    rival = RacingStore(lying, "swap", lambda: withdraw(store, stable, "other", "b1", "a test"))
    with pytest.raises(VerificationError) as caught:
        promote(rival, stable, lambda: channel_of(store, ring), "example")
    assert rival.done
    assert caught.value.message == f"{key} is not what was published"
    assert channel_of(store, stable).appliances == ("other",)


# --- by what a promotion looks at -----------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"boot": None},
        {"booted_disk_sha256": "0" * 64},
        {"boot": {"passed": True, "checks": [{"name": "a", "outcome": "failed"}]}},
    ],
    ids=["never booted", "another disk", "failed check"],
)
def test_what_did_not_pass_is_not_promoted(
    store: DirectoryStore,
    ring: KeyRing,
    stable: KeyRing,
    make_release: MakeRelease,
    changes: dict[str, Any],
) -> None:
    list_by_hand(store, ring, "1.0.0-b1", files_of(make_release(**changes)))
    refuse_promotion(
        store, ring, stable, "example 1.0.0-b1 has no passing boot report for these images"
    )


def test_other_images_than_those_that_passed_are_not_promoted(
    store: DirectoryStore, ring: KeyRing, stable: KeyRing, make_release: MakeRelease
) -> None:
    list_by_hand(
        store, ring, "1.0.0-b1", files_of(make_release()) | {"example.raw": b"another disk"}
    )
    refuse_promotion(
        store, ring, stable, "example 1.0.0-b1 has no passing boot report for these images"
    )


def test_an_image_of_another_size_is_neither_promoted_nor_rolled_back_to(
    store: DirectoryStore, ring: KeyRing, stable: KeyRing, build: Build
) -> None:
    for number in (1, 2):
        publish_all(store, ring, [build(number)])
    key = key_of(store, "example.qcow2")
    put(store, key, store.read(key).data[:-1])
    message = (
        f"error: {key} has 6999 bytes, not 7000\n"
        "  hint: publish the build again, from where it was made"
    )
    with pytest.raises(StoreError) as caught:
        promote(store, stable, lambda: channel_of(store, ring), "example", "b1")
    assert str(caught.value) == message
    with pytest.raises(StoreError) as caught:
        rollback(store, ring, "example")
    assert str(caught.value) == message
    assert channel_of(store, ring).shelf("example").current == "1.0.0-b2"


@pytest.mark.parametrize(
    ("changes", "about"),
    [
        ({"build": "b0", "release": "1.0.0-b0"}, "example 1.0.0-b0"),
        ({"appliance": "other"}, "other 1.0.0-b1"),
    ],
    ids=["release", "appliance"],
)
def test_a_manifest_of_another_release_is_not_believed(
    store: DirectoryStore,
    ring: KeyRing,
    stable: KeyRing,
    make_release: MakeRelease,
    tmp_path: Path,
    changes: dict[str, str],
    about: str,
) -> None:
    """It is signed, whole and passed its checks; but it speaks of something else."""
    list_by_hand(store, ring, "1.0.0-b1", files_of(make_release(**changes)))
    key = key_of(store, "manifest.json")
    said = f"{key} is about {about}, not example 1.0.0-b1\n  hint: {MIXED_UP}"
    refuse_promotion(store, ring, stable, said)
    with pytest.raises(VerificationError) as caught:
        fetch_manifest(
            Client(store, "nightly", ring.roots[0], tmp_path / "memory"), "example", None
        )
    assert str(caught.value) == f"error: {said}"


def test_an_image_is_named_by_what_was_asked_for(
    store: DirectoryStore, ring: KeyRing, make_release: MakeRelease, tmp_path: Path
) -> None:
    """A manifest may call its image like a file of the checkout."""
    release = make_release()
    data = release.manifest.to_json().replace(b'"example.qcow2"', b'"tasks.py"')
    list_by_hand(store, ring, "1.0.0-b1", {"tasks.py": b"a disk", "manifest.json": data})
    (tmp_path / "tasks.py").write_text("mine")
    user = Client(store, "nightly", ring.roots[0], tmp_path / "memory")
    path = fetch_image(
        user,
        fetch_manifest(user, "example", None, "amd64"),
        "qcow2",
        tmp_path,
        Progress(quiet=True),
    )
    assert path == tmp_path / "example-1.0.0-b1.amd64.qcow2"
    assert path.read_bytes() == b"a disk"
    assert (tmp_path / "tasks.py").read_text() == "mine"


def test_another_architecture_is_not_fetched(
    store: DirectoryStore, ring: KeyRing, make_release: MakeRelease, tmp_path: Path
) -> None:
    list_by_hand(store, ring, "1.0.0-b1", files_of(make_release(architecture="arm64")))
    user = Client(store, "nightly", ring.roots[0], tmp_path / "memory")
    assert fetch_manifest(user, "example", None, "arm64").architecture == "arm64"
    with pytest.raises(StoreError) as caught:
        fetch_manifest(user, "example", None, "amd64")
    assert str(caught.value) == (
        "error: example 1.0.0-b1 in nightly is for arm64, not amd64\n"
        "  hint: give --arch arm64, or another release: --build ID"
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"file": "example.qcow2"', b'"file": "example.raw"'),
        (b'"format": "raw"', b'"format": "qcow2"'),
    ],
    ids=["the file of another format", "a format twice"],
)
def test_a_manifest_that_mixes_up_its_formats_is_not_believed(
    store: DirectoryStore,
    ring: KeyRing,
    make_release: MakeRelease,
    tmp_path: Path,
    old: bytes,
    new: bytes,
) -> None:
    files = files_of(make_release())
    assert files["manifest.json"].count(old) == 1
    list_by_hand(
        store, ring, "1.0.0-b1", files | {"manifest.json": files["manifest.json"].replace(old, new)}
    )
    user = Client(store, "nightly", ring.roots[0], tmp_path / "memory")
    with pytest.raises(VerificationError) as caught:
        fetch_image(
            user,
            fetch_manifest(user, "example", None),
            "qcow2",
            tmp_path / "out",
            Progress(quiet=True),
        )
    assert str(caught.value) == (
        "error: the manifest of example 1.0.0-b1 and the channel nightly do not "
        "agree on its qcow2\n"
        "  hint: nothing was fetched; tell its publisher"
    )
    assert not (tmp_path / "out").exists()


def test_a_release_under_the_name_of_another_is_not_listed(
    store: DirectoryStore, ring: KeyRing, build: Build, make_release: MakeRelease
) -> None:
    """Somebody put another release's records where this one belongs, before it is published into
    its channel.
    """
    folder = build(1)
    other = make_release(
        "other",
        images={"qcow2": b"image 1" * 1000, "raw": b"raw image 1" * 1000},
        release="1.0.0-b0",
        build="b0",
    )
    for file, data in files_of(other).items():
        store.create(target_key(ReleaseRef("example", "1.0.0-b1"), file, other.hashes[file]), data)
    store.create("releases/example/1.0.0-b1/SHA256SUMS", other.sums)
    publish_all(store, ring, [folder])
    assert (
        channel_of(store, ring).shelf("example").releases["1.0.0-b1"].files
        == read_release(folder).files
    )
    assert store.read("releases/example/1.0.0-b1/SHA256SUMS").data == read_release(folder).sums


# --- by signature, number and date ----------------------------------------------------------------


def test_a_new_root_is_signed_by_the_old_one_and_by_itself(
    store: DirectoryStore, ring: KeyRing, keys: Path, build: Build, tmp_path: Path
) -> None:
    publish_all(store, ring, [build(1)])
    enemy = init("nightly", tmp_path / "enemy")
    new: Any = Metadata.from_bytes(enemy.roots[0])
    new.signed.version = 2
    for signer, signed in ((enemy, "signed by 0/1 keys"), (ring, "signed by 0/1 keys")):
        put(store, "metadata/nightly/2.root.json", signer.sign(new, "root"))
        with pytest.raises(VerificationError) as caught:
            channel_of(store, ring)
        assert str(caught.value) == (
            "error: the root metadata of the channel nightly is not signed by its keys: "
            f"root was {signed}\n"
            "  hint: whoever wrote it is not who holds the keys; or these are not the "
            "keys of this store"
        )
    store.delete("metadata/nightly/2.root.json")
    after = rotate("nightly", keys, "root")
    publish_all(store, after, [build(2)])
    assert channel_of(store, ring).root.signed.version == 2


@pytest.mark.parametrize(
    ("old", "new"),
    [("1.example", "2.example"), ("1.snapshot", "2.snapshot"), ("1.root", "2.root")],
    ids=["list", "snapshot", "root"],
)
def test_metadata_under_the_name_of_another_version_is_refused(
    store: DirectoryStore, ring: KeyRing, build: Build, old: str, new: str
) -> None:
    for number in (1, 2):
        publish_all(store, ring, [build(number)])
    put(store, f"metadata/nightly/{new}.json", store.read(f"metadata/nightly/{old}.json").data)
    with pytest.raises(VerificationError) as caught:
        channel_of(store, ring).shelf("example")
    assert str(caught.value) == f"error: metadata/nightly/{new}.json says that it is version 1"


@pytest.mark.parametrize(
    ("days", "role"), [(6, None), (8, "timestamp"), (15, "timestamp"), (91, "timestamp")]
)
def test_an_audit_notices_what_has_expired(
    store: DirectoryStore, ring: KeyRing, build: Build, days: int, role: str | None
) -> None:
    publish_all(store, ring, [build(1)], clock=lambda: T)
    channel = channel_of(store, ring)
    if role is None:
        assert examine(store, channel, T + days * 86400).all_problems == []
        return
    now = time.strftime("%Y-%m-%d %H:%M", time.gmtime(T + days * 86400))
    problem = (
        f"nightly: its {role} metadata expired on 2027-01-22; this host's clock says {now} UTC"
    )
    assert problem in examine(store, channel, T + days * 86400).all_problems


def test_every_role_that_expires_is_noticed(
    store: DirectoryStore, ring: KeyRing, build: Build
) -> None:
    publish_all(store, ring, [build(1)], clock=lambda: T)
    noticed = []
    for part in ("root", "timestamp", "snapshot", "targets", "example"):
        channel = channel_of(store, ring)
        channel.shelf("example")
        for name, metadata in {**vars_of(channel), **channel.roles}.items():
            year = 2026 if name == part else 2099
            metadata.signed.expires = metadata.signed.expires.replace(year=year)
        with pytest.raises(VerificationError) as caught:
            require_fresh(channel, T)
        noticed.append(caught.value.message.split()[1])
    assert noticed == ["root", "timestamp", "snapshot", "targets", "example"]


def vars_of(channel: Channel) -> dict[str, Any]:
    return {name: getattr(channel, name) for name in ("root", "timestamp", "snapshot", "targets")}


def test_an_appliances_keys_vouch_for_its_own_paths_alone(
    store: DirectoryStore, ring: KeyRing, build: Build
) -> None:
    publish_all(store, ring, [build(1, "web"), build(1, "mail")])
    targets = channel_of(store, ring).targets
    assert targets and targets.signed.delegations and targets.signed.delegations.roles
    roles = targets.signed.delegations.roles
    assert {name: role.paths for name, role in roles.items()} == {
        "mail": ["mail/*/*"],
        "web": ["web/*/*"],
    }
    assert all(role.terminating and role.threshold == 1 for role in roles.values())
    assert not roles["mail"].is_delegated_path("web/1.0.0-b1/web.qcow2")


# --- by who may read a key, and by what was withdrawn ---------------------------------------------


@pytest.mark.parametrize("mode", [0o640, 0o620, 0o610, 0o604])
def test_a_key_that_others_can_read_is_refused(ring: KeyRing, keys: Path, mode: int) -> None:
    path = next((keys / "nightly").glob("targets-*.pem"))
    path.chmod(mode)
    with pytest.raises(HostError) as caught:
        load_ring("nightly", keys)
    assert str(caught.value) == (
        f"error: {path} can be read by others\n"
        f"  hint: run: chmod 600 {path}; and think of replacing it: invoke keys rotate"
    )


def test_what_was_withdrawn_is_not_rolled_back_to(
    store: DirectoryStore, ring: KeyRing, build: Build
) -> None:
    for number in (1, 2, 3):
        publish_all(store, ring, [build(number)])
    withdraw(store, ring, "example", "b2", "it eats disks")
    with pytest.raises(StoreError) as caught:
        rollback(store, ring, "example", "b2")
    assert (
        str(caught.value)
        == "error: nightly has no release b2 of example\n  hint: it was withdrawn: it eats disks"
    )
    assert rollback(store, ring, "example").release == "1.0.0-b1"


def test_what_was_withdrawn_from_the_target_alone_is_not_promoted(
    store: DirectoryStore, ring: KeyRing, stable: KeyRing, build: Build
) -> None:
    publish_all(store, ring, [build(1)])
    promote(store, stable, lambda: channel_of(store, ring), "example")
    withdraw(store, stable, "example", "b1", "it eats disks")
    with pytest.raises(StoreError) as caught:
        promote(store, stable, lambda: channel_of(store, ring), "example")
    assert str(caught.value) == (
        "error: example 1.0.0-b1 was withdrawn from stable: it eats disks\n"
        "  hint: build a new version"
    )
    assert channel_of(store, stable).shelf("example").current is None


def test_what_is_withdrawn_while_it_is_published_again_does_not_come_back(
    store: DirectoryStore, ring: KeyRing, build: Build
) -> None:
    """Its release was pruned, somebody publishes it anew, and a rival withdraws it just before that
    commit.
    """
    for number in (1, 2):
        publish_all(store, ring, [build(number)])

    def prune_b1(channel: Channel) -> None:
        del channel.shelf("example").releases["1.0.0-b1"]

    def withdraw_b1() -> None:
        def change(channel: Channel) -> None:
            shelf = channel.shelf("example")
            shelf.add("1.0.0-b1", channel_of(store, ring).shelf("example").releases["1.0.0-b2"])

        commit(store, ring, change)
        withdraw(store, ring, "example", "b1", "it eats disks")

    commit(store, ring, prune_b1)
    racing = RacingStore(store, "swap", withdraw_b1)
    with pytest.raises(StoreError) as caught:
        publish_all(racing, ring, [build(1)])
    assert racing.done
    assert (
        str(caught.value)
        == "error: example 1.0.0-b1 was withdrawn from nightly: it eats disks\n  hint: use 1.0.0-b2"
    )
    assert list(channel_of(store, ring).shelf("example").releases) == ["1.0.0-b2"]


def test_what_was_withdrawn_is_not_even_uploaded(
    store: DirectoryStore, ring: KeyRing, build: Build
) -> None:
    publish_all(store, ring, [build(1)])
    withdraw(store, ring, "example", "b1", "it eats disks")
    for status in [*store.list("targets/"), *store.list("releases/")]:
        store.delete(status.key)
    with pytest.raises(StoreError) as caught:
        publish_all(store, ring, [build(1)])
    assert str(caught.value) == (
        "error: example 1.0.0-b1 was withdrawn from nightly: it eats disks\n"
        "  hint: build a new version"
    )
    assert list(store.list("targets/")) == []
