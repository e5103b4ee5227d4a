"""Channels on a real server: many who publish at the same moment, and the rest of the protocol
beside them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from example_release import write_example
from slipway.channels.audit import examine
from slipway.channels.client import Client
from slipway.channels.collect import collect
from slipway.channels.commit import commit
from slipway.channels.download import download
from slipway.channels.keys import KeyRing, init
from slipway.channels.moves import promote, publish_all, rollback, withdraw
from slipway.channels.state import Channel, Listed, read_channel
from slipway.channels.upkeep import Policy, prune, refresh
from slipway.records.reference import ReleaseRef
from slipway.stores import Store, open_store
from slipway.stores.s3 import S3Store
from store_faults import CountingStore
from tuf_judge import Judge

pytestmark = pytest.mark.ceph


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    return init("nightly", tmp_path / "keys")


@pytest.fixture
def stable(tmp_path: Path) -> KeyRing:
    return init("stable", tmp_path / "keys")


def channel_of(store: Store, ring: KeyRing) -> Channel:
    return read_channel(store, ring.channel, ring.roots[0])


def in_parallel(works: list[Callable[[], None]]) -> None:
    """Do all of them at the same time; the first error is raised."""
    errors: list[BaseException] = []
    barrier = threading.Barrier(len(works))

    def run(work: Callable[[], None]) -> None:
        barrier.wait()
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_a_release_goes_its_way_and_a_client_of_tufs_own_agrees(
    url: str, ring: KeyRing, stable: KeyRing, tmp_path: Path
) -> None:
    store = open_store(url)
    for number in (1, 2):
        publish_all(store, ring, [write_example(tmp_path / str(number), number).folder])
    counting = CountingStore(store)
    promote(counting, stable, lambda: channel_of(store, ring), "example", "b2")
    assert [key for key, _ in counting.writes if key.startswith("targets/")] == []
    judge = Judge(store, "stable", stable.roots[0], tmp_path / "judge")
    assert judge.download("example/1.0.0-b2/example.qcow2") == b"image 2" * 1000
    client = Client(store, "stable", stable.roots[0], tmp_path / "memory")
    image = download(
        store, client.wanted(ReleaseRef("example", "1.0.0-b2"), "example.qcow2"), tmp_path / "out"
    )
    assert image.read_bytes() == b"image 2" * 1000
    rollback(store, ring, "example")
    withdraw(store, stable, "example", "b2", "a test")
    assert not judge.has("example/1.0.0-b2/example.qcow2")
    assert prune(store, ring, Policy(days=1, weeks=0, months=0)) == {}
    refresh(store, ring)
    roots = {"nightly": ring.roots[0], "stable": stable.roots[0]}
    assert collect(store, roots).removed == ()
    for keys in (ring, stable):
        examine(store, channel_of(store, keys), store.now()).require_sound()


@pytest.mark.nightly
def test_of_eight_publishers_nothing_is_lost(
    plain_url: str, ring: KeyRing, stable: KeyRing, tmp_path: Path
) -> None:
    """8 x 6 commits, with promotions, withdrawals, pruning and collections beside them."""
    publishers, commits = 8, 6
    store = open_store(plain_url)
    publish_all(store, ring, [write_example(tmp_path / "first", 0).folder])
    promote(store, stable, lambda: channel_of(store, ring), "example")
    retries: list[int] = []

    def publisher(index: int) -> Callable[[], None]:
        mine = open_store(plain_url)

        def work() -> None:
            for number in range(commits):
                release = f"1.0.{index}-c{number}"

                def add(channel: Channel, release: str = release) -> None:
                    listed = Listed(
                        created=1_800_000_000,
                        added=1_800_000_000,
                        files={"disk.raw.zst": (1, "0" * 64)},
                    )
                    channel.shelf(f"appliance-{index}").add(release, listed)

                retries.append(commit(mine, ring, add).retries)

        return work

    def upkeep() -> None:
        mine = open_store(plain_url)
        roots = {"nightly": ring.roots[0], "stable": stable.roots[0]}
        for number in range(1, 4):
            publish_all(mine, ring, [write_example(tmp_path / f"more-{number}", number).folder])
            promote(mine, stable, lambda: channel_of(mine, ring), "example")
            collect(mine, roots)
            refresh(mine, stable)
        withdraw(mine, stable, "example", "b1", "a test")
        withdraw(mine, ring, "example", "b1", "a test")

    assert isinstance(store, S3Store)
    in_parallel([*(publisher(index) for index in range(publishers)), upkeep])
    channel = channel_of(store, ring)
    found = {
        release
        for index in range(publishers)
        for release in channel.shelf(f"appliance-{index}").releases
    }
    print(f"{len(found)} commits present, after {sum(retries)} retries")
    assert found == {
        f"1.0.{index}-c{number}" for index in range(publishers) for number in range(commits)
    }
    for keys in (ring, stable):
        channel = channel_of(store, keys)
        assert list(channel.shelf("example").releases)[-1] == "1.0.0-b3"
        assert list(channel.shelf("example").withdrawn) == ["1.0.0-b1"]
        judge = Judge(store, keys.channel, keys.roots[0], tmp_path / f"judge-{keys.channel}")
        assert judge.has("example/1.0.0-b3/example.qcow2")
