"""Withdraw a release from all channels for good.

Input: the readable channels, with their tombstones. Output: a refusal, or a withdrawal from every
channel within reach.

Invariants: An unreadable channel never keeps a release in the others. The most trusted channel is
first. After its commit, a publisher reads the tombstones again, and a withdrawer the listings. So
of the two at once, at least one sees the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from slipway.channels.keys import Clock, KeyRing
from slipway.channels.moves import Moved, withdraw
from slipway.channels.shelf import matches, nearest
from slipway.channels.state import Channel, Shelf
from slipway.channels.verified import manifest_of
from slipway.errors import StoreError, UsageError, UserError, choose
from slipway.records.reference import ReleaseRef
from slipway.stores import Store

__all__ = ["Withdrawal", "Withdrawer"]

_ROUNDS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawal:
    """The result of a withdrawal: the releases, the changes, and the reasons for missed channels.

    Attributes:
        already: Releases withdrawn from a channel earlier, with the reason given then.
    """

    appliance: str
    releases: tuple[str, ...]
    moved: tuple[Moved, ...]
    unreached: Mapping[str, str]
    already: Mapping[str, str] = field(default_factory=dict)

    def require_whole(self) -> None:
        """Refuse an incomplete withdrawal.

        Raises:
            StoreError: Channels may still have one of the releases; each is named with the reason.
        """
        if self.unreached:
            listing = "".join(f"\n  {name}: {problem}" for name, problem in self.unreached.items())
            raise StoreError(
                f"{self.appliance} {', '.join(self.releases)} may still be in "
                f"{len(self.unreached)} channels:{listing}",
                hint="repair them, or run this where their keys are",
            )


@dataclass(slots=True, kw_only=True)
class Withdrawer:
    """A withdrawal from several channels.

    Args:
        names: The channels, the most trusted first.
        read: Reads a channel, verified.
        ring: Finds a channel's keys.
    """

    store: Store
    names: Sequence[str]
    read: Callable[[str], Channel]
    ring: Callable[[str], KeyRing]
    clock: Clock
    _unreached: dict[str, str] = field(default_factory=dict)
    _appliances: set[str] = field(default_factory=set)

    def withdraw(
        self, appliance: str, build: str, reason: str, *, derived: bool = False
    ) -> Withdrawal:
        """Take a release out of every channel within reach.

        Args:
            build: A build id or a release.
            derived: Also take out the releases made from it, see :meth:`_derived`.

        Raises:
            StoreError: No readable channel has the release.
            UsageError: Several releases could be meant.
        """
        shelves = self._shelves(appliance)
        ref = ReleaseRef(appliance, self._find(shelves, appliance, build))
        reasons = {ref.release: reason}
        if derived:
            reasons |= {
                each: f"derived from {ref.release}: {reason}"
                for each in self._derived(ref, shelves)
            }
        buried = {
            each: stone.reason
            for shelf in shelves.values()
            for each, stone in shelf.withdrawn.items()
        }
        moved: dict[str, Moved] = {}
        for _ in range(_ROUNDS):
            holding = [
                name
                for name, shelf in shelves.items()
                if reasons.keys() & shelf.releases.keys() and name not in self._unreached
            ]
            dead = (
                frozenset(each for shelf in shelves.values() for each in shelf.withdrawn)
                | reasons.keys()
            )
            for name in holding:
                self._withdraw_from(name, appliance, reasons, dead, moved)
            if not holding:
                break
            # a promotion at the same time may have listed it again
            shelves = self._shelves(appliance)
        return Withdrawal(
            appliance=appliance,
            releases=tuple(reasons),
            moved=tuple(moved.values()),
            unreached=self._unreached,
            already={each: buried[each] for each in reasons if each in buried},
        )

    def preview(
        self, appliance: str, build: str, *, derived: bool = False
    ) -> tuple[list[str], list[str]]:
        """Return the releases to withdraw, and the channels with one of them; change nothing."""
        shelves = self._shelves(appliance)
        ref = ReleaseRef(appliance, self._find(shelves, appliance, build))
        releases = [ref.release, *(self._derived(ref, shelves) if derived else [])]
        return releases, [
            name for name, shelf in shelves.items() if shelf.releases.keys() & set(releases)
        ]

    def _withdraw_from(
        self,
        name: str,
        appliance: str,
        reasons: Mapping[str, str],
        dead: frozenset[str],
        moved: dict[str, Moved],
    ) -> None:
        try:
            done = withdraw(
                self.store, self.ring(name), appliance, reasons, dead=dead, clock=self.clock
            )
        except UserError as error:
            self._unreached[name] = error.message
            return
        moved.setdefault(name, done)

    def _shelves(self, appliance: str) -> dict[str, Shelf]:
        """Return the appliance's releases in every readable channel, and note the others."""
        shelves = {}
        for name in self.names:
            try:
                channel = self.read(name)
                shelves[name] = channel.shelf(appliance)
                self._appliances.update(channel.appliances)
            except UserError as error:
                self._unreached[name] = error.message
        return shelves

    def _find(self, shelves: Mapping[str, Shelf], appliance: str, build: str) -> str:
        listed = {
            each for shelf in shelves.values() for each in shelf.releases if matches(each, build)
        }
        dead = {
            each for shelf in shelves.values() for each in shelf.withdrawn if matches(each, build)
        }
        found = {build} & (listed | dead) or listed or dead
        if len(found) > 1:
            raise UsageError(
                f"{build} is the build of several releases of {appliance}",
                hint=f"name one: {', '.join(sorted(found))}",
            )
        if found:
            return found.pop()
        listing = "".join(f"\n  {name}: {problem}" for name, problem in self._unreached.items())
        among = " that can be read" if listing else ""
        raise StoreError(
            f"no channel{among} has a release {build} of {appliance}{listing}",
            hint=self._nearest(shelves, appliance, build),
        )

    def _nearest(self, shelves: Mapping[str, Shelf], appliance: str, build: str) -> str:
        """Return a hint for a release that is in no channel."""
        there = sorted({each for shelf in shelves.values() for each in shelf.releases})
        if not there:
            return nearest(appliance, self._appliances)
        return choose(build, there)

    def _derived(self, ref: ReleaseRef, shelves: Mapping[str, Shelf]) -> list[str]:
        """Return the descendants of a release, and the releases with the very same disk.

        A parent is the build before (docs/adr/0015). A release with an unreadable manifest is noted
        for its channel.
        """
        parents: dict[str, str | None] = {}
        disks: dict[str, str | None] = {}
        for name, shelf in shelves.items():
            for each, entry in shelf.releases.items():
                try:
                    manifest = manifest_of(self.store, replace(ref, release=each), entry.files)
                except UserError as error:
                    self._unreached[name] = f"{each} may be derived: {error.message}"
                    continue
                parents[each] = manifest.parent.release if manifest.parent else None
                disks[each] = manifest.booted_disk_sha256
        found = [ref.release]
        for known in found:  # it grows
            disk = disks.get(known)
            found += [
                each
                for each in parents
                if each not in found
                and (parents[each] == known or (disk is not None and disks[each] == disk))
            ]
        return found[1:]
