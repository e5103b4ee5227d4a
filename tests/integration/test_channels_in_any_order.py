"""Anything that people do, in any order, days apart: what a channel lists is there, and users never
see a step back.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from any_value import PATIENT
from example_release import write_example
from slipway.channels.collect import collect
from slipway.channels.keys import init
from slipway.channels.layout import target_key
from slipway.channels.moves import promote, publish_all, rollback, withdraw
from slipway.channels.state import read_channel
from slipway.channels.upkeep import Policy, prune, refresh
from slipway.errors import StoreError
from slipway.records.reference import ReleaseRef
from slipway.stores import Store
from slipway.stores.directory import DirectoryStore
from store_faults import Crash, CrashingStore

BUILDS = st.integers(1, 4)
CHANNELS = st.sampled_from(["nightly", "stable"])


class Channels(RuleBasedStateMachine):
    """A store with two channels; time passes by making everything in it older."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="channels-"))
        self.store: Store = DirectoryStore(self.folder / "store")
        self.rings = {name: init(name, self.folder / "keys") for name in ("nightly", "stable")}
        self.builds = {
            number: write_example(self.folder / f"build-{number}", number).folder
            for number in range(1, 5)
        }
        self.versions = {name: 0 for name in self.rings}
        self.withdrawn: dict[str, set[str]] = {name: set() for name in self.rings}
        publish_all(self.store, self.rings["nightly"], [self.builds[1]])
        promote(self.store, self.rings["stable"], lambda: self.read("nightly"), "example")

    def read(self, name: str) -> Any:
        return read_channel(self.store, name, self.rings[name].roots[0])

    @rule(number=BUILDS)
    def publish(self, number: int) -> None:
        with contextlib.suppress(StoreError):  # it was withdrawn
            publish_all(self.store, self.rings["nightly"], [self.builds[number]])

    @rule(number=BUILDS)
    def promote(self, number: int) -> None:
        refresh(self.store, self.rings["nightly"])
        with contextlib.suppress(StoreError):  # nightly does not have it
            promote(
                self.store,
                self.rings["stable"],
                lambda: self.read("nightly"),
                "example",
                f"b{number}",
            )

    @rule(number=BUILDS, channel=CHANNELS)
    def withdraw(self, number: int, channel: str) -> None:
        with contextlib.suppress(StoreError):
            if withdraw(self.store, self.rings[channel], "example", f"b{number}", "a test").written:
                self.withdrawn[channel].add(f"1.0.0-b{number}")

    @rule(channel=CHANNELS)
    def rollback(self, channel: str) -> None:
        with contextlib.suppress(StoreError):
            rollback(self.store, self.rings[channel], "example")

    @rule(channel=CHANNELS)
    def prune(self, channel: str) -> None:
        prune(self.store, self.rings[channel], Policy(days=1, weeks=0, months=0))

    @rule()
    def collect(self) -> None:
        collect(self.store, {name: ring.roots[0] for name, ring in self.rings.items()})

    @rule(number=BUILDS, at=st.integers(1, 9), after=st.booleans())
    def crash(self, number: int, at: int, after: bool) -> None:
        crashing = CrashingStore(self.store, at=at, after=after)
        with contextlib.suppress(StoreError, Crash):
            publish_all(crashing, self.rings["nightly"], [self.builds[number]])

    @rule(days=st.sampled_from([1, 6, 8]))
    def time_passes(self, days: int) -> None:
        for path in (self.folder / "store").rglob("*"):
            then = path.stat().st_mtime - days * 86400
            os.utime(path, (then, then))

    @invariant()
    def what_is_listed_is_there(self) -> None:
        for name in self.rings:
            shelf = self.read(name).shelf("example")
            for release, listed in shelf.releases.items():
                for file, (size, sha256) in listed.files.items():
                    status = self.store.stat(
                        target_key(ReleaseRef("example", release), file, sha256)
                    )
                    assert status is not None and status.size == size
            assert shelf.current in shelf.releases or (shelf.current is None and not shelf.releases)

    @invariant()
    def nothing_goes_back(self) -> None:
        for name in self.rings:
            channel = self.read(name)
            assert channel.timestamp.signed.version >= self.versions[name]
            self.versions[name] = channel.timestamp.signed.version
            assert self.withdrawn[name].isdisjoint(channel.shelf("example").releases)

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)


TestChannels = Channels.TestCase
TestChannels.settings = settings(PATIENT, max_examples=12, stateful_step_count=20)
