"""Read a channel as a publisher: nothing is signed after a state that is older than one that was
there.

Whoever can write to a store can put an old timestamp back, with valid signatures. Three things
tell: what was seen here before (:mod:`slipway.channels.memory`), the timestamp's expiry, and signed
snapshots in the store with a higher number than the one that the timestamp names. Such snapshots
are also left by commits that lost a race or were stopped, so what a snapshot says of the one that
it replaced decides (docs/adr/0016-publishers-remember.md).

Invariants: the memory is read before the timestamp, so a rival's commit between the two is no step
back; what was read is remembered before anybody uses it.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from slipway.channels.expiry import clock_says
from slipway.channels.keys import Clock
from slipway.channels.layout import snapshot_numbers
from slipway.channels.memory import Known, Memory, Seen
from slipway.channels.metadata import identity, is_signed, previous_of
from slipway.channels.state import Channel, load, read_channel
from slipway.errors import StoreError, VerificationError
from slipway.stores import NotFound, read_only

if TYPE_CHECKING:
    from tuf.api.metadata import Metadata, Root, Snapshot

    from slipway.stores import Store

__all__ = ["Unnamed", "read_watched", "seen_of", "signed_snapshots", "unnamed"]

#: How long another publisher may take from its snapshot to its swap, before that counts as
#: something else.
PATIENCE_S: float = 10.0
#: What a garbage collection leaves of the past, in seconds:
#: :data:`slipway.channels.collect.GRACE_S`.
_PAST_S: Final = 7 * 86400


@dataclass(frozen=True, slots=True, kw_only=True)
class Unnamed:
    """A signed snapshot that the timestamp does not name.

    ``proven``: some timestamp did name it, or a later one.
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
    """A channel as it is now, compared with what is known of it, and remembered.

    Args:
        publishing: Something will be signed after it: refuse an expired timestamp and signed
            snapshots that it does not name, too.

    Raises:
        VerificationError: It is not the newest state there was.
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


def seen_of(channel: Channel, clock: Clock) -> Seen:
    """What there is to remember of a channel that was read or written."""
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
    """Refuse a state that does not go on from the one that was seen.

    Raises:
        VerificationError: It is older, another one, or goes on from an older one.
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
            f"version {version} of the channel {name} does not go on from version "
            f"{seen.timestamp}, which was seen here",
            hint=way_out,
        )


def _continues(channel: Channel, snapshot: Metadata[Snapshot], seen: Seen, clock: Clock) -> bool:
    """Follow the past of a channel back to the state that was seen."""
    number, sha256 = snapshot.signed.version, identity(snapshot)
    while number > seen.snapshot:
        before = previous_of(snapshot)
        number, sha256 = before.number, before.sha256 or ""
        if number <= seen.snapshot:
            break
        try:
            snapshot = load(channel.store, channel.name, "snapshot", number)
        except NotFound:
            # A collection has removed it, which it may only if what was seen is long past.
            return clock() - seen.time > _PAST_S
        if sha256 and identity(snapshot) != sha256:
            return False
    # Before snapshots had the hash of the one before, the number was all that there was.
    return number == seen.snapshot and sha256 in ("", seen.sha256)


def signed_snapshots(
    store: Store, root: Metadata[Root], name: str, *, above: int = 0
) -> list[Metadata[Snapshot]]:
    """The snapshots of a channel with higher numbers that its keys have signed, the newest first;
    none on a web server, which has no listing.
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
    """The newest signed snapshot that should have been named by the timestamp, or may have been."""
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
