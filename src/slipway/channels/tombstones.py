"""Tombstones: a release withdrawn from one channel is listed or made current by no other.

Input: channels as they were read. Output: a refusal before a commit, or a change back after it.
Invariants: An unreadable channel counts as a refusal. A tombstone names a reason.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from functools import partial

from slipway.channels.commit import commit
from slipway.channels.keys import Clock, KeyRing
from slipway.channels.state import Channel, Shelf, Tombstone
from slipway.errors import StoreError
from slipway.records.reference import ReleaseRef
from slipway.stores import Store
from slipway.terminal.text import one_line

__all__ = [
    "Others",
    "bury",
    "require_not_withdrawn",
    "require_still_alive",
    "require_still_current",
]

#: Reads the other channels trusted here.
Others = Callable[[], Iterable[Channel]]


def bury(
    shelf: Shelf,
    reasons: Mapping[str, str],
    replacement: str | None,
    dead: Container[str],
    now: int,
) -> None:
    """Replace releases by tombstones.

    If the current one goes, the last living one that was current before becomes current again.
    Without one, the release listed before it does, or else the newest.
    """
    names = list(shelf.releases)
    place = names.index(shelf.current) if shelf.current in names else len(names)
    order = (*reversed(shelf.past), *reversed(names[:place]), *reversed(names[place:]))
    alive = [
        name
        for name in order
        if name in shelf.releases and name not in reasons and name not in dead
    ]
    if shelf.current in reasons:
        shelf.go_back(alive[0] if alive else None)
    for name, why in reasons.items():
        del shelf.releases[name]
        shelf.withdrawn[name] = Tombstone(
            reason=why, replacement=replacement or shelf.current, time=now
        )


def _stone(channels: Iterable[Channel], ref: ReleaseRef) -> tuple[str, Tombstone] | None:
    """Return the first tombstone of a release, with its channel."""
    for channel in channels:
        stone = channel.shelf(ref.appliance).withdrawn.get(ref.release)
        if stone:
            return channel.name, stone
    return None


def require_not_withdrawn(channels: Iterable[Channel], ref: ReleaseRef) -> None:
    """Refuse a release withdrawn from any channel.

    Raises:
        StoreError: A channel has withdrawn the release.
        VerificationError: The tombstones of a channel cannot be read.
    """
    found = _stone(channels, ref)
    if found:
        name, stone = found
        instead = f"use {stone.replacement}" if stone.replacement else "build a new version"
        raise StoreError(f"{ref} was withdrawn from {name}: {one_line(stone.reason)}", hint=instead)


def require_still_alive(
    store: Store, ring: KeyRing, others: Others, new: Sequence[ReleaseRef], clock: Clock
) -> None:
    """Check the new releases after a commit; withdraw one withdrawn meanwhile from another channel.

    Raises:
        StoreError: A release was withdrawn meanwhile.
    """
    known = tuple(others()) if new else ()
    for ref in new:
        found = _stone(known, ref)
        if found:
            name, stone = found
            commit(store, ring, partial(_take_out, ref, stone, int(clock())), clock=clock)
            raise StoreError(
                f"{ref} was withdrawn from {name} meanwhile: {one_line(stone.reason)}",
                hint=f"it is withdrawn from {ring.channel}, too",
            )


def _take_out(ref: ReleaseRef, stone: Tombstone, now: int, channel: Channel) -> None:
    shelf = channel.shelf(ref.appliance)
    if ref.release in shelf.releases:
        bury(shelf, {ref.release: stone.reason}, stone.replacement, (), now)


def require_still_current(
    store: Store,
    ring: KeyRing,
    others: Others,
    ref: ReleaseRef,
    before: str | None,
    clock: Clock,
) -> None:
    """Check the new current release after a commit; undo it if the release was withdrawn meanwhile.

    Raises:
        StoreError: Another channel has withdrawn the release.
    """
    found = _stone(others(), ref)
    if not found:
        return
    name, stone = found

    def undo(channel: Channel) -> None:
        shelf = channel.shelf(ref.appliance)
        if shelf.current == ref.release:
            shelf.go_back(before if before in shelf.releases else None)

    commit(store, ring, undo, clock=clock)
    raise StoreError(
        f"{ref} was withdrawn from {name} meanwhile: {one_line(stone.reason)}",
        hint=(
            f"{ring.channel} has {before} again; run: invoke withdraw {ref.appliance} "
            f"--build {ref.release}"
        ),
    )
