"""Withdrawn is final: in every channel, whoever is first, and whatever is wrong with a channel."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from slipway.channels.keys import KeyRing, init
from slipway.channels.moves import promote, publish_all, withdraw
from slipway.channels.session import Session
from slipway.channels.state import Channel, read_channel
from slipway.errors import HostError, StoreError, UsageError, VerificationError
from slipway.records.manifest import PackageChanges, Parent
from slipway.stores import Store
from slipway.stores.directory import DirectoryStore
from store_doubles import RacingStore

pytestmark = pytest.mark.integration

Build = Callable[..., Path]
STONE = "example 1.0.0-b2 was withdrawn from nightly: it eats disks"


@pytest.fixture
def sessions(store: DirectoryStore, keys: Path, tmp_path: Path) -> Callable[..., Session]:
    """Open a store, which may be one that something is wrong with."""

    def session(opened: Store = store) -> Session:
        return Session(
            store=opened, keys=keys, trust=tmp_path / "trust", memory=tmp_path / "memory"
        )

    return session


@pytest.fixture
def session(
    sessions: Callable[..., Session],
    store: DirectoryStore,
    ring: KeyRing,
    stable: KeyRing,
    build: Build,
) -> Session:
    """Nightly has b1, b2 and b3; stable has b1 and b2."""
    opened = sessions()
    for number in (1, 2, 3):
        publish_all(opened.store, ring, [build(number)], **opened.around("nightly"))
    for number in (1, 2):
        opened.promotion("example", f"b{number}", "nightly", "stable")[2]()
    return opened


def channel_of(store: Store, ring: KeyRing) -> Channel:
    return read_channel(store, ring.channel, ring.roots[0])


def releases(store: Store, ring: KeyRing) -> list[str]:
    return [
        name.removeprefix("1.0.0-") for name in channel_of(store, ring).shelf("example").releases
    ]


def put(store: DirectoryStore, key: str, data: bytes) -> None:
    path = store.directory / key
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


# --- what another channel has withdrawn -----------------------------------------------------------


def test_what_another_channel_has_withdrawn_is_not_published(
    session: Session, store: DirectoryStore, ring: KeyRing, keys: Path, build: Build
) -> None:
    candidate = init("candidate", keys)
    session.withdraw("example", "b3", "it eats disks", ["nightly"])
    for status in [
        *store.list("targets/example/1.0.0-b3/"),
        *store.list("releases/example/1.0.0-b3/"),
    ]:
        store.delete(status.key)
    with pytest.raises(StoreError) as caught:
        publish_all(session.store, candidate, [build(3)], **session.around("candidate"))
    assert str(caught.value) == (
        "error: example 1.0.0-b3 was withdrawn from nightly: it eats disks\n  hint: use 1.0.0-b2"
    )
    assert not list(store.list("targets/example/1.0.0-b3/"))
    assert store.stat("metadata/candidate/timestamp.json") is None


def test_what_another_channel_has_withdrawn_is_not_promoted(
    session: Session, store: DirectoryStore, ring: KeyRing, keys: Path
) -> None:
    """Candidate still has it; its tombstone is in nightly."""
    init("candidate", keys)
    session.promotion("example", "b3", "nightly", "candidate")[2]()
    session.withdraw("example", "b3", "it eats disks", ["nightly"])
    with pytest.raises(StoreError) as caught:
        session.promotion("example", "b3", "candidate", "stable")[2]()
    assert caught.value.message == "example 1.0.0-b3 was withdrawn from nightly: it eats disks"


def test_what_another_channel_has_withdrawn_is_not_rolled_back_to(
    session: Session, store: DirectoryStore, ring: KeyRing, stable: KeyRing
) -> None:
    session.rollback("example", "stable", "b1")
    session.withdraw("example", "b2", "it eats disks", ["nightly"])
    with pytest.raises(StoreError) as caught:
        session.rollback("example", "stable", "b2")
    assert caught.value.message == STONE
    assert channel_of(store, stable).shelf("example").current == "1.0.0-b1"


def test_what_another_channel_has_withdrawn_does_not_become_current(
    session: Session, store: DirectoryStore, ring: KeyRing, stable: KeyRing
) -> None:
    session.promotion("example", "b3", "nightly", "stable")[2]()
    session.withdraw("example", "b2", "it eats disks", ["nightly"])
    session.withdraw("example", "b3", "it eats more")
    assert channel_of(store, stable).shelf("example").current == "1.0.0-b1"
    assert channel_of(store, ring).shelf("example").current == "1.0.0-b1"


def test_tombstones_that_cannot_be_read_are_no_leave(
    session: Session, store: DirectoryStore, ring: KeyRing, keys: Path, build: Build
) -> None:
    session.withdraw("example", "b3", "it eats disks", ["nightly"])
    put(store, "metadata/nightly/timestamp.json", b"{}")
    with pytest.raises(VerificationError, match="is not TUF metadata"):
        candidate = init("candidate", keys)
        publish_all(session.store, candidate, [build(3)], **session.around("candidate"))


# --- at the same time -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operation", "at", "prefix"),
    [
        ("create", 1, "metadata/stable/"),
        ("swap", 1, "metadata/stable/"),
        ("read", 1, "releases/"),
        ("create", 1, "releases/"),
    ],
    ids=[
        "before its list",
        "before its commit",
        "before it looks at SHA256SUMS",
        "before it signs",
    ],
)
def test_a_promotion_at_the_same_time_does_not_bring_it_back(
    session: Session,
    sessions: Callable[..., Session],
    store: DirectoryStore,
    ring: KeyRing,
    stable: KeyRing,
    operation: str,
    at: int,
    prefix: str,
) -> None:
    """The withdrawal runs whole just before a step of the promotion."""
    racing = RacingStore(
        store,
        operation,
        lambda: session.withdraw("example", "b3", "it eats disks"),
        at=at,
        prefix=prefix,
    )
    try:
        sessions(racing).promotion("example", "b3", "nightly", "stable")[2]()
    except StoreError as error:
        assert "withdrawn" in str(error)
    assert racing.done
    assert releases(store, ring) == ["b1", "b2"]
    assert releases(store, stable) == ["b1", "b2"]


def test_a_promotion_that_lost_says_so(
    session: Session,
    sessions: Callable[..., Session],
    store: DirectoryStore,
    ring: KeyRing,
    stable: KeyRing,
) -> None:
    """Only nightly's keys are where it is withdrawn, so that stable's commit is not disturbed."""
    racing = RacingStore(
        store,
        "swap",
        lambda: withdraw(store, ring, "example", "b3", "it eats disks"),
        prefix="metadata/stable/",
    )
    with pytest.raises(StoreError) as caught:
        sessions(racing).promotion("example", "b3", "nightly", "stable")[2]()
    assert str(caught.value) == (
        "error: example 1.0.0-b3 was withdrawn from nightly meanwhile: it eats disks\n"
        "  hint: it is withdrawn from stable, too"
    )
    shelf = channel_of(store, stable).shelf("example")
    assert shelf.withdrawn["1.0.0-b3"].reason == "it eats disks"
    assert shelf.current == "1.0.0-b2"
    assert store.stat("releases/example/1.0.0-b3/SHA256SUMS.stable.minisig") is None


def test_a_publication_that_lost_says_so(
    session: Session,
    sessions: Callable[..., Session],
    store: DirectoryStore,
    ring: KeyRing,
    keys: Path,
    build: Build,
) -> None:
    candidate = init("candidate", keys)
    racing = RacingStore(
        store,
        "swap",
        lambda: withdraw(store, ring, "example", "b3", "it eats disks"),
        prefix="metadata/candidate/",
    )
    with pytest.raises(StoreError, match="was withdrawn from nightly meanwhile: it eats disks"):
        publish_all(racing, candidate, [build(3)], **sessions(racing).around("candidate"))
    assert releases(store, candidate) == []


def test_a_rollback_that_lost_is_undone(
    session: Session,
    sessions: Callable[..., Session],
    store: DirectoryStore,
    ring: KeyRing,
    stable: KeyRing,
) -> None:
    session.rollback("example", "stable", "b1")
    racing = RacingStore(
        store,
        "swap",
        lambda: withdraw(store, ring, "example", "b2", "it eats disks"),
        prefix="metadata/stable/",
    )
    with pytest.raises(StoreError) as caught:
        sessions(racing).rollback("example", "stable", "b2")
    assert str(caught.value) == (
        "error: example 1.0.0-b2 was withdrawn from nightly meanwhile: it eats disks\n"
        "  hint: stable has 1.0.0-b1 again; run: invoke withdraw example --build 1.0.0-b2"
    )
    assert channel_of(store, stable).shelf("example").current == "1.0.0-b1"


@pytest.mark.parametrize("at", range(1, 6))
def test_a_withdrawal_finds_what_is_promoted_meanwhile(
    session: Session,
    sessions: Callable[..., Session],
    store: DirectoryStore,
    ring: KeyRing,
    stable: KeyRing,
    at: int,
) -> None:
    """The promotion, by a program that looks at no tombstones, runs whole before a read of the
    withdrawal.
    """

    def rival() -> None:
        with suppress(StoreError):  # too late
            promote(store, stable, lambda: channel_of(store, ring), "example", "b3")

    racing = RacingStore(store, "read", rival, at=at, prefix="metadata/")
    done = sessions(racing).withdraw("example", "b3", "it eats disks")
    assert racing.done
    assert done.unreached == {}
    assert releases(store, ring) == ["b1", "b2"]
    assert releases(store, stable) == ["b1", "b2"]


# --- channels that something is wrong with --------------------------------------------------------


def damage_signature(store: DirectoryStore) -> str:
    put(store, "metadata/stable/timestamp.json", store.read("metadata/nightly/timestamp.json").data)
    return (
        "the timestamp metadata of the channel stable is not signed by its keys: "
        "timestamp was signed by 0/1 keys"
    )


def damage_bytes(store: DirectoryStore) -> str:
    put(store, "metadata/stable/timestamp.json", b"\xff\x00")
    return "metadata/stable/timestamp.json is not TUF metadata"


def damage_list(store: DirectoryStore) -> str:
    (key,) = [
        status.key
        for status in store.list("metadata/stable/")
        if status.key.endswith("/2.example.json")
    ]
    put(store, key, b"{}")
    return f"{key} is not TUF metadata"


def delete_timestamp(store: DirectoryStore) -> str:
    store.delete("metadata/stable/timestamp.json")
    return "the channel stable has metadata, but its timestamp.json was deleted"


@pytest.mark.parametrize("damage", [damage_signature, damage_bytes, damage_list, delete_timestamp])
def test_a_damaged_channel_keeps_a_release_in_no_other(
    session: Session, store: DirectoryStore, ring: KeyRing, damage: Callable[[DirectoryStore], str]
) -> None:
    problem = damage(store)
    done = session.withdraw("example", "b2", "it eats disks")
    assert releases(store, ring) == ["b1", "b3"]
    assert [moved.channel for moved in done.moved] == ["nightly"]
    with pytest.raises(StoreError) as caught:
        done.require_whole()
    assert str(caught.value) == (
        f"error: example 1.0.0-b2 may still be in 1 channels:\n  stable: {problem}\n"
        "  hint: repair them, or run this where their keys are"
    )


def test_a_bogus_channel_keeps_a_release_in_no_other(
    session: Session, store: DirectoryStore, ring: KeyRing, stable: KeyRing
) -> None:
    for key in ("bogus/timestamp.json", "BOGUS/timestamp.json", "a b/1.root.json", "file", "-x/y"):
        put(store, f"metadata/{key}", b"rubbish")
    assert session.channels() == ("stable", "bogus", "nightly")
    done = session.withdraw("example", "b2", "it eats disks")
    assert releases(store, ring) == ["b1", "b3"]
    assert releases(store, stable) == ["b1"]
    assert list(done.unreached) == ["bogus"]
    assert done.unreached["bogus"].startswith("no trusted root for channel bogus")


def test_a_channel_whose_keys_are_elsewhere_is_reported(
    session: Session,
    store: DirectoryStore,
    ring: KeyRing,
    stable: KeyRing,
    keys: Path,
    tmp_path: Path,
) -> None:
    (tmp_path / "trust").mkdir()
    (tmp_path / "trust/stable.root.json").write_bytes(stable.roots[0])
    (keys / "stable").rename(tmp_path / "away")
    done = session.withdraw("example", "b2", "it eats disks")
    assert done.unreached == {"stable": f"there are no keys of the channel stable in {keys}"}
    assert releases(store, ring) == ["b1", "b3"]
    (tmp_path / "away").rename(keys / "stable")
    again = session.withdraw("example", "b2", "it eats disks")
    again.require_whole()
    assert [moved.channel for moved in again.moved] == ["stable"]
    assert session.withdraw("example", "b2", "it eats disks").moved == ()


def test_what_is_nowhere_to_be_found_is_an_error(session: Session, store: DirectoryStore) -> None:
    with pytest.raises(StoreError) as caught:
        session.withdraw("example", "b9", "a test")
    assert (
        str(caught.value) == "error: no channel has a release b9 of example\n"
        "  hint: choose from: 1.0.0-b1, 1.0.0-b2, 1.0.0-b3"
    )
    with pytest.raises(StoreError) as caught:
        session.withdraw("example", "1.0.0-b22", "a test")
    assert caught.value.hint == 'did you mean "1.0.0-b2"?'
    with pytest.raises(StoreError) as caught:
        session.withdraw("exmaple", "b1", "a test")
    assert (
        str(caught.value)
        == 'error: no channel has a release b1 of exmaple\n  hint: did you mean "example"?'
    )
    problem = damage_bytes(store)
    with pytest.raises(StoreError) as caught:
        session.withdraw("example", "b9", "a test")
    assert str(caught.value) == (
        f"error: no channel that can be read has a release b9 of example\n  stable: {problem}\n"
        "  hint: choose from: 1.0.0-b1, 1.0.0-b2, 1.0.0-b3"
    )
    with pytest.raises(StoreError) as caught:
        session.withdraw("example", "b2", "a test", ["stabel"])
    assert caught.value.message == f"{store.url} has no channel stabel"


# --- derived --------------------------------------------------------------------------------------


def parent(number: int) -> Parent:
    return Parent(release=f"1.0.0-b{number}", build=f"b{number}", packages=PackageChanges())


def test_what_is_derived_goes_with_it(
    sessions: Callable[..., Session],
    store: DirectoryStore,
    ring: KeyRing,
    stable: KeyRing,
    build: Build,
) -> None:
    """b2 and b3 come from b1, and b4 has the disk of b3; b5 has another parent and another disk."""
    session = sessions()
    disk = {number: str(number) * 64 for number in range(1, 6)} | {4: "3" * 64}
    folders = {}
    for number, before in ((1, None), (2, 1), (3, 2), (4, None), (5, 9)):
        changes = {"disk": disk[number], "parent": parent(before) if before else None}
        folders[number] = build(number, **changes)
        publish_all(session.store, ring, [folders[number]], **session.around("nightly"))
    session.promotion("example", "b3", "nightly", "stable")[2]()
    done = session.withdraw("example", "b1", "it eats disks", derived=True)
    assert done.releases == ("1.0.0-b1", "1.0.0-b2", "1.0.0-b3", "1.0.0-b4")
    done.require_whole()
    assert releases(store, ring) == ["b5"]
    assert releases(store, stable) == []
    shelf = channel_of(store, ring).shelf("example")
    assert shelf.withdrawn["1.0.0-b1"].reason == "it eats disks"
    assert shelf.withdrawn["1.0.0-b4"].reason == "derived from 1.0.0-b1: it eats disks"
    assert {stone.replacement for stone in shelf.withdrawn.values()} == {"1.0.0-b5"}


def test_what_may_be_derived_is_reported(
    session: Session, store: DirectoryStore, ring: KeyRing
) -> None:
    size, digest = (
        channel_of(store, ring).shelf("example").releases["1.0.0-b3"].files["manifest.json"]
    )
    key = f"targets/example/1.0.0-b3/{digest}.manifest.json"
    put(store, key, b"!" * size)
    done = session.withdraw("example", "b1", "it eats disks", derived=True)
    assert done.unreached == {
        "nightly": f"1.0.0-b3 may be derived: {key} is not what was published"
    }
    assert releases(store, ring)[-1] == "b3"


def test_a_build_of_several_releases_is_named(
    session: Session, ring: KeyRing, build: Build
) -> None:
    folder = build(4, build="b1", release="2.0.0-b1", version="2.0.0")
    publish_all(session.store, ring, [folder], **session.around("nightly"))
    with pytest.raises(UsageError) as caught:
        session.withdraw("example", "b1", "a test")
    assert str(caught.value) == (
        "error: b1 is the build of several releases of example\n"
        "  hint: name one: 1.0.0-b1, 2.0.0-b1"
    )
    assert session.withdraw("example", "2.0.0-b1", "a test").releases == ("2.0.0-b1",)


def test_no_keys_at_all_change_nothing(session: Session, keys: Path, tmp_path: Path) -> None:
    bare = Session(
        store=session.store,
        keys=tmp_path / "none",
        trust=tmp_path / "none",
        memory=tmp_path / "memory",
    )
    with pytest.raises(StoreError, match="no channel that can be read has a release b1 of example"):
        bare.withdraw("example", "b1", "a test")
    with pytest.raises(HostError):
        bare.rollback("example", "stable", None)
