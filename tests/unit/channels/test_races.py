"""Two at once, on the real code: a rival acts just before one call of the store, or hours pass
there.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from slipway.channels.audit import examine
from slipway.channels.collect import GRACE_S, collect
from slipway.channels.commit import commit
from slipway.channels.keys import KeyRing
from slipway.channels.moves import promote, publish_all, withdraw
from slipway.channels.publish import publish
from slipway.channels.state import Channel, read_channel
from slipway.errors import StoreError
from slipway.stores import Status, Store
from slipway.stores.directory import DirectoryStore
from store_doubles import RacingStore
from store_faults import CountingStore

Build = Callable[..., Path]
HOUR = 3600.0
LEASE = "gc/lease"


@pytest.fixture
def sleep(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let the boot clock go on by so many seconds: the machine sleeps."""
    real, slept = time.clock_gettime, [0.0]
    monkeypatch.setattr(time, "clock_gettime", lambda clock: real(clock) + slept[0])

    def sleep(seconds: float) -> None:
        slept[0] += seconds

    return sleep


def channel_of(store: Store, ring: KeyRing) -> Channel:
    return read_channel(store, ring.channel, ring.roots[0])


def releases(store: Store, ring: KeyRing) -> list[str]:
    return list(channel_of(store, ring).shelf("example").releases)


def written(store: DirectoryStore, prefix: str, age_s: float) -> None:
    """Make objects that begin so count as written so long ago."""
    moment = store.now() - age_s
    for status in store.list(prefix):
        os.utime(store.directory / status.key, (moment, moment))


def roots(*rings: KeyRing) -> dict[str, bytes]:
    return {ring.channel: ring.roots[0] for ring in rings}


def require_whole(store: Store, *rings: KeyRing) -> None:
    """Everything that the channels refer to is there."""
    for ring in rings:
        examine(store, channel_of(store, ring), time.time()).require_sound()


def images(store: Store) -> set[str]:
    """The releases of which there is an image."""
    return {
        status.key.split("/")[2]
        for status in store.list("targets/")
        if status.key.endswith(".qcow2")
    }


# --- commits --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operation", "at", "retries"),
    [("read", 2, 0), ("create", 1, 1), ("create", 2, 1), ("swap", 1, 1)],
    ids=["before it is read again", "before its list", "before its snapshot", "before the swap"],
)
def test_of_two_commits_at_once_none_is_lost(
    store: DirectoryStore, ring: KeyRing, build: Build, operation: str, at: int, retries: int
) -> None:
    publish_all(store, ring, [build(1)])
    racing = RacingStore(
        store, operation, lambda: publish_all(store, ring, [build(2)]), at=at, prefix="metadata/"
    )
    (moved,) = publish_all(racing, ring, [build(3)])
    assert racing.done
    assert (moved.release, moved.before, moved.retries) == ("1.0.0-b3", "1.0.0-b2", retries)
    assert releases(store, ring) == ["1.0.0-b1", "1.0.0-b2", "1.0.0-b3"]
    require_whole(store, ring)


def test_of_two_first_commits_none_is_lost(
    store: DirectoryStore, ring: KeyRing, build: Build
) -> None:
    racing = RacingStore(store, "swap", lambda: publish_all(store, ring, [build(1)]))
    publish_all(racing, ring, [build(2)])
    assert releases(store, ring) == ["1.0.0-b1", "1.0.0-b2"]


@pytest.mark.parametrize("hours", [5.9, 6.1])
def test_a_commit_that_takes_too_long_is_given_up(
    store: DirectoryStore, ring: KeyRing, build: Build, sleep: Callable[[float], None], hours: float
) -> None:
    """The machine sleeps while the new snapshot is written, after everything was read and found."""
    publish_all(store, ring, [build(1)])
    before = store.read("metadata/nightly/timestamp.json")
    slow = RacingStore(
        store, "create", lambda: sleep(hours * HOUR), prefix="metadata/nightly/2.snapshot"
    )
    if hours < 6:
        publish_all(slow, ring, [build(2)])
        assert releases(store, ring) == ["1.0.0-b1", "1.0.0-b2"]
        return
    with pytest.raises(StoreError) as caught:
        publish_all(slow, ring, [build(2)])
    assert str(caught.value) == (
        "error: the commit to nightly took longer than 6 hours, and was given up\n"
        "  hint: run it again"
    )
    assert store.read("metadata/nightly/timestamp.json") == before


def test_the_time_of_a_publication_begins_before_its_uploads(
    store: DirectoryStore, ring: KeyRing, build: Build, sleep: Callable[[float], None]
) -> None:
    slow = RacingStore(store, "create_file", lambda: sleep(7 * HOUR))
    with pytest.raises(
        StoreError, match="the commit to nightly took longer than 6 hours, and was given up"
    ):
        publish_all(slow, ring, [build(1)])
    assert store.stat("metadata/nightly/timestamp.json") is None


# --- collections ----------------------------------------------------------------------------------


def test_a_collection_that_takes_too_long_stops(
    store: DirectoryStore, ring: KeyRing, build: Build, sleep: Callable[[float], None]
) -> None:
    """Its lease is void then: what it found may be rescued by somebody else."""
    publish_all(store, ring, [build(1)])
    publish(store, build(2))
    written(store, "", 10 * 86400)
    before = [status.key for status in store.list("targets/")]
    slow = RacingStore(store, "list", lambda: sleep(6.1 * HOUR), prefix="targets/")
    with pytest.raises(StoreError) as caught:
        collect(slow, roots(ring))
    assert (
        str(caught.value)
        == "error: the collection took longer than 6 hours, and was given up\n  hint: run it again"
    )
    assert [status.key for status in store.list("targets/")] == before


def test_one_collection_at_a_time(store: DirectoryStore, ring: KeyRing, build: Build) -> None:
    publish_all(store, ring, [build(1)])
    publish(store, build(2))
    written(store, "", 10 * 86400)
    refused = []

    def rival() -> None:
        with pytest.raises(StoreError) as caught:
            collect(store, roots(ring))
        refused.append(str(caught.value))

    first = RacingStore(store, "delete", rival)
    assert len(collect(first, roots(ring)).removed) == 6
    assert refused == [
        "error: a garbage collection has been under way for 0 minutes\n"
        "  hint: try again later: if it was stopped, its lease ends 6 hours after its begin"
    ]


def test_two_collections_that_begin_together_are_one(
    store: DirectoryStore, ring: KeyRing, build: Build
) -> None:
    publish_all(store, ring, [build(1)])
    racing = RacingStore(
        store, "swap", lambda: store.swap(LEASE, b"taken by a rival\n", etag=None), prefix=LEASE
    )
    with pytest.raises(StoreError) as caught:
        collect(racing, roots(ring))
    assert (
        str(caught.value) == "error: a garbage collection has just begun\n  hint: try again later"
    )


@pytest.mark.parametrize(("hours", "free"), [(5.9, False), (6.1, True)])
def test_the_lease_of_a_stopped_collection_ends(
    store: DirectoryStore, ring: KeyRing, build: Build, hours: float, free: bool
) -> None:
    publish_all(store, ring, [build(1)])
    store.swap(LEASE, b"taken 1\n", etag=None)
    written(store, LEASE, hours * HOUR)
    if free:
        assert collect(store, roots(ring)).removed == ()
        assert store.read(LEASE).data == b"free\n"
        return
    with pytest.raises(StoreError, match="a garbage collection has been under way for 354 minutes"):
        collect(store, roots(ring))


def test_what_was_forgotten_and_is_published_again_is_not_collected(
    store: DirectoryStore, ring: KeyRing, build: Build
) -> None:
    """A run was stopped ten days ago, before its commit.

    Today's run finds its objects, and a collection comes between.
    """
    publish_all(store, ring, [build(1)])
    publish(store, build(2))
    written(store, "", 10 * 86400)
    removed: list[Status] = []
    racing = RacingStore(
        store,
        "swap",
        lambda: removed.extend(collect(store, roots(ring)).removed),
        prefix="metadata/",
    )
    publish_all(racing, ring, [build(2)])
    assert racing.done
    assert removed == []
    require_whole(store, ring)


def test_nothing_is_rescued_from_a_collection_that_is_under_way(
    store: DirectoryStore, ring: KeyRing, build: Build
) -> None:
    publish_all(store, ring, [build(1)])
    publish(store, build(2))
    written(store, "", 10 * 86400)

    def rival() -> None:
        with pytest.raises(
            StoreError, match="a garbage collection has been under way for 0 minutes"
        ):
            publish_all(store, ring, [build(2)])

    racing = RacingStore(store, "delete", rival)
    collect(racing, roots(ring))
    assert racing.done
    assert images(store) == {"1.0.0-b1"}
    publish_all(store, ring, [build(2)])
    require_whole(store, ring)


@pytest.mark.parametrize(("hours", "kept"), [(-1, True), (5, True), (7, False)])
def test_what_was_referred_to_within_the_grace_is_kept(
    store: DirectoryStore, ring: KeyRing, build: Build, hours: float, kept: bool
) -> None:
    """The snapshot without b1 was written G and some hours ago; it became current within D of
    that.
    """
    for number in (1, 2):
        publish_all(store, ring, [build(number)])
    withdraw(store, ring, "example", "b1", "a test")
    written(store, "", 2 * GRACE_S)
    written(store, "metadata/nightly/3.", GRACE_S + hours * HOUR)
    collect(store, roots(ring))
    assert images(store) == ({"1.0.0-b1", "1.0.0-b2"} if kept else {"1.0.0-b2"})


def test_a_promotion_beside_a_pruning_and_a_collection_loses_nothing(
    store: DirectoryStore, ring: KeyRing, stable: KeyRing, build: Build
) -> None:
    """The promotion has read its source.

    Before it commits, the source forgets the release and a collection runs.
    """
    for number in (1, 2):
        publish_all(store, ring, [build(number)])
    written(store, "targets/", 10 * 86400)
    written(store, "releases/", 10 * 86400)

    def rival() -> None:
        def drop(channel: Channel) -> None:
            del channel.shelf("example").releases["1.0.0-b1"]

        commit(store, ring, drop)
        collect(store, roots(ring, stable))

    racing = RacingStore(store, "swap", rival, prefix="metadata/stable/")
    assert (
        promote(racing, stable, lambda: channel_of(store, ring), "example", "b1").release
        == "1.0.0-b1"
    )
    assert racing.done
    require_whole(store, ring, stable)


def test_what_refers_goes_before_what_is_referred_to(
    store: DirectoryStore, ring: KeyRing, build: Build
) -> None:
    """A crash between leaves nothing that a list names and that is not there: lists first, then
    sums, then images.
    """
    for number in (1, 2, 3):
        publish_all(store, ring, [build(number)])
    for number in (1, 2):
        withdraw(store, ring, "example", f"b{number}", "a test")
    written(store, "", 10 * 86400)
    counting = CountingStore(store)
    collect(counting, roots(ring))
    deleted = [key for key, _ in counting.writes if key != LEASE]
    assert [key for key in deleted if key.startswith("metadata/")] == [
        f"metadata/nightly/{number}.{role}.json"
        for number in (1, 2, 3, 4)
        for role in ("example", "snapshot")
    ]
    order = [key.split("/")[0] for key in deleted]
    assert order == sorted(order)
    assert set(order) == {"metadata", "releases", "targets"}
