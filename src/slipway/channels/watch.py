"""Read a channel as a publisher: nothing is signed on top of an outdated state.

Anybody who can write to a store can put an old timestamp back, with valid signatures. Three things
reveal it: the memory (:mod:`slipway.channels.memory`), the timestamp's expiry, and signed snapshots
in the store above the timestamp's. Commits that lost a race or were interrupted leave such
snapshots, too. So the snapshot that each of them replaced decides
(docs/adr/0016-publishers-remember.md).

Invariants: The memory is read before the timestamp, so a rival's commit between the two is no step
back. A state is remembered before anybody uses it.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from slipway.channels.expiry import clock_says
from slipway.channels.keys import Clock, KeyRing
from slipway.channels.layout import snapshot_numbers
from slipway.channels.memory import Known, Memory, Seen, memory_of
from slipway.channels.metadata import identity, is_signed, previous_of
from slipway.channels.state import Channel, load, read_channel
from slipway.errors import StoreError, VerificationError
from slipway.stores import NotFound, read_only

if TYPE_CHECKING:
    from tuf.api.metadata import Metadata, Root, Snapshot

    from slipway.stores import Store

__all__ = ["Unnamed", "read_own", "read_watched", "seen_of", "signed_snapshots", "unnamed"]

#: The seconds that another publisher may take from its snapshot to its swap; after them, its
#: snapshot is refused.
PATIENCE_S: float = 10.0
#: The past that a garbage collection leaves, in seconds: :data:`slipway.channels.collect.GRACE_S`.
_PAST_S: Final = 7 * 86400


@dataclass(frozen=True, slots=True, kw_only=True)
class Unnamed:
    """A signed snapshot that the timestamp does not name.

    ``proven`` is True if an earlier timestamp named a later snapshot than today's does.
    """

    number: int
    proven: bool


def read_watched(
    store: Store,
    name: str,
    trusted: bytes,
    memory: Memory,
    *,
    clock: Clock = time.time,
    publishing: bool = True,
) -> Channel:
    """Read a channel as it is now, compare it with the memory, and remember it.

    Args:
        publishing: True if something will be signed on top of it. Then an expired timestamp is
            refused, too, and so are signed snapshots beyond its own.

    Raises:
        VerificationError: The state is not the newest one.
        HostError: The memory cannot be read or written.
    """
    started = time.monotonic()
    while True:
        known = memory.load()
        channel = read_channel(store, name, trusted)
        require_known(channel, known, clock)
        left = unnamed(channel, known)
        if left is None or not (publishing or left.proven):
            break
        if left.proven or time.monotonic() - started > PATIENCE_S:
            raise _refusal(channel, left)
        # somebody else is probably between the snapshot and the swap
        time.sleep(random.uniform(0.02, 0.2))
    if publishing:
        _require_unexpired(channel, clock)
    if channel.timestamp is not None:
        memory.remember(seen_of(channel, clock))
    return channel


def read_own(store: Store, ring: KeyRing, clock: Clock, trusted: bytes | None = None) -> Channel:
    """Read a channel to change it, see :func:`read_watched`.

    Args:
        trusted: One of its roots (default: the first one of its keys).
    """
    memory = memory_of(store, ring, ring.channel)
    return read_watched(store, ring.channel, trusted or ring.roots[0], memory, clock=clock)


def seen_of(channel: Channel, clock: Clock) -> Seen:
    """Return the state to remember of a channel that was read or written."""
    assert channel.timestamp is not None and channel.snapshot is not None
    return Seen(
        root=channel.root.signed.version,
        timestamp=channel.timestamp.signed.version,
        snapshot=channel.snapshot.signed.version,
        sha256=identity(channel.snapshot),
        time=int(clock()),
        highest=max((meta.version for meta in channel.snapshot.signed.meta.values()), default=0),
    )


def require_known(channel: Channel, known: Known, clock: Clock) -> None:
    """Refuse a state that does not follow from the remembered one.

    Raises:
        VerificationError: The channel is gone, older, or does not follow from the remembered state.
    """
    seen, name = known.seen, channel.name
    if seen is None:
        return
    way_out = f"somebody may have put an old copy back; what is known: invoke recover {name}"
    if channel.timestamp is None or channel.snapshot is None:
        raise VerificationError(
            f"the channel {name} is gone from the store, version {seen.timestamp} of "
            "it was seen here",
            hint=way_out,
        )
    version = channel.timestamp.signed.version
    if version < seen.timestamp:
        raise VerificationError(
            f"the store has version {version} of the channel {name}, version "
            f"{seen.timestamp} was seen here",
            hint=way_out,
        )
    if channel.root.signed.version < seen.root:
        raise VerificationError(
            f"the store has root {channel.root.signed.version} of the channel {name}, "
            f"root {seen.root} was seen here",
            hint=way_out,
        )
    if not _continues(channel, channel.snapshot, seen, clock):
        raise VerificationError(
            f"version {version} of the channel {name} does not continue version "
            f"{seen.timestamp}, which was seen here",
            hint=way_out,
        )


def _continues(channel: Channel, snapshot: Metadata[Snapshot], seen: Seen, clock: Clock) -> bool:
    """Return True if a channel's past leads back to the remembered state."""
    number, sha256 = snapshot.signed.version, identity(snapshot)
    while number > seen.snapshot:
        before = previous_of(snapshot)
        number, sha256 = before.number, before.sha256 or ""
        if number <= seen.snapshot:
            break
        try:
            snapshot = load(channel.store, channel.name, "snapshot", number)
        except NotFound:
            # A collection removed it. That is right only if the remembered state is long past.
            return clock() - seen.time > _PAST_S
        if sha256 and identity(snapshot) != sha256:
            return False
    # Early snapshots have only the number of the one before, not its hash.
    return number == seen.snapshot and sha256 in ("", seen.sha256)


def signed_snapshots(
    store: Store, root: Metadata[Root], name: str, *, above: int = 0
) -> list[Metadata[Snapshot]]:
    """Return the snapshots above a number that the channel's keys signed, the newest first.

    A web server has no listing, and so none of them.
    """
    if read_only(store):
        return []
    found: list[Metadata[Any]] = []
    for number in sorted(snapshot_numbers(store, name), reverse=True):
        if number <= above:
            break
        try:
            metadata = load(store, name, "snapshot", number)
        except (StoreError, VerificationError):
            continue  # it is gone, or no metadata
        if is_signed(root, "snapshot", metadata):
            found.append(metadata)
    return found


def unnamed(channel: Channel, known: Known) -> Unnamed | None:
    """Return the newest signed snapshot that is, or may be, evidence of a newer state."""
    named = channel.snapshot.signed.version if channel.snapshot is not None else 0
    possible = None
    for metadata in signed_snapshots(channel.store, channel.root, channel.name, above=named):
        number, replaced = metadata.signed.version, previous_of(metadata).number
        if replaced > named:
            # Its publisher had read a timestamp that named a later snapshot than today's does.
            return Unnamed(number=number, proven=True)
        if replaced == named and known.begun.get(number) != identity(metadata) and possible is None:
            possible = Unnamed(number=number, proven=False)
    return possible


def _refusal(channel: Channel, left: Unnamed) -> VerificationError:
    named = channel.timestamp.signed.version if channel.timestamp is not None else "none"
    if left.proven:
        return VerificationError(
            f"the timestamp of the channel {channel.name} names version {named}, but version "
            f"{left.number} was signed after later ones",
            hint=(
                f"somebody put an old timestamp back; what is known: invoke recover {channel.name}"
            ),
        )
    return VerificationError(
        f"the channel {channel.name} has a signed snapshot {left.number} that its timestamp does "
        f"not name, it names {named}",
        hint=(
            "a publisher was stopped, or somebody put an old timestamp back: let that publisher "
            f"run again, or decide with: invoke recover {channel.name}"
        ),
    )


def _require_unexpired(channel: Channel, clock: Clock) -> None:
    timestamp = channel.timestamp
    if timestamp is not None and timestamp.signed.is_expired(datetime.fromtimestamp(clock(), UTC)):
        raise VerificationError(
            f"the timestamp of the channel {channel.name} expired on "
            f"{timestamp.signed.expires:%Y-%m-%d}: newer ones may have been hidden; "
            f"{clock_says(clock())}",
            hint=(
                "if this clock is right, and nobody published or refreshed since then, "
                f"go on with: invoke recover {channel.name}"
            ),
        )
