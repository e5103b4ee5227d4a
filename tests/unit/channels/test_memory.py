"""An enemy who can write to the store shows publishers an older state: nothing is signed after it,
and there is a way out.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from slipway.channels import watch
from slipway.channels.audit import audit
from slipway.channels.client import Client
from slipway.channels.expiry import require_fresh
from slipway.channels.keys import KeyRing, export, init, load_ring, rotate
from slipway.channels.memory import memory_of, seen_by
from slipway.channels.moves import promote, publish_all, rollback, withdraw
from slipway.channels.recover import Findings, look, restore
from slipway.channels.session import Session
from slipway.channels.state import Channel, read_channel
from slipway.channels.upkeep import Policy, prune, refresh
from slipway.errors import HostError, StoreError, UsageError, VerificationError
from slipway.stores import Store
from slipway.stores.directory import DirectoryStore
from store_faults import Crash, CrashingStore
from tuf_judge import Judge

pytestmark = pytest.mark.integration

Build = Callable[..., Path]
TIMESTAMP = "metadata/nightly/timestamp.json"
SEEN_3 = "version 2 of the channel nightly, version 3 was seen here"
T = 1_800_000_000.0
DAY = 86400.0
WAY_OUT = "somebody may have put an old copy back; what is known: invoke recover nightly"


def put(store: DirectoryStore, key: str, data: bytes) -> None:
    """Overwrite whatever is there."""
    path = store.directory / key
    path.unlink(missing_ok=True)
    path.write_bytes(data)


def channel_of(store: Store, ring: KeyRing) -> Channel:
    return read_channel(store, ring.channel, ring.roots[0])


def elsewhere(ring: KeyRing, folder: Path) -> KeyRing:
    """The same keys on a machine that has seen nothing."""
    assert ring.folder
    shutil.copytree(ring.folder, folder / ring.channel, ignore=shutil.ignore_patterns("seen"))
    return load_ring(ring.channel, folder)


def objects(store: DirectoryStore) -> dict[str, bytes]:
    """All there is, but for roots: those are in the ring."""
    return {
        status.key: store.read(status.key).data
        for status in store.list()
        if not status.key.endswith("root.json")
    }


def refused(act: Callable[[], object], store: DirectoryStore) -> str:
    """What an act that is refused says; it has written nothing."""
    before = objects(store)
    with pytest.raises(VerificationError) as caught:
        act()
    assert objects(store) == before
    return str(caught.value)


@pytest.fixture
def old(store: DirectoryStore, ring: KeyRing, build: Build) -> bytes:
    """Two releases were published, the second one was withdrawn: the timestamp from before that."""
    for number in (1, 2):
        publish_all(store, ring, [build(number)])
    timestamp = store.read(TIMESTAMP).data
    withdraw(store, ring, "example", "b2", "it eats disks")
    return timestamp


# --- an older state -------------------------------------------------------------------------------


def test_no_command_signs_after_an_older_state(
    store: DirectoryStore, ring: KeyRing, stable: KeyRing, build: Build, old: bytes
) -> None:
    """The withdrawn release would be current again, and its tombstone gone."""
    put(store, TIMESTAMP, old)
    keys = ring.folder.parent if ring.folder else Path()
    session = Session(store=store, keys=keys, trust=keys, memory=keys / "clients")
    acts: list[Callable[[], object]] = [
        lambda: refresh(store, ring),
        lambda: publish_all(store, ring, [build(3)]),
        lambda: withdraw(store, ring, "example", "b1", "a test"),
        lambda: rollback(store, ring, "example"),
        lambda: prune(store, ring, Policy()),
        lambda: prune(store, ring, Policy(), dry_run=True),
        lambda: session.promotion("example", None, "nightly", "stable"),
        lambda: promote(store, stable, lambda: session.read("nightly"), "example"),
        lambda: session.read("nightly"),
        lambda: refresh(store, rotate("nightly", keys, "timestamp")),
    ]
    said = (
        "error: the store has version 2 of the channel nightly, version 3 was seen here\n"
        f"  hint: {WAY_OUT}"
    )
    for act in acts:
        assert refused(act, store) == said
    before = objects(store)
    for problems in (session.holdings()[1], session.collect().problems):
        assert {name: str(error) for name, error in problems.items()} == {"nightly": said}
    assert objects(store) == {**before, "gc/lease": b"free\n"}


def test_a_state_that_was_only_read_is_remembered(
    store: DirectoryStore, ring: KeyRing, old: bytes, tmp_path: Path
) -> None:
    """Another machine withdrew it.

    This one has looked since, and then somebody puts the old timestamp back.
    """
    other = elsewhere(ring, tmp_path / "other")
    refresh(store, ring)
    session = Session(
        store=store, keys=tmp_path / "other", trust=tmp_path, memory=tmp_path / "clients"
    )
    session.holdings()
    put(store, TIMESTAMP, old)
    for name in ("3.snapshot.json", "4.snapshot.json", "3.example.json"):
        store.delete(f"metadata/nightly/{name}")
    assert "version 2 of the channel nightly, version 4 was seen here" in refused(
        lambda: refresh(store, other), store
    )


def test_who_has_no_keys_remembers_too(
    store: DirectoryStore, ring: KeyRing, stable: KeyRing, old: bytes, tmp_path: Path
) -> None:
    """A promotion takes from a channel whose root alone is here."""
    (tmp_path / "trust").mkdir()
    (tmp_path / "trust/nightly.root.json").write_bytes(ring.roots[0])
    assert stable.folder and ring.folder
    shutil.rmtree(ring.folder)
    session = Session(
        store=store,
        keys=stable.folder.parent,
        trust=tmp_path / "trust",
        memory=tmp_path / "clients",
    )
    session.read("nightly")
    put(store, TIMESTAMP, old)
    for name in ("3.snapshot.json", "3.example.json"):
        store.delete(f"metadata/nightly/{name}")
    message = "version 2 of the channel nightly, version 3 was seen here"
    assert message in refused(
        lambda: session.promotion("example", "b2", "nightly", "stable"), store
    )


def test_a_bundle_remembers_below_the_users_state(
    store: DirectoryStore,
    ring: KeyRing,
    old: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SLIPWAY_KEY_BUNDLE", export(ring))
    monkeypatch.setenv("SLIPWAY_STATE", str(tmp_path / "kept"))
    bundled = load_ring("nightly", tmp_path / "nowhere")
    assert bundled.folder is None
    refresh(store, bundled)
    (path,) = (tmp_path / "kept/publishers").glob("*.json")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    put(store, TIMESTAMP, old)
    assert "version 2 of the channel nightly, version 4 was seen here" in refused(
        lambda: refresh(store, bundled), store
    )


def test_a_bundle_brings_along_what_was_seen(
    store: DirectoryStore,
    ring: KeyRing,
    old: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first night of a new runner believes no state that is older than its keys' export."""
    (state,) = seen_by(ring).values()
    lines = [
        export(ring, ("timestamp",), seen={store.url: replace(state, timestamp=1, snapshot=1)}),
        export(ring, ("targets", "snapshot"), seen=seen_by(ring)),
    ]
    put(store, TIMESTAMP, old)
    monkeypatch.setenv("SLIPWAY_STATE", str(tmp_path / "kept"))
    for bundle in (lines, lines[::-1]):
        monkeypatch.setenv("SLIPWAY_KEY_BUNDLE", "\n".join(bundle))
        bundled = load_ring("nightly", tmp_path / "nowhere")
        memory = memory_of(store, replace(bundled, seen={}), "nightly")
        assert SEEN_3 in refused(partial(refresh, store, bundled), store)
        # Nor where a cache was put back that is older than the bundle.
        memory.remember(replace(state, timestamp=2, snapshot=2))
        assert SEEN_3 in refused(partial(refresh, store, bundled), store)


@pytest.fixture
def bundle(
    store: DirectoryStore,
    ring: KeyRing,
    stable: KeyRing,
    build: Build,
    old: bytes,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> KeyRing:
    """A runner that has seen nothing, and whose bundles know what the exporter saw: stable has
    withdrawn a release that nightly lists.
    """
    keys = ring.folder.parent if ring.folder else Path()
    session = Session(store=store, keys=keys, trust=keys, memory=keys / "clients")
    promote(store, stable, lambda: session.read("nightly"), "example", "b1")
    withdraw(store, stable, "example", "b1", "it eats disks")
    lines = [export(each, seen=seen_by(each)) for each in (ring, stable)]
    monkeypatch.setenv("SLIPWAY_KEY_BUNDLE", "\n".join(lines))
    monkeypatch.setenv("SLIPWAY_STATE", str(tmp_path / "kept"))
    return load_ring("nightly", tmp_path / "nowhere")


def test_a_deleted_channel_that_a_bundle_knows_is_missed(
    store: DirectoryStore, bundle: KeyRing, build: Build, tmp_path: Path
) -> None:
    """Or its withdrawals were gone with it."""
    shutil.rmtree(store.directory / "metadata/stable")
    nowhere = tmp_path / "nowhere"
    session = Session(store=store, keys=nowhere, trust=nowhere, memory=tmp_path / "clients")
    assert session.known() == ("stable", "nightly")
    message = "the channel stable is gone from the store, version 2 of it was seen here"
    around = session.around("nightly")
    acts: list[Callable[[], object]] = [
        lambda: publish_all(store, bundle, [build(3)], **around),
        lambda: rollback(store, bundle, "example", "b1", **around),
        lambda: session.promotion("example", "b1", "nightly", "stable")[2](),
    ]
    for act in acts:
        assert message in refused(act, store)
    for problems in (session.holdings()[1], session.collect().problems):
        assert {name: error.message for name, error in problems.items()} == {"stable": message}
    assert session.withdraw("example", "b1", "a test").unreached == {"stable": message}


def test_what_a_bundle_brought_along_is_kept_and_exported_again(
    store: DirectoryStore, bundle: KeyRing, tmp_path: Path
) -> None:
    """The next bundle may have nothing of it, and this host's memory was of before."""
    (state,) = bundle.seen.values()
    assert seen_by(bundle) == bundle.seen
    alone = replace(bundle, seen={})
    memory_of(store, alone, "nightly").remember(replace(state, timestamp=1, snapshot=1))
    assert seen_by(bundle) == bundle.seen
    nowhere = tmp_path / "nowhere"
    session = Session(store=store, keys=nowhere, trust=nowhere, memory=tmp_path / "clients")
    session.read("nightly")
    kept = memory_of(store, alone, "nightly").load().seen
    assert kept and kept.timestamp == state.timestamp
    assert seen_by(alone) == {store.url: kept}


def test_two_states_of_one_number_do_not_pass_for_one(
    store: DirectoryStore, bundle: KeyRing, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Somebody with the keys of a channel showed one to whoever exported it, and one here."""
    (state,) = bundle.seen.values()
    memory = memory_of(store, bundle, "nightly")
    memory.remember(state)
    other = {store.url: replace(state, sha256="0" * 64)}
    with pytest.raises(HostError) as caught:
        memory_of(store, replace(bundle, seen=other), "nightly").load()
    assert str(caught.value) == (
        f"error: {memory.path} and SLIPWAY_KEY_BUNDLE do not agree about the channel nightly: two "
        "states of version 3 are known\n"
        "  hint: the channel's keys signed both; inspect it with: invoke recover nightly"
    )
    lines = [export(bundle, ("timestamp",), seen=other), export(bundle, seen=bundle.seen)]
    monkeypatch.setenv("SLIPWAY_KEY_BUNDLE", "\n".join(lines))
    with pytest.raises(HostError) as caught:
        load_ring("nightly", tmp_path / "nowhere")
    assert str(caught.value) == (
        f"error: SLIPWAY_KEY_BUNDLE has two lines of the channel nightly in {store.url} that do "
        "not agree: two states of version 3 are known\n"
        "  hint: look where each was made, with: invoke recover nightly; then export both again"
    )
    newer_root = {store.url: replace(state, root=2)}
    lines[0] = export(bundle, ("timestamp",), seen=newer_root)
    monkeypatch.setenv("SLIPWAY_KEY_BUNDLE", "\n".join(lines))
    assert load_ring("nightly", tmp_path / "nowhere").seen == newer_root


def test_what_a_bundle_has_seen_is_not_forgotten_on_a_runner(
    store: DirectoryStore, bundle: KeyRing, build: Build
) -> None:
    """A damaged memory hides it as little."""
    memory = memory_of(store, bundle, "nightly")
    memory.path.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
    memory.path.write_text("damaged")
    assert look(store, bundle, clock=lambda: T).known.seen == memory.floor
    memory.path.unlink()
    shutil.rmtree(store.directory / "metadata")
    with pytest.raises(HostError) as caught:
        recover(store, bundle)
    assert str(caught.value) == (
        "error: SLIPWAY_KEY_BUNDLE says that version 3 of the channel nightly was seen: it does "
        "not begin again here\n"
        "  hint: where its keys are, run: invoke recover nightly, then: invoke keys export nightly"
    )
    message = "the channel nightly is gone from the store, version 3 of it was seen here"
    assert message in refused(lambda: publish_all(store, bundle, [build(3)]), store)


@pytest.mark.parametrize("place", [None, 5, "elsewhere"])
def test_a_memory_that_names_another_store_is_not_exported(
    store: DirectoryStore, ring: KeyRing, old: bytes, place: object
) -> None:
    path = memory_of(store, ring, "nightly").path
    path.write_text(json.dumps({**json.loads(path.read_text()), "store": place}))
    with pytest.raises(HostError) as caught:
        seen_by(ring)
    assert str(caught.value) == (
        f"error: {path} cannot be understood: it does not name its store\n"
        "  hint: restore it from a backup, or inspect it with: invoke recover nightly"
    )


def test_an_expired_timestamp_may_be_an_old_one(
    store: DirectoryStore, ring: KeyRing, build: Build, tmp_path: Path
) -> None:
    """This machine has not looked for 13 days.

    What it saw last is put back, and all that came since is deleted.
    """
    publish_all(store, ring, [build(1)], clock=lambda: T)
    old = store.read(TIMESTAMP).data
    other = elsewhere(ring, tmp_path / "other")
    refresh(store, other, clock=lambda: T + 6 * DAY)
    publish_all(store, other, [build(2)], clock=lambda: T + 12 * DAY)
    put(store, TIMESTAMP, old)
    for number in (2, 3):
        store.delete(f"metadata/nightly/{number}.snapshot.json")
    assert refused(lambda: refresh(store, ring, clock=lambda: T + 13 * DAY), store) == (
        "error: the timestamp of the channel nightly expired on 2027-01-22: newer ones may have "
        "been hidden; this host's clock says 2027-01-28 08:00 UTC\n"
        "  hint: if this clock is right, and nobody published or refreshed since then, "
        "go on with: invoke recover nightly"
    )


def test_a_deleted_channel_does_not_begin_again(
    store: DirectoryStore, ring: KeyRing, build: Build, old: bytes
) -> None:
    shutil.rmtree(store.directory / "metadata")
    assert refused(lambda: publish_all(store, ring, [build(2)]), store) == (
        "error: the channel nightly is gone from the store, version 3 of it was seen here\n"
        f"  hint: {WAY_OUT}"
    )


def test_a_channel_whose_only_commit_lost_its_timestamp_does_not_begin_again(
    store: DirectoryStore, ring: KeyRing, build: Build, tmp_path: Path
) -> None:
    publish_all(store, ring, [build(1)])
    store.delete(TIMESTAMP)
    message = "the channel nightly is gone from the store, version 1 of it was seen here"
    assert message in refused(lambda: publish_all(store, ring, [build(2)]), store)
    other = elsewhere(ring, tmp_path / "other")
    message = (
        "the channel nightly has a signed snapshot 1 that its timestamp does not "
        "name, it names none"
    )
    assert message in refused(lambda: publish_all(store, other, [build(2)]), store)


def test_a_deleted_channel_hides_from_no_command(
    store: DirectoryStore, ring: KeyRing, stable: KeyRing, old: bytes, tmp_path: Path
) -> None:
    """The listing has no stable any more.

    A collection would remove all that stable alone refers to.
    """
    promote(store, stable, lambda: channel_of(store, ring), "example", "b1")
    keys = ring.folder.parent if ring.folder else tmp_path
    session = Session(store=store, keys=keys, trust=tmp_path / "trust", memory=tmp_path / "clients")
    shutil.rmtree(store.directory / "metadata/stable")
    message = "the channel stable is gone from the store, version 1 of it was seen here"
    assert list(session.holdings()[1]) == ["stable"]
    for act in (session.refresh, session.prune):
        with pytest.raises(VerificationError) as caught:
            act()
        assert caught.value.message == message
    assert not list(store.list("metadata/stable/"))
    collected = session.collect()
    assert {name: error.message for name, error in collected.problems.items()} == {
        "stable": message
    }
    assert not collected.removed
    audited = audit(session, [], lambda key: None)
    assert [line.split(":")[0] for line in audited.lines] == ["nightly"]
    assert audited.all_problems == [f"stable: {message}"]


def test_one_channel_that_is_refused_keeps_no_other_from_its_refresh(
    store: DirectoryStore, ring: KeyRing, stable: KeyRing, old: bytes, tmp_path: Path
) -> None:
    promote(store, stable, lambda: channel_of(store, ring), "example", "b1")
    before = store.read("metadata/stable/timestamp.json").data
    refresh(store, stable)
    put(store, "metadata/stable/timestamp.json", before)
    keys = ring.folder.parent if ring.folder else tmp_path
    with pytest.raises(
        VerificationError,
        match="the store has version 1 of the channel stable, version 2 was seen here",
    ):
        Session(store=store, keys=keys, trust=tmp_path, memory=tmp_path / "clients").refresh()
    channel = channel_of(store, ring)
    assert channel.timestamp and channel.timestamp.signed.version == 4


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "root"])
@pytest.mark.parametrize("fresh", [False, True], ids=["here", "on a fresh machine"])
def test_roots_that_were_deleted_come_back(
    store: DirectoryStore, ring: KeyRing, old: bytes, tmp_path: Path, role: str, fresh: bool
) -> None:
    """Keys were replaced; then somebody deletes the roots that say so, and users hold on to the old
    ones.
    """
    assert ring.folder
    after = rotate("nightly", ring.folder.parent, role)
    refresh(store, after)
    roots = {
        key
        for key in (status.key for status in store.list("metadata/nightly/"))
        if key.endswith("root.json")
    }
    for key in roots - {"metadata/nightly/1.root.json"}:
        store.delete(key)
    refresh(store, elsewhere(after, tmp_path / "fresh") if fresh else after)
    assert {
        status.key for status in store.list("metadata/nightly/") if status.key.endswith("root.json")
    } == roots
    assert Judge(store, "nightly", ring.roots[0], tmp_path / "judge").has(
        "example/1.0.0-b1/example.qcow2"
    )


# --- without a memory: what the store's own snapshots say -----------------------------------------


def test_a_fresh_machine_sees_that_later_states_were_named(
    store: DirectoryStore, ring: KeyRing, build: Build, old: bytes, tmp_path: Path
) -> None:
    publish_all(store, ring, [build(3)])
    put(store, TIMESTAMP, old)
    fresh = elsewhere(ring, tmp_path / "fresh")
    assert refused(lambda: refresh(store, fresh), store) == (
        "error: the timestamp of the channel nightly names version 2, but version 4 was signed "
        "after later ones\n"
        "  hint: somebody put an old timestamp back; what is known: invoke recover nightly"
    )


def test_a_fresh_machine_does_not_decide_about_one_step_back(
    store: DirectoryStore, ring: KeyRing, old: bytes, tmp_path: Path
) -> None:
    put(store, TIMESTAMP, old)
    fresh = elsewhere(ring, tmp_path / "fresh")
    assert refused(lambda: refresh(store, fresh), store) == (
        "error: the channel nightly has a signed snapshot 3 that its timestamp does not "
        "name, it names 2\n"
        "  hint: a publisher was stopped, or somebody put an old timestamp back: "
        "let that publisher run again, or decide with: invoke recover nightly"
    )


def test_what_nobody_signed_holds_nobody_up(
    store: DirectoryStore, ring: KeyRing, old: bytes, tmp_path: Path
) -> None:
    """An enemy cannot stop publishers by files with high numbers."""
    enemy = init("nightly", tmp_path / "enemy")
    other = DirectoryStore(tmp_path / "enemys")
    for _ in range(9):
        refresh(other, enemy)
    for number, data in (
        (9, other.read("metadata/nightly/9.snapshot.json").data),
        (8, b"{}"),
        (7, b"\xff"),
        (6, old),
    ):
        put(store, f"metadata/nightly/{number}.snapshot.json", data)
    put(store, "metadata/nightly/x.snapshot.json", b"")
    refresh(store, ring)
    refresh(store, elsewhere(ring, tmp_path / "fresh"))


def test_the_rests_of_races_hold_nobody_up(
    store: DirectoryStore, ring: KeyRing, build: Build, tmp_path: Path
) -> None:
    """Publishers of their own memory, all at once: every commit ends, although each leaves
    snapshots that nobody names.
    """
    publish_all(store, ring, [build(9)])
    rings = [elsewhere(ring, tmp_path / f"machine-{number}") for number in range(4)]
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for commit in range(3):
                publish_all(
                    DirectoryStore(store.directory),
                    rings[number],
                    [build(10 * number + commit + 10)],
                )
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    watch.PATIENCE_S = 20.0
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert failures == []
    assert len(channel_of(store, ring).shelf("example").releases) == 13
    snapshots = [
        status.key
        for status in store.list("metadata/nightly/")
        if status.key.endswith("snapshot.json")
    ]
    assert len(snapshots) >= 13
    refresh(store, elsewhere(ring, tmp_path / "fresh"))


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", [2, 3], ids=["snapshot", "swap"])
def test_a_stopped_publisher_goes_on_and_frees_the_others(
    store: DirectoryStore, ring: KeyRing, old: bytes, tmp_path: Path, at: int, late: bool
) -> None:
    """Other machines wait for it, or decide; it knows its own."""
    other = elsewhere(ring, tmp_path / "other")
    with pytest.raises(Crash):
        withdraw(CrashingStore(store, at=at, after=late), ring, "example", "b1", "a test")
    if (at, late) in ((2, True), (3, False)):
        assert "has a signed snapshot 4 that its timestamp does not name" in refused(
            lambda: refresh(store, other), store
        )
    withdraw(store, ring, "example", "b1", "a test")
    refresh(store, other)
    assert channel_of(store, ring).shelf("example").current is None


@pytest.mark.parametrize("at", range(1, 7))
def test_a_publisher_that_is_stopped_twice_knows_all_of_its_own(
    store: DirectoryStore, ring: KeyRing, old: bytes, tmp_path: Path, at: int
) -> None:
    """What it began anew under a number that it had used is not what is in the store."""
    for last, late, reason in ((2, True, "a test"), (at, False, "another")):
        with contextlib.suppress(Crash):
            withdraw(CrashingStore(store, at=last, after=late), ring, "example", "b1", reason)
    withdraw(store, ring, "example", "b1", "a test")
    refresh(store, elsewhere(ring, tmp_path / "other"))
    assert channel_of(store, ring).shelf("example").current is None


# --- other content under the same number ----------------------------------------------------------


def test_another_state_of_the_same_number_is_refused(
    store: DirectoryStore, ring: KeyRing, old: bytes, tmp_path: Path
) -> None:
    """All that came later was deleted, so a fresh machine could not know, and took the number
    again.
    """
    put(store, TIMESTAMP, old)
    for name in ("3.snapshot.json", "3.example.json"):
        store.delete(f"metadata/nightly/{name}")
    refresh(store, elsewhere(ring, tmp_path / "fresh"))
    assert refused(lambda: refresh(store, ring), store) == (
        "error: version 3 of the channel nightly does not continue version 3, which was seen "
        f"here\n  hint: {WAY_OUT}"
    )


@pytest.mark.parametrize("more", [1, 3])
def test_a_state_that_goes_on_from_an_older_one_is_refused(
    store: DirectoryStore, ring: KeyRing, old: bytes, tmp_path: Path, more: int
) -> None:
    put(store, TIMESTAMP, old)
    for name in ("3.snapshot.json", "3.example.json"):
        store.delete(f"metadata/nightly/{name}")
    fresh = elsewhere(ring, tmp_path / "fresh")
    for _ in range(1 + more):
        refresh(store, fresh)
    assert refused(lambda: refresh(store, ring), store) == (
        f"error: version {3 + more} of the channel nightly does not continue version 3, "
        f"which was seen here\n  hint: {WAY_OUT}"
    )


def test_a_past_with_a_gap_is_believed_only_after_a_collection_may_have_made_it(
    store: DirectoryStore, ring: KeyRing, build: Build, tmp_path: Path
) -> None:
    publish_all(store, ring, [build(1)], clock=lambda: T)
    other = elsewhere(ring, tmp_path / "other")
    for day in (1, 4, 8):
        refresh(store, other, clock=lambda day=day: T + day * DAY)  # type: ignore[misc]
    store.delete("metadata/nightly/2.snapshot.json")
    message = "version 4 of the channel nightly does not continue version 1, which was seen here"
    assert message in refused(lambda: refresh(store, ring, clock=lambda: T + 6.9 * DAY), store)
    refresh(store, ring, clock=lambda: T + 8 * DAY)


def test_a_list_of_a_stopped_commit_cannot_take_the_place_of_the_one_that_is_named(
    store: DirectoryStore, ring: KeyRing, build: Build, tmp_path: Path
) -> None:
    """An enemy keeps what a stopped publication had signed, removes it, and brings it back under
    the number that was given again: both have the right signature and the right number.
    """
    for number in (1, 2):
        publish_all(store, ring, [build(number)])
    with pytest.raises(Crash):
        publish_all(CrashingStore(store, at=8, after=True), ring, [build(3)])
    key = "metadata/nightly/3.example.json"
    stopped = store.read(key).data
    store.delete(key)
    withdraw(store, ring, "example", "b2", "it eats disks")
    judge = Judge(store, "nightly", ring.roots[0], tmp_path / "judge")
    assert not judge.has("example/1.0.0-b2/example.qcow2")
    put(store, key, stopped)
    with pytest.raises(
        VerificationError, match=r"3.example.json is not the one that its channel lists"
    ):
        channel_of(store, ring).shelf("example")
    fresh = Judge(store, "nightly", ring.roots[0], tmp_path / "fresh")
    with pytest.raises(Exception, match=r"length|hash"):
        fresh.has("example/1.0.0-b2/example.qcow2")


# --- the file -------------------------------------------------------------------------------------


def test_a_memory_that_others_can_write_is_refused(
    store: DirectoryStore, ring: KeyRing, old: bytes
) -> None:
    memory = memory_of(store, ring, "nightly")
    assert memory.path.stat().st_mode & 0o777 == 0o600
    for path, mode in (
        (memory.path, 0o620),
        (memory.path, 0o602),
        (memory.path.parent, 0o720),
        (memory.path.parent, 0o702),
    ):
        before = path.stat().st_mode & 0o777
        path.chmod(mode)
        with pytest.raises(HostError) as caught:
            refresh(store, ring)
        assert str(caught.value) == (
            f"error: {path} can be written by others\n"
            f"  hint: run: chmod go-w {path}; whoever could write it could hide what was seen"
        )
        path.chmod(before)
    refresh(store, ring)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"seen": {"timestamp": 1}, "begun": {}}',
        '{"seen": null, "begun": {"x": 1}}',
    ],
)
def test_a_damaged_memory_is_not_taken_for_an_empty_one(
    store: DirectoryStore, ring: KeyRing, old: bytes, text: str
) -> None:
    memory = memory_of(store, ring, "nightly")
    memory.path.write_text(text)
    with pytest.raises(HostError, match=r"cannot be understood") as caught:
        refresh(store, ring)
    assert (
        caught.value.hint == "restore it from a backup, or inspect it with: invoke recover nightly"
    )
    found = look(store, ring, clock=lambda: channel_time(store, ring))
    assert found.problem is not None and found.chosen == 3
    restore(store, ring, found, clock=lambda: channel_time(store, ring))
    refresh(store, ring)


def channel_time(store: Store, ring: KeyRing) -> float:
    """A moment at which nothing has expired."""
    channel = channel_of(store, ring)
    assert channel.timestamp
    return channel.timestamp.signed.expires.timestamp() - DAY


def test_two_names_of_a_folder_are_one_store(
    store: DirectoryStore, ring: KeyRing, old: bytes, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(store.directory)
    put(store, TIMESTAMP, old)
    linked = DirectoryStore(tmp_path / "link")
    assert "version 2 of the channel nightly, version 3 was seen here" in refused(
        lambda: refresh(linked, ring), store
    )


# --- the way out ----------------------------------------------------------------------------------


def recover(
    store: Store, ring: KeyRing, *, clock: Callable[[], float] | None = None, to: int | None = None
) -> Findings:
    from time import time

    found = look(store, ring, clock=clock or time, to=to)
    restore(store, ring, found, clock=clock or time)
    return found


@pytest.mark.parametrize("damage", ["an older timestamp", "no timestamp", "another's timestamp"])
@pytest.mark.parametrize("fresh", [False, True], ids=["here", "on a fresh machine"])
def test_recovery_restores_the_newest_state(
    store: DirectoryStore,
    ring: KeyRing,
    build: Build,
    old: bytes,
    tmp_path: Path,
    damage: str,
    fresh: bool,
) -> None:
    """What was withdrawn stays so, users follow, and all publishers go on."""
    publish_all(store, ring, [build(3)])
    user = Judge(store, "nightly", ring.roots[0], tmp_path / "judge")
    user.updater()
    other = elsewhere(ring, tmp_path / "other")
    refresh(store, other)
    user.updater()
    if damage == "an older timestamp":
        put(store, TIMESTAMP, old)
    elif damage == "no timestamp":
        store.delete(TIMESTAMP)
    else:
        put(store, TIMESTAMP, b"{}")
    mine = elsewhere(ring, tmp_path / "fresh") if fresh else ring
    with pytest.raises((VerificationError, StoreError)):
        refresh(store, mine)
    assert recover(store, mine).chosen == 5
    shelf = channel_of(store, ring).shelf("example")
    assert (shelf.current, list(shelf.withdrawn)) == ("1.0.0-b3", ["1.0.0-b2"])
    user.updater()
    assert user.has("example/1.0.0-b3/example.qcow2")
    for each in (ring, other, mine):
        refresh(store, each)
        user.updater()


def test_users_follow_although_what_they_saw_is_gone(
    store: DirectoryStore, ring: KeyRing, build: Build, old: bytes, tmp_path: Path
) -> None:
    """All that came after the old timestamp was deleted.

    Its numbers, which users saw, are not given again.
    """
    publish_all(store, ring, [build(3)])
    publish_all(store, ring, [build(4)])
    user = Judge(store, "nightly", ring.roots[0], tmp_path / "judge")
    assert user.has("example/1.0.0-b4/example.qcow2")
    put(store, TIMESTAMP, old)
    for number in (3, 4, 5):
        store.delete(f"metadata/nightly/{number}.snapshot.json")
        store.delete(f"metadata/nightly/{number}.example.json")
    found = recover(store, ring)
    assert found.chosen == 2
    assert (
        "  version 5 is not in the store: what was withdrawn since 2 has to be withdrawn again"
        in found.lines
    )
    channel = channel_of(store, ring)
    assert channel.timestamp and channel.timestamp.signed.version == 6
    assert user.has("example/1.0.0-b1/example.qcow2")
    assert not user.has("example/1.0.0-b4/example.qcow2")
    publish_all(store, ring, [build(4)])
    assert user.has("example/1.0.0-b4/example.qcow2")


def test_recovery_says_what_is_known(store: DirectoryStore, ring: KeyRing, build: Build) -> None:
    for number in (1, 2):
        publish_all(store, ring, [build(number)], clock=lambda: T)
    old = store.read(TIMESTAMP).data
    withdraw(store, ring, "example", "b2", "it eats disks", clock=lambda: T)
    put(store, TIMESTAMP, old)
    assert look(store, ring, clock=lambda: T).lines == [
        "seen here: version 3, on 2027-01-15 08:00 UTC",
        "in the store: a timestamp that names version 2, and expires on 2027-01-22",
        "signed and whole: 1, 2, 3",
        "problem: the store has version 2 of the channel nightly, version 3 was seen here",
        "to be signed anew: version 3",
        "  example: 1.0.0-b1, 1 releases, 1 withdrawn (now: 1.0.0-b2, 2 releases, 0 withdrawn)",
    ]


def test_an_expired_channel_goes_on_when_a_person_says_so(
    store: DirectoryStore, ring: KeyRing, build: Build, tmp_path: Path
) -> None:
    publish_all(store, ring, [build(1)], clock=lambda: T)
    late = T + 80 * DAY
    assert recover(store, ring, clock=lambda: late).chosen == 1
    refresh(store, ring, clock=lambda: late)
    channel = channel_of(store, ring)
    channel.shelf("example")
    require_fresh(channel, late)


def test_a_fork_is_joined_and_users_of_both_sides_follow(
    store: DirectoryStore, ring: KeyRing, build: Build, old: bytes, tmp_path: Path
) -> None:
    """A fresh machine was shown the old state, without what came later, and published.

    Then that comes back.
    """
    user = Judge(store, "nightly", ring.roots[0], tmp_path / "judge")
    user.updater()
    kept = {
        name: store.read(f"metadata/nightly/{name}").data
        for name in ("3.snapshot.json", "3.example.json")
    }
    put(store, TIMESTAMP, old)
    for name in kept:
        store.delete(f"metadata/nightly/{name}")
    fresh = elsewhere(ring, tmp_path / "fresh")
    publish_all(store, fresh, [build(3)])
    publish_all(store, fresh, [build(4)])
    for name, data in kept.items():
        put(store, f"metadata/nightly/{name}", data)
    recover(store, ring, to=4 if store.stat("metadata/nightly/4.snapshot.json") else None)
    shelf = channel_of(store, ring).shelf("example")
    assert "1.0.0-b2" not in shelf.releases or "1.0.0-b2" in shelf.withdrawn
    refresh(store, ring)
    assert Judge(store, "nightly", ring.roots[0], tmp_path / "new").has(
        "example/1.0.0-b4/example.qcow2"
    )


def test_what_is_gone_is_forgotten_when_a_person_says_so(
    store: DirectoryStore, ring: KeyRing, build: Build, old: bytes
) -> None:
    shutil.rmtree(store.directory / "metadata")
    found = recover(store, ring)
    assert found.chosen is None
    assert found.lines == [
        found.lines[0],
        "in the store: no timestamp that the channel's keys have signed",
        "signed and whole: nothing",
        "problem: the channel nightly is gone from the store, version 3 of it was seen here",
    ]
    publish_all(store, ring, [build(1)])
    assert channel_of(store, ring).shelf("example").current == "1.0.0-b1"


def test_a_version_that_is_not_there_is_not_restored(
    store: DirectoryStore, ring: KeyRing, old: bytes
) -> None:
    with pytest.raises(UsageError) as caught:
        look(store, ring, clock=lambda: 0.0, to=9)
    assert str(caught.value) == (
        "error: the channel nightly has no version 9 that is signed and whole\n"
        "  hint: choose from: 1, 2, 3"
    )


def test_a_lost_race_is_not_restored(
    store: DirectoryStore, ring: KeyRing, build: Build, old: bytes, tmp_path: Path
) -> None:
    """A commit lost its race and was given up.

    Its snapshot has the highest number, but replaced an older state.
    """
    other = elsewhere(ring, tmp_path / "other")
    first = CrashingStore(store, at=3, after=False)
    with pytest.raises(Crash):
        withdraw(first, other, "example", "b1", "a test")
    key = store.directory / "metadata/nightly/4.snapshot.json"
    lost = key.read_bytes()
    assert b'"previous":3' in lost
    found = look(store, other, clock=lambda: channel_time(store, ring))
    assert found.chosen == 3  # its own, and it was told that nothing was done
    found = look(store, ring, clock=lambda: channel_time(store, ring))
    assert found.chosen == 4  # another machine's: it may have been current


# --- users ----------------------------------------------------------------------------------------


def test_what_a_user_saw_is_kept_where_only_the_user_writes(
    store: DirectoryStore, ring: KeyRing, old: bytes, tmp_path: Path
) -> None:
    memory = tmp_path / "user/clients"
    Client(store, "nightly", ring.roots[0], memory)
    (folder,) = memory.iterdir()
    assert [each.stat().st_mode & 0o777 for each in (memory, folder)] == [0o700, 0o700]
    for path in (memory.parent, memory, folder):
        for mode in (0o720, 0o702):
            path.chmod(mode)
            with pytest.raises(HostError) as caught:
                Client(store, "nightly", ring.roots[0], memory)
            assert str(caught.value) == (
                f"error: {path} can be written by others\n"
                f"  hint: run: chmod go-w {path}; whoever could write it could hide what was seen"
            )
        path.chmod(0o700)
    put(store, TIMESTAMP, old)
    with pytest.raises(VerificationError, match="New timestamp version 2 must be >= 3"):
        Client(store, "nightly", ring.roots[0], memory)


def test_what_belongs_to_somebody_else_is_no_memory(
    store: DirectoryStore,
    ring: KeyRing,
    old: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "clients").mkdir(mode=0o700)
    monkeypatch.setattr("os.geteuid", lambda: 12345)
    with pytest.raises(HostError) as caught:
        Client(store, "nightly", ring.roots[0], tmp_path / "clients")
    assert str(caught.value) == (
        f"error: {tmp_path} belongs to another user\n"
        "  hint: name a folder of your own: SLIPWAY_STATE"
    )


def test_users_and_publishers_remember_apart_from_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from slipway.job import Workshop
    from slipway.pipeline import session

    monkeypatch.setenv("SLIPWAY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SLIPWAY_KEYS", str(tmp_path / "keys"))
    begun = session(Workshop(root=tmp_path), str(tmp_path / "store"), new=True)
    assert begun.memory == tmp_path / "state/slipway/clients"
    monkeypatch.setenv("SLIPWAY_STATE", str(tmp_path / "kept"))
    assert (
        session(Workshop(root=tmp_path), str(tmp_path / "store"), new=True).memory
        == tmp_path / "kept/clients"
    )


def test_folders_are_private_whatever_the_umask_is(
    store: DirectoryStore, ring: KeyRing, old: bytes, tmp_path: Path
) -> None:
    """Where every user has a group, new folders are writable by it."""
    before = os.umask(0o002)
    try:
        memory_of(store, None, "nightly").reset(None)
        Client(store, "nightly", ring.roots[0], tmp_path / "state/slipway/clients")
    finally:
        os.umask(before)
    assert (tmp_path / "state/slipway").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("place", ["the folder", "the file"])
def test_what_cannot_be_remembered_is_not_signed(
    store: DirectoryStore, ring: KeyRing, build: Build, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """The keys are on a file system that takes no files."""
    assert ring.folder

    def refuse(*words: object, **more: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    if place == "the file":
        monkeypatch.setattr("slipway.channels.memory.create_file", refuse)
    else:
        monkeypatch.setattr("slipway.channels.memory.private_folder", refuse)
    with pytest.raises(HostError) as caught:
        publish_all(store, ring, [build(1)])
    assert str(caught.value) == (
        f"error: what was seen of the channel nightly cannot be kept in {ring.folder}/seen: "
        "Read-only file system\n"
        "  hint: name a folder that lasts: SLIPWAY_STATE"
    )
    assert store.stat(TIMESTAMP) is None
