"""One command's view of a store: its channels, their trusted roots, and the keys here.

Trust in a channel starts from its root metadata: the one beside its keys if those are here, else
the project's file ``trust/<channel>.root.json``. Reading needs no private key.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from slipway.channels import moves, upkeep
from slipway.channels.client import Client
from slipway.channels.collect import Collected, collect
from slipway.channels.expiry import Expired, require_fresh, root_warning
from slipway.channels.keys import (
    BUNDLE,
    Clock,
    KeyRing,
    MissingKeys,
    channels_of_bundles,
    load_ring,
    trusted_root,
)
from slipway.channels.layout import channels_in, is_channel, metadata_key
from slipway.channels.memory import Memory, memory_of
from slipway.channels.moves import Moved
from slipway.channels.places import client_folder
from slipway.channels.recover import Findings, look, restore
from slipway.channels.report import NoChannel, Untrusted, describe, require_none, require_refreshed
from slipway.channels.shelf import find_release
from slipway.channels.state import Channel
from slipway.channels.watch import read_watched
from slipway.channels.withdrawal import Withdrawal, Withdrawer
from slipway.errors import HostError, UserError, choose, suggestion
from slipway.host.ownership import require_writable
from slipway.records.manifest import PackageChanges
from slipway.records.reference import ReleaseRef
from slipway.stores import Store, read_only

__all__ = ["Session", "Untrusted", "describe", "require_none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A store, with the folders of keys, trusted roots and accepted metadata."""

    store: Store
    keys: Path
    trust: Path
    memory: Path
    clock: Clock = time.time

    def require_writable(self, *, keys: bool) -> None:
        """Refuse an unwritable folder before work starts: publishing would fail at the end.

        Args:
            keys: True if keys will be made, too.

        Raises:
            OSError: Nothing can be made in the store, or in the folder of keys.
        """
        if "://" not in self.store.url:
            require_writable(Path(self.store.url))
        if keys:
            require_writable(self.keys)

    def channels(self) -> tuple[str, ...]:
        """Return the channels of the store, the most trusted first.

        A web server has no listing: only those with a trusted root here are found.
        """
        if not read_only(self.store):
            return channels_in(self.store)
        names = (name for name in self._rooted() if is_channel(name))
        return channels_in(
            self.store,
            (
                name
                for name in names
                if self.store.stat(metadata_key(name, "timestamp")) is not None
            ),
        )

    def known(self) -> tuple[str, ...]:
        """Return the channels of the store and those seen here, the most trusted first.

        Deleting a channel from the store hides nothing.
        """
        there = self.channels()
        gone = set(self.trusted()) - set(there)
        return channels_in(
            self.store,
            {*there, *(name for name in gone if self._memory(name).load().seen is not None)},
        )

    def ring(self, channel: str) -> KeyRing:
        """Return the keys of a channel.

        Raises:
            MissingKeys: The keys are not here, or there is no such channel.
        """
        try:
            return load_ring(channel, self.keys)
        except MissingKeys as error:
            there = self.channels()
            if channel in there:
                raise MissingKeys(error.message, hint=_where_keys_are(channel)) from error
            near = suggestion(
                channel, {*there, *(name for name in self._rooted() if is_channel(name))}
            )
            listing = f"choose from: {', '.join(there)}; a new one" if there else "a new one"
            hint = near or f"{listing} is made by: invoke keys init {channel}"
            raise MissingKeys(
                f"there is no channel {channel} in {self.store.url}, and no keys of it", hint=hint
            ) from error

    def rings(self, channels: Sequence[str] = ()) -> list[KeyRing]:
        """Return the keys of the named channels, or of all channels with keys here.

        Raises:
            StoreError: A named channel is neither in the store nor begun here.
            MissingKeys: A named channel has no keys here, or no channel has any.
        """
        if channels:
            there = {*self.channels(), *self._rooted()}
            for name in channels:
                if name not in there:
                    raise self.unknown(name)
            return [self.ring(name) for name in dict.fromkeys(channels)]
        rings = []
        known = self.known()
        for name in known:
            with suppress(MissingKeys):
                rings.append(load_ring(name, self.keys))
        if not rings:
            names = ", ".join(known) or "no channel"
            raise MissingKeys(
                f"no channel of {self.store.url} has its keys here", hint=_where_keys_are(names)
            )
        return rings

    def root(self, channel: str) -> bytes:
        """Return a channel's trusted root.

        Raises:
            HostError: None is known here.
        """
        root = trusted_root(channel, self.keys, self.trust)
        if root is None:
            raise Untrusted(
                f"no trusted root for channel {channel}",
                hint=(
                    "get root.json from the publisher over a trusted channel, and save it as "
                    f"{self.trust / channel}.root.json"
                ),
            )
        return root

    def read(self, channel: str, *, publishing: bool = False) -> Channel:
        """Return a channel, verified, and no older than it was seen here.

        Args:
            publishing: True if something will be signed on top of it.

        Raises:
            StoreError: The store does not have the channel.
            VerificationError: The channel is older than seen here, or not signed by its keys.
        """
        memory = self._memory(channel)
        missing = (
            self.store.stat(metadata_key(channel, "timestamp")) is None
            and channel not in self.channels()
        )
        if missing and memory.load().seen is None:
            raise self.unknown(channel)
        return read_watched(
            self.store, channel, self.root(channel), memory, clock=self.clock, publishing=publishing
        )

    def _memory(self, channel: str) -> Memory:
        """Return the memory of a channel, beside its keys if those are here."""
        ring = None
        with suppress(MissingKeys):
            ring = load_ring(channel, self.keys)
        return memory_of(self.store, ring, channel)

    def unknown(self, channel: str) -> NoChannel:
        """Return the error for a channel that the store does not have."""
        there = self.channels()
        hint = choose(channel, there)
        return NoChannel(f"{self.store.url} has no channel {channel}", hint=hint)

    def forgettable(self, channel: str) -> bool:
        """Return True if there is a memory of a channel here."""
        return self._memory(channel).path.exists()

    def forget(self, channel: str) -> None:
        """Delete the memory of a channel that is gone for good."""
        self._memory(channel).path.unlink(missing_ok=True)

    def client_folder(self, channel: str) -> Path | None:
        """Return the folder of metadata accepted by a user's client; None without a root."""
        root = trusted_root(channel, self.keys, self.trust)
        return client_folder(self.memory, self.store, channel, root) if root else None

    def findings(self, channel: str, to: int | None = None) -> Findings:
        """See :func:`slipway.channels.recover.look`."""
        return look(self.store, self.ring(channel), clock=self.clock, to=to)

    def recover(self, found: Findings) -> Channel | None:
        """See :func:`slipway.channels.recover.restore`."""
        return restore(self.store, self.ring(found.channel), found, clock=self.clock)

    def client(self, channel: str) -> Client:
        """Return a channel as users see it."""
        if self.store.stat(metadata_key(channel, "timestamp")) is None:
            raise self.unknown(channel)
        return Client(self.store, channel, self.root(channel), self.memory)

    def others(self, *names: str) -> list[Channel]:
        """Return the channels with a trusted root here, except the named ones.

        Raises:
            VerificationError: A channel cannot be read, is gone, or is older than it was seen here.
        """
        there = self.channels()
        found = []
        for name in self.trusted():
            if name not in names and (name in there or self._memory(name).load().seen is not None):
                found.append(self.read(name))
        return found

    def trusted(self) -> tuple[str, ...]:
        """Return the channels with a trusted root here, sorted."""
        names = self._rooted() | set(self.channels())
        return tuple(
            sorted(
                name
                for name in names
                if is_channel(name) and trusted_root(name, self.keys, self.trust)
            )
        )

    def _rooted(self) -> set[str]:
        """Return the names with a root here."""
        named = {path.parent.name for path in self.keys.glob("*/*.root.json")}
        named |= {path.name.removesuffix(".root.json") for path in self.trust.glob("*.root.json")}
        return named | set(channels_of_bundles())

    def require_visible(self) -> None:
        """Refuse a web server without any channel trusted here: it cannot be listed.

        Raises:
            HostError: The server has no channel trusted here.
        """
        if read_only(self.store) and not self.known():
            raise HostError(
                f"{self.store.url} has no channel that is trusted here, and a web server "
                "cannot be listed",
                hint=(
                    "put the root of a channel, from its publisher, "
                    f"into {self.trust}/CHANNEL.root.json"
                ),
            )

    def readable(self) -> tuple[list[Channel], dict[str, UserError]]:
        """Return the channels that can be read whole, and the errors of the others by name."""
        channels: list[Channel] = []
        problems: dict[str, UserError] = {}
        for name in self.known():
            try:
                channel = self.read(name)
                for appliance in channel.appliances:
                    channel.shelf(appliance)
                channels.append(channel)
            except UserError as error:
                problems[name] = error
        return channels, problems

    def holdings(
        self, warn: Callable[[str], object] = str
    ) -> tuple[list[Channel], dict[str, UserError]]:
        """Return the readable channels, and by name the error of each unreadable or expired one.

        Args:
            warn: Called with a warning of a root's end soon.
        """
        self.require_visible()
        channels, problems = self.readable()
        for channel in channels:
            self._look_at_end(channel, problems, warn)
        return channels, problems

    def _look_at_end(
        self, channel: Channel, problems: dict[str, UserError], warn: Callable[[str], object]
    ) -> None:
        """Note that a channel has expired, or warn that its root soon will."""
        try:
            require_fresh(channel, self.clock())
        except Expired as error:
            problems[channel.name] = error
        ending = root_warning(channel, self.clock())
        if ending:
            warn(ending)

    def around(self, *names: str) -> moves.Around:
        """Return the surroundings of a move in the named channels."""
        return {"clock": self.clock, "others": partial(self.others, *names)}

    def promotion(
        self, appliance: str, build: str | None, source: str, target: str
    ) -> tuple[ReleaseRef, PackageChanges, Callable[[], Moved]]:
        """Prepare a promotion, to be confirmed.

        Returns:
            The release, the differences from the target's current release, and the function to
            promote it.
        """
        ring = self.ring(target)
        ring.require("targets")
        giving = self.read(source, publishing=True)
        theirs = giving.shelf(appliance)
        release = find_release(theirs, appliance, source, build, known=giving.appliances)
        mine = self.read(target).shelf(appliance) if target in self.channels() else None
        old = (mine.current, mine.releases[mine.current]) if mine and mine.current else None
        changes = moves.package_difference(
            self.store, appliance, old, (release, theirs.releases[release])
        )

        def promote() -> Moved:
            source_now = partial(self.read, source, publishing=True)
            around = self.around(target, source)
            return moves.promote(self.store, ring, source_now, appliance, release, **around)

        return ReleaseRef(appliance, release), changes, promote

    def rollback(self, appliance: str, channel: str, to: str | None) -> Moved:
        """See :func:`slipway.channels.moves.rollback`."""
        ring = self.ring(channel)
        return moves.rollback(self.store, ring, appliance, to, **self.around(channel))

    def withdraw(
        self,
        appliance: str,
        build: str,
        reason: str,
        channels: Sequence[str] = (),
        *,
        derived: bool = False,
    ) -> Withdrawal:
        """Take a release out of every channel that has it, or out of the named ones.

        See :class:`Withdrawer`.
        """
        return self.withdrawer(channels).withdraw(appliance, build, reason, derived=derived)

    def withdrawer(self, channels: Sequence[str] = ()) -> Withdrawer:
        """Return a withdrawer for the named channels, or for all.

        Raises:
            StoreError: A named channel does not exist.
        """
        names = [name for name in self.known() if not channels or name in channels]
        unknown = sorted(set(channels) - set(names))
        if unknown:
            raise self.unknown(unknown[0])
        return Withdrawer(
            store=self.store, names=names, read=self.read, ring=self.ring, clock=self.clock
        )

    def refresh(
        self,
        channels: Sequence[str] = (),
        warn: Callable[[str], object] = str,
        signed: Callable[[Channel], object] = id,
    ) -> list[str]:
        """Renew the signatures of the named channels, or of all channels with keys here.

        Returns their names.

        Args:
            warn: Called with a coming need of a channel: a new root, or its targets key.
            signed: Called with each renewed channel.

        Raises:
            UserError: A channel cannot be renewed; the others are.
        """
        done = []
        problems: dict[str, UserError] = {}
        for ring in self.rings(channels):
            try:
                channel = upkeep.refresh(self.store, ring, clock=self.clock).channel
                for line in upkeep.warnings(channel, ring, self.clock):
                    warn(line)
                done.append(ring.channel)
                signed(channel)
            except UserError as error:
                problems[ring.channel] = error
        require_refreshed(problems)
        return done

    def prune(
        self, channels: Sequence[str] = (), *, dry_run: bool = False
    ) -> dict[str, dict[str, list[str]]]:
        """Drop old releases of the named channels, or of all channels with keys here.

        Returns the dropped releases by channel and appliance.
        """
        rings = self.rings(channels)
        return {
            ring.channel: upkeep.prune(self.store, ring, clock=self.clock, dry_run=dry_run)
            for ring in rings
        }

    def collect(self, *, dry_run: bool = False) -> Collected:
        """See :func:`slipway.channels.collect.collect`."""
        roots: dict[str, bytes] = {}
        problems: dict[str, UserError] = {}
        for name in self.known():
            try:
                root = self.root(name)
                # an older or missing state would have all newer objects removed
                self.read(name)
                roots[name] = root
            except UserError as error:
                problems[name] = error
        return collect(self.store, roots, dry_run=dry_run, unreadable=problems)


def _where_keys_are(channel: str) -> str:
    if os.environ.get(BUNDLE):
        return (
            f"{BUNDLE} has the keys of {', '.join(channels_of_bundles()) or 'no channel'}, "
            f"and not of {channel}"
        )
    return (
        "they are where they were made: name that folder, --keys DIR or "
        f"SLIPWAY_KEYS, or set {BUNDLE}"
    )
