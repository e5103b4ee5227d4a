"""Collection, promotion, publication and commit: their real code, in every order of their steps at
the store.

No image that a channel refers to may be lost. What one run cannot reach with two actors and a jump
of the clock is searched for in tests/unit/channels/test_interleavings.py, over a model of more of
them.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest

from every_order import Search, World
from example_release import write_example
from slipway.channels import collect as collecting
from slipway.channels import commit as committing
from slipway.channels import moves as moving
from slipway.channels import publish as publishing
from slipway.channels.collect import collect
from slipway.channels.commit import commit
from slipway.channels.keys import init
from slipway.channels.layout import channels_in, target_key
from slipway.channels.moves import promote, publish_all
from slipway.channels.state import Channel, read_channel
from slipway.channels.upkeep import refresh
from slipway.records.reference import ReleaseRef
from slipway.stores import NotFound, Store

DAY = 86400.0


class Scene:
    """Two channels, builds, and worlds in which they are."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.nightly, self.stable = (
            init("nightly", directory / "keys"),
            init("stable", directory / "keys"),
        )
        self.builds = {
            number: write_example(directory / f"build-{number}", number).folder for number in (1, 2)
        }
        self.world = World(float(int(time.time())))
        clock = SimpleNamespace(
            time=lambda: self.world.now,
            clock_gettime=lambda _: self.world.now,
            CLOCK_BOOTTIME=0,
            sleep=lambda _: None,
        )
        monkeypatch.setattr(collecting, "time", clock)
        monkeypatch.setattr(committing, "time", clock)

    @property
    def roots(self) -> dict[str, bytes]:
        """The trusted root of each channel."""
        return {ring.channel: ring.roots[0] for ring in (self.nightly, self.stable)}

    def publish(self, world: World, store: Store, number: int) -> None:
        """Publish a build to nightly."""
        publish_all(store, self.nightly, [self.builds[number]], clock=lambda: world.now)

    def promote(self, world: World, store: Store) -> None:
        """Promote the first build to stable."""

        def source() -> object:
            return read_channel(store, "nightly", self.nightly.roots[0])

        promote(store, self.stable, source, "example", "b1", clock=lambda: world.now)  # type: ignore[arg-type]

    def prune_and_collect(self, world: World, store: Store) -> None:
        """Take the first build out of nightly, as pruning does; then collect."""

        def drop(channel: Channel) -> None:
            channel.shelf("example").releases.pop("1.0.0-b1", None)

        commit(store, self.nightly, drop, clock=lambda: world.now)
        collect(store, self.roots)

    def require_whole(self, world: World) -> None:
        """Every object that a channel refers to is there."""
        for name in channels_in(world.store):
            try:
                channel = read_channel(world.store, name, self.roots[name])
            except NotFound as error:
                raise AssertionError(f"{name} lost its metadata: {error.message}") from error
            for appliance in channel.appliances:
                for release, listed in channel.shelf(appliance).releases.items():
                    for file, (_, sha256) in listed.files.items():
                        key = target_key(ReleaseRef(appliance, release), file, sha256)
                        if key not in world.store.objects:
                            raise AssertionError(f"{name} lost {key}")

    def search(self, begin: World, **actors: object) -> Search:
        """Search all orders of some actors."""

        def current(world: World) -> None:
            self.world = world

        found = Search(begin, actors, self.require_whole, current)  # type: ignore[arg-type]
        found.search()
        print(f"{found.runs} runs, {found.whole} to their end, {len(found.seen)} worlds")
        return found


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(tmp_path, monkeypatch)


def sleep(days: float) -> object:
    """An actor: time passes, once, whenever that may be."""

    def pass_time(world: World, store: Store) -> None:
        world.now += days * DAY

    return pass_time


def promoting(scene: Scene, **more: object) -> Search:
    """A promotion, and the pruning of what it promotes before a collection."""
    begin = scene.world
    for number in (1, 2):
        scene.publish(begin, begin.store, number)
    for _ in range(2):  # a timestamp lives seven days
        begin.now += 5 * DAY
        refresh(begin.store, scene.nightly, clock=lambda: begin.now)
    return scene.search(begin, promote=scene.promote, **more, collect=scene.prune_and_collect)


def publishing_again(scene: Scene, **more: object) -> Search:
    """A publication that finds its objects, ten days old and forgotten, beside a collection."""
    begin = scene.world
    scene.publish(begin, begin.store, 1)
    publishing.publish(begin.store, scene.builds[2])
    for _ in range(2):  # a timestamp lives seven days
        begin.now += 5 * DAY
        refresh(begin.store, scene.nightly, clock=lambda: begin.now)

    def publish(world: World, store: Store) -> None:
        scene.publish(world, store, 2)

    def collect_alone(world: World, store: Store) -> None:
        collect(store, scene.roots)

    return scene.search(begin, publish=publish, **more, collect=collect_alone)


def test_a_promotion_beside_a_collection(scene: Scene) -> None:
    assert promoting(scene).whole > 10


@pytest.mark.nightly
def test_a_promotion_that_sleeps_beside_a_collection(scene: Scene) -> None:
    assert promoting(scene, sleep=sleep(8)).whole > 10


def test_a_publication_that_finds_its_objects_beside_a_collection(scene: Scene) -> None:
    assert publishing_again(scene).whole > 10


@pytest.mark.nightly
def test_a_publication_that_sleeps_beside_a_collection(scene: Scene) -> None:
    assert publishing_again(scene, sleep=sleep(0.3)).whole > 10


@contextlib.contextmanager
def no_lease(store: Store) -> Iterator[committing.Deadline]:
    """Collect, whoever else does."""
    yield committing.Deadline()


def without_past(
    store: Store, channel: str, trusted: bytes, modified: Mapping[str, float], since: float
) -> set[str]:
    """What a channel refers to now."""
    return whole_past(store, channel, trusted, modified, math.inf)


whole_past = collecting._referred


@pytest.mark.parametrize(
    ("place", "name", "instead", "scenario"),
    [
        (collecting, "_referred", without_past, lambda scene: promoting(scene)),
        (
            committing.Deadline,
            "check",
            lambda self, what: None,
            lambda scene: promoting(scene, sleep=sleep(8)),
        ),
        (collecting, "_lease", no_lease, lambda scene: publishing_again(scene)),
        (moving, "rescue", lambda *words: None, lambda scene: publishing_again(scene)),
    ],
    ids=["past", "deadline", "lease", "rescue"],
)
def test_every_part_of_the_protocol_is_needed(
    scene: Scene,
    monkeypatch: pytest.MonkeyPatch,
    place: object,
    name: str,
    instead: object,
    scenario: Callable[[Scene], Search],
) -> None:
    """Without it, the same search finds a loss."""
    monkeypatch.setattr(place, name, instead)
    with pytest.raises(AssertionError, match=r"lost .*; in the order \w+"):
        scenario(scene)
