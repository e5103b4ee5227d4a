"""Garbage collection beside everything else: a search of all orders of their steps, for an image
that is lost.

The search is over a model of the protocol's steps at the store (what each reads, writes, deletes,
and how long it may take); the rule that decides what is deleted is the real one,
``slipway.channels.collect.doomed``. That the model is able to find a loss is shown by leaving out
each part of the protocol in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from slipway.channels.collect import doomed
from slipway.stores import Status

pytestmark = pytest.mark.nightly

# All times are ages, in units of D; one that is at its limit stays there, so that there are
# finitely many worlds.
D, G = 1, 3
LIMIT = 2 * G
IMAGE = "targets/image"


@dataclass(frozen=True, slots=True)
class World:
    """The store, who is how far, and how long ago what happened.

    None: not there, never, or not under way.

    ``written``: the image's age. ``source`` and ``target``: whether the channel refers to it,
    ``source_until``: how long ago it ceased to. ``publisher``, ``promoter``, ``collector``: a
    state, and since when.
    """

    written: int | None = None
    source: bool = False
    source_until: int | None = None
    target: bool = False
    lease: int | None = None
    publisher: str = "idle"
    publisher_begun: int | None = None
    promoter: str = "idle"
    promoter_begun: int | None = None
    dropped: bool = False
    collector: str = "idle"
    collector_begun: int | None = None
    listed: int | None = None  # the image's age when it was listed; it stays


AGES = ("written", "source_until", "lease", "publisher_begun", "promoter_begun", "collector_begun")


@dataclass(frozen=True, slots=True)
class Rules:
    """The parts of the protocol; each can be left out."""

    age: bool = True  # only what is older than G is deleted
    past: bool = True  # what was referred to since t0 - G counts, not only what is referred to now
    anchored: bool = True  # that window begins before t0, not before each channel is read
    limit: bool = True  # commits end within D
    rescue: bool = True  # a publication makes young what it finds
    lease: bool = True  # not while a collection is under way
    collection_limit: bool = True  # collections end within D


def older(world: World) -> World:
    """Time passes."""
    ages: dict[str, Any] = {
        name: min(getattr(world, name) + 1, LIMIT)
        for name in AGES
        if getattr(world, name) is not None
    }
    return replace(world, **ages)


def in_time(begun: int | None, rules: Rules) -> bool:
    return not rules.limit or (begun or 0) <= D


def lease_is_free(world: World, rules: Rules) -> bool:
    return not rules.lease or world.lease is None or world.lease > D


def publish(world: World, rules: Rules) -> Iterator[World]:
    """Read the channel.

    Create the image, or make it young under the lease; then commit, within D of the begin.
    """
    if world.publisher == "idle":
        # What the channel refers to at this first read is not rescued.
        yield replace(world, publisher="safe" if world.source else "begun", publisher_begun=0)
    elif world.publisher in ("begun", "safe"):
        if world.written is None:
            yield replace(world, written=0, publisher="ready")
        elif world.written <= G - 2 * D or world.publisher == "safe" or not rules.rescue:
            yield replace(world, publisher="ready")
        elif lease_is_free(world, rules):
            yield replace(world, written=0, publisher="ready")
        else:
            yield replace(world, publisher="over", publisher_begun=None)
    elif world.publisher == "ready":
        done = replace(world, publisher="over", publisher_begun=None)
        yield replace(done, source=True) if in_time(world.publisher_begun, rules) else done


def promote(world: World, rules: Rules) -> Iterator[World]:
    """Read the source, see that the image is there; then commit to the target, within D of that
    read.
    """
    over = replace(world, promoter="over", promoter_begun=None)
    if world.promoter == "idle" and world.source:
        yield replace(world, promoter="read", promoter_begun=0)
    elif world.promoter == "read":
        yield replace(world, promoter="ready") if world.written is not None else over
    elif world.promoter == "ready":
        yield replace(over, target=True) if in_time(world.promoter_begun, rules) else over


def drop(world: World, rules: Rules) -> Iterator[World]:
    """Prune or withdraw: the source refers to the image no more."""
    if world.source and not world.dropped:
        yield replace(world, source=False, source_until=0, dropped=True)


def collect(world: World, rules: Rules) -> Iterator[World]:
    """Take the lease; t0 and the listing; read one channel after the other, in either order.

    Delete, within D of t0.
    """
    over = replace(world, collector="over", collector_begun=None, listed=None, lease=None)
    t0 = -(world.collector_begun or 0)
    if world.collector == "idle" and lease_is_free(world, rules):
        begun = replace(world, collector_begun=0, lease=0, listed=world.written)
        yield replace(begun, collector="source, then target")
        yield replace(begun, collector="target, then source")
    elif world.collector not in ("idle", "delete", "over"):
        here, _, following = world.collector.partition(", then ")
        refers = world.source if here == "source" else world.target
        until = world.source_until if here == "source" else None
        since = (t0 if rules.anchored else 0) - G
        referred = (
            {IMAGE} if refers or (rules.past and until is not None and -until >= since) else set()
        )
        listing = (
            []
            if world.listed is None
            else [Status(key=IMAGE, size=0, modified=float(t0 - world.listed))]
        )
        gone = doomed(listing, referred, t0 if rules.age else LIMIT * 9, G)
        yield replace(world, collector=following or "delete") if gone else over
    elif world.collector == "delete":
        late = rules.collection_limit and (world.collector_begun or 0) > D
        yield over if late else replace(over, written=None)


Actor = Callable[[World, Rules], Iterator[World]]
ACTORS: tuple[Actor, ...] = (publish, promote, drop, collect)
BEGINNINGS = (
    World(written=LIMIT, source=True),
    World(written=LIMIT, source_until=LIMIT),
    World(written=LIMIT),
    World(),
)


@dataclass
class Search:
    """All worlds that can be reached, and the first in which a channel refers to an image that is
    gone.
    """

    rules: Rules
    actors: tuple[Actor, ...] = ACTORS
    seen: set[World] = field(default_factory=set)

    def loss(self) -> World | None:
        waiting = list(BEGINNINGS)
        while waiting:
            world = waiting.pop()
            if world in self.seen:
                continue
            self.seen.add(world)
            if world.written is None and (world.source or world.target):
                return world
            waiting.append(older(world))
            for actor in self.actors:
                waiting += actor(world, self.rules)
        return None


def test_no_order_of_steps_loses_an_image() -> None:
    search = Search(Rules())
    assert search.loss() is None
    print(f"{len(search.seen)} worlds")
    assert len(search.seen) > 1_000


@pytest.mark.parametrize("part", ["age", "past", "limit", "rescue", "lease", "collection_limit"])
def test_every_part_of_the_protocol_is_needed(part: str) -> None:
    changes: dict[str, Any] = {part: False}
    assert Search(replace(Rules(), **changes)).loss() is not None


def test_the_window_is_anchored_before_the_collection() -> None:
    """With collections that end within D this matters no more.

    It is what protects promotions from one that does not.
    """
    slow = Rules(collection_limit=False)
    actors = (promote, drop, collect)
    assert Search(slow, actors).loss() is None
    assert Search(replace(slow, anchored=False), actors).loss() is not None
