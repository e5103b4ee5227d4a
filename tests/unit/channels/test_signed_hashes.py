"""What a publisher's keys sign is what was built here or verified, whatever the store holds or
says.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from slipway.channels.keys import KeyRing
from slipway.channels.layout import signature_key, sums_key, target_key
from slipway.channels.minisign import sign, verify
from slipway.channels.moves import promote, publish_all
from slipway.channels.state import Channel, read_channel
from slipway.errors import BuildError, StoreError, VerificationError
from slipway.records.reference import ReleaseRef
from slipway.records.release import Release, read_release
from slipway.records.sums import format_sums
from slipway.stores import Store
from slipway.stores.directory import DirectoryStore
from store_doubles import LyingStore, RacingStore

pytestmark = pytest.mark.integration

Build = Callable[..., Path]
MakeRelease = Callable[..., Release]
EXAMPLE = ReleaseRef("example", "1.0.0-b1")
SUMS = "releases/example/1.0.0-b1/SHA256SUMS"
EVIL = b"an enemy's disk"
SECOND = "a store where somebody else can write is not safe: find out who did"
MADE_ANEW = f"{SECOND}, remove it, and run this again: it is made anew"
NEVER = (
    "a release never changes: raise the version, or find out why the same inputs gave another image"
)


def put(store: DirectoryStore, key: str, data: bytes) -> None:
    """Overwrite whatever is there."""
    path = store.directory / key
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def channel_of(store: Store, ring: KeyRing) -> Channel:
    return read_channel(store, ring.channel, ring.roots[0])


def listed(store: Store, ring: KeyRing, release: str = "1.0.0-b1") -> dict[str, tuple[int, str]]:
    return dict(channel_of(store, ring).shelf("example").releases[release].files)


def enemys_sums(folder: Path) -> bytes:
    """The list of a build, but for its qcow2: that is the enemy's."""
    return format_sums({**read_release(folder).hashes, "example.qcow2": sha256(EVIL)})


def enemy(store: DirectoryStore, folder: Path) -> Callable[[], None]:
    """Put another image into the store, and a list that names it."""

    def act() -> None:
        put(
            store,
            target_key(EXAMPLE, "example.qcow2", sha256(EVIL)),
            EVIL,
        )
        put(store, SUMS, enemys_sums(folder))

    return act


def signed(store: Store, ring: KeyRing, text: bytes) -> bool:
    """Return True if the signature in the store is the channel's, over this text."""
    signature = store.read(signature_key(ring.channel, EXAMPLE)).data
    return verify(text, signature, ring.public("targets")[0]) is not None


# --- promote --------------------------------------------------------------------------------------


def test_a_list_that_was_replaced_before_a_promotion_is_not_signed(
    store: DirectoryStore, ring: KeyRing, stable: KeyRing, build: Build
) -> None:
    publish_all(store, ring, [build(1)])
    put(store, SUMS, enemys_sums(build(1)))
    with pytest.raises(StoreError) as caught:
        promote(store, stable, lambda: channel_of(store, ring), "example")
    assert str(caught.value) == (
        f"error: example 1.0.0-b1 is published with other artifacts: example.qcow2\n  hint: {NEVER}"
    )
    assert store.stat("metadata/stable/timestamp.json") is None
    assert store.stat(f"{SUMS}.stable.minisig") is None


def test_a_list_with_other_records_is_not_signed(
    store: DirectoryStore, ring: KeyRing, stable: KeyRing, build: Build
) -> None:
    folder = build(1)
    publish_all(store, ring, [folder])
    put(store, SUMS, format_sums({**read_release(folder).hashes, "manifest.json": "0" * 64}))
    with pytest.raises(VerificationError) as caught:
        promote(store, stable, lambda: channel_of(store, ring), "example")
    assert str(caught.value) == (
        f"error: {SUMS} is not what the signed metadata says of example 1.0.0-b1\n"
        f"  hint: {MADE_ANEW}"
    )
    assert store.stat("metadata/stable/timestamp.json") is None
    store.delete(SUMS)
    promote(store, stable, lambda: channel_of(store, ring), "example")
    assert store.read(SUMS).data == read_release(folder).sums


#: How often a promotion asks the store for records, by the operation.
STEPS = {"read": 3, "create": 1}


@pytest.mark.parametrize(
    ("operation", "at"), [(name, at) for name, count in STEPS.items() for at in range(1, count + 2)]
)
def test_stables_key_never_signs_an_enemys_list(
    store: DirectoryStore, ring: KeyRing, stable: KeyRing, build: Build, operation: str, at: int
) -> None:
    """The enemy replaces the list just before any one of the promotion's steps."""
    folder = build(1)
    publish_all(store, ring, [folder])
    racing = RacingStore(store, operation, enemy(store, folder), at=at, prefix="releases/")
    try:
        promote(racing, stable, lambda: channel_of(racing, ring), "example")
    except StoreError as error:
        assert error.message == "example 1.0.0-b1 is published with other artifacts: example.qcow2"
    assert racing.done == (at <= STEPS[operation]), (
        "a promotion has other steps than this test knows"
    )
    if store.stat(signature_key("stable", EXAMPLE)):
        assert signed(store, stable, read_release(folder).sums)
    if store.stat("metadata/stable/timestamp.json"):
        assert listed(store, stable) == listed(store, ring)


def test_a_store_that_changes_its_mind_gets_no_signature(
    store: DirectoryStore, ring: KeyRing, stable: KeyRing, build: Build
) -> None:
    folder = build(1)
    publish_all(store, ring, [folder])
    for honest in range(1, 4):
        lying = LyingStore(store, SUMS, lambda _: enemys_sums(folder), honest=honest)
        try:
            promote(lying, stable, partial(channel_of, lying, ring), "example")
        except StoreError as error:
            assert (
                error.message == "example 1.0.0-b1 is published with other artifacts: example.qcow2"
            )
        if store.stat(f"{SUMS}.stable.minisig"):
            assert signed(store, stable, read_release(folder).sums)
            store.delete(f"{SUMS}.stable.minisig")


def test_what_two_channels_list_differently_is_not_promoted(
    store: DirectoryStore, ring: KeyRing, stable: KeyRing, build: Build
) -> None:
    """Each has its own records for the same images; one list cannot serve both."""
    publish_all(store, stable, [build(1)])
    for status in [*store.list("releases/")]:
        store.delete(status.key)
    publish_all(store, ring, [build(1, created=1_800_009_999)])
    with pytest.raises(VerificationError) as caught:
        promote(store, stable, lambda: channel_of(store, ring), "example")
    assert str(caught.value) == (
        "error: stable and nightly list different files for example 1.0.0-b1: manifest.json\n"
        "  hint: run: invoke verify; and withdraw it where it is wrong"
    )


@pytest.mark.parametrize("file", ["sbom.cdx.json", "provenance.intoto.json"])
def test_records_that_were_replaced_are_not_promoted(
    store: DirectoryStore, ring: KeyRing, stable: KeyRing, build: Build, file: str
) -> None:
    publish_all(store, ring, [build(1)])
    size, digest = listed(store, ring)[file]
    key = target_key(EXAMPLE, file, digest)
    put(store, key, b"!" * size)
    with pytest.raises(VerificationError) as caught:
        promote(store, stable, lambda: channel_of(store, ring), "example")
    assert str(caught.value) == (
        f"error: {key} is not what was published\n"
        "  hint: the store was changed by something else; run: invoke verify"
    )


# --- publish --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "operation", ["read", "read_range", "stat", "list", "create", "create_file", "swap"]
)
@pytest.mark.parametrize("at", range(1, 8))
def test_an_enemys_image_never_gets_into_the_metadata(
    store: DirectoryStore, ring: KeyRing, build: Build, operation: str, at: int
) -> None:
    """The enemy acts just before any one of a publication's steps."""
    folder = build(1)
    racing = RacingStore(store, operation, enemy(store, folder), at=at)
    try:
        publish_all(racing, ring, [folder])
    except StoreError as error:
        assert error.message == "example 1.0.0-b1 is published with other artifacts: example.qcow2"
    if store.stat("metadata/nightly/timestamp.json"):
        assert listed(store, ring) == read_release(folder).files
    if store.stat(signature_key("nightly", EXAMPLE)):
        assert signed(store, ring, read_release(folder).sums)


def test_a_store_that_answers_differently_the_second_time_changes_nothing(
    store: DirectoryStore, ring: KeyRing, build: Build
) -> None:
    folder = build(1)
    publish_all(store, ring, [build(2)])
    enemy(store, folder)()
    store.delete(SUMS)
    for honest in range(3):
        lying = LyingStore(store, SUMS, lambda _: enemys_sums(folder), honest=honest)
        try:
            publish_all(lying, ring, [folder])
        except StoreError as error:
            assert (
                error.message == "example 1.0.0-b1 is published with other artifacts: example.qcow2"
            )
    assert listed(store, ring) == read_release(folder).files


def test_a_forged_manifest_that_was_there_first_is_not_vouched_for(
    store: DirectoryStore, ring: KeyRing, build: Build, make_release: MakeRelease
) -> None:
    """The same images, records of the enemy's: a list that nobody signed."""
    folder = build(1)
    images = {name: (folder / f"example.{name}").read_bytes() for name in ("qcow2", "raw")}
    forged = make_release("forged", images=images, summary="An enemy's", category="evil")
    for file, (_, digest) in forged.files.items():
        store.create(
            target_key(EXAMPLE, file, digest),
            (forged.folder / file).read_bytes(),
        )
    store.create(SUMS, forged.sums)
    (moved,) = publish_all(store, ring, [folder])
    assert moved.written
    assert listed(store, ring) == read_release(folder).files
    assert store.read(SUMS).data == read_release(folder).sums
    assert signed(store, ring, read_release(folder).sums)


@pytest.mark.parametrize("first", [True, False], ids=["before", "after it was listed"])
@pytest.mark.parametrize("file", ["example.qcow2", "manifest.json", "sbom.cdx.json"])
def test_an_object_that_is_something_else_is_refused(
    store: DirectoryStore, ring: KeyRing, build: Build, file: str, first: bool
) -> None:
    folder = build(1)
    size, digest = read_release(folder).files[file]
    if not first:
        publish_all(store, ring, [folder])
    key = target_key(EXAMPLE, file, digest)
    for data in (b"!" * size, b"short"):
        put(store, key, data)
        with pytest.raises(StoreError) as caught:
            publish_all(store, ring, [folder])
        assert str(caught.value) == (
            f"error: {key} already exists with other content\n"
            f"  hint: {SECOND}, remove it, and run this again"
        )
    store.delete(key)
    publish_all(store, ring, [folder])
    assert store.read(key).data == (folder / file).read_bytes()


def test_a_forged_list_of_a_listed_release_is_refused(
    store: DirectoryStore, ring: KeyRing, build: Build
) -> None:
    folder = build(1)
    publish_all(store, ring, [folder])
    put(store, SUMS, enemys_sums(folder))
    with pytest.raises(StoreError) as caught:
        publish_all(store, ring, [folder])
    assert str(caught.value) == (
        f"error: example 1.0.0-b1 is published with other artifacts: example.qcow2\n  hint: {NEVER}"
    )
    put(store, SUMS, b"\xff\n")
    with pytest.raises(StoreError) as caught:
        publish_all(store, ring, [folder])
    assert caught.value.hint == "the store was changed by something else"


def test_a_build_with_other_images_is_refused_by_what_is_listed(
    store: DirectoryStore, ring: KeyRing, build: Build, make_release: MakeRelease
) -> None:
    publish_all(store, ring, [build(1)])
    store.delete(SUMS)
    other = make_release("other", images={"qcow2": EVIL, "raw": b"raw image 1" * 1000})
    with pytest.raises(StoreError) as caught:
        publish_all(store, ring, [other.folder])
    assert (
        caught.value.message == "example 1.0.0-b1 is published with other artifacts: example.qcow2"
    )
    assert listed(store, ring) == read_release(build(1)).files


def test_records_that_were_made_again_leave_those_that_are_listed(
    store: DirectoryStore, ring: KeyRing, build: Build
) -> None:
    first = dict(read_release(build(1)).files)
    publish_all(store, ring, [build(1)])
    before = [status.key for status in store.list()]
    (moved,) = publish_all(store, ring, [build(1, created=1_800_009_999)])
    assert not moved.written
    assert moved.blobs[0].kept == ("manifest.json",)
    assert listed(store, ring) == first
    assert [status.key for status in store.list()] == before


def test_the_rest_of_a_publication_is_replaced_unless_another_channel_signed_it(
    store: DirectoryStore, ring: KeyRing, stable: KeyRing, build: Build
) -> None:
    old = read_release(build(1)).sums
    store.create(SUMS, old)
    signature = sign(old, stable.of("targets")[0], file="SHA256SUMS", expires=2e9)
    assert signature
    store.create(f"{SUMS}.stable.minisig", signature)
    again = build(1, created=1_800_009_999)
    with pytest.raises(StoreError) as caught:
        publish_all(store, ring, [again])
    assert str(caught.value) == (
        "error: example 1.0.0-b1 is published with other records, "
        f"and {SUMS}.stable.minisig signs them\n"
        "  hint: promote it from where it is listed, or publish the build that was first"
    )
    store.delete(f"{SUMS}.stable.minisig")
    publish_all(store, ring, [again])
    assert store.read(SUMS).data == read_release(again).sums


@pytest.mark.parametrize("what", ["rubbish", "an enemy's", "of another list", "other comment"])
def test_a_signature_that_is_not_good_is_replaced(
    store: DirectoryStore, ring: KeyRing, stable: KeyRing, build: Build, what: str
) -> None:
    folder = build(1)
    text = read_release(folder).sums
    about = {"appliance": "example", "release": "1.0.0-b1", "channel": "nightly"}
    key = signature_key("nightly", EXAMPLE)
    good = sign(text, ring.of("targets")[0], file="SHA256SUMS", expires=2e9, about=about)
    assert good
    forged = {
        "rubbish": b"\xff\n",
        "an enemy's": sign(
            text, stable.of("targets")[0], file="SHA256SUMS", expires=2e9, about=about
        ),
        "of another list": sign(
            enemys_sums(folder), ring.of("targets")[0], file="SHA256SUMS", expires=2e9, about=about
        ),
        "other comment": good.replace(b"2033", b"2099"),
    }[what]
    assert forged
    assert forged != good
    put(store, key, forged)
    publish_all(store, ring, [folder])
    assert store.read(key).data != forged
    assert signed(store, ring, text)
    kept = store.read(key).data
    publish_all(store, ring, [folder])
    assert store.read(key).data == kept


def test_the_names_of_records_are_fixed(
    store: DirectoryStore, ring: KeyRing, make_release: MakeRelease
) -> None:
    """So that none of them can hide what is an image, or the other way round."""
    release = make_release()
    text = (release.folder / "manifest.json").read_text().replace("sbom.cdx.json", "other.json")
    (release.folder / "manifest.json").unlink()  # which nobody may change
    (release.folder / "manifest.json").write_text(text)
    (release.folder / "sbom.cdx.json").rename(release.folder / "other.json")
    with pytest.raises(BuildError) as caught:
        publish_all(store, ring, [release.folder])
    assert str(caught.value) == (
        "error: example 1.0.0-b1 has records of other names: manifest.json, other.json, "
        "provenance.intoto.json\n"
        "  hint: run: invoke build example"
    )
    assert store.stat(sums_key(EXAMPLE)) is None
