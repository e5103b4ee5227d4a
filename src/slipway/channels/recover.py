"""Recover a channel that publishers refuse: show the findings, and restore a state.

:mod:`slipway.channels.watch` refuses a channel older than a state seen before, or with an expired
or deleted timestamp. A person reads the findings of this module, and says yes. The newest signed
state is then signed anew. Its numbers are above all that were ever given, so every user follows.

Invariants: Only a state signed by the channel's keys is restored. A release stays withdrawn if any
signed state says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from slipway.channels.commit import Deadline, require_valid, write_changes
from slipway.channels.expiry import clock_says
from slipway.channels.keys import BUNDLE, Clock, KeyRing
from slipway.channels.layout import metadata_key
from slipway.channels.memory import Known, Memory, memory_of
from slipway.channels.metadata import identity, is_signed, previous_of
from slipway.channels.state import Channel, channel_at, parse, verified_root
from slipway.channels.upkeep import half_over
from slipway.channels.watch import require_known, signed_snapshots, unnamed
from slipway.errors import HostError, StoreError, UsageError, UserError, VerificationError
from slipway.stores import Conflict, NotFound, Store

if TYPE_CHECKING:
    from tuf.api.metadata import Metadata, Root, Timestamp

__all__ = ["Findings", "look", "restore"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """Everything known of a channel.

    Attributes:
        named: The number of the state in the timestamp.
        states: All whole states, by number.
        chosen: The number of the state to restore, None if there is none.
        problem: The publishers' reason to refuse the channel, None if they accept it.
    """

    channel: str
    known: Known
    etag: str | None
    timestamp: Metadata[Timestamp] | None
    named: int | None
    states: Mapping[int, Channel]
    chosen: int | None
    problem: UserError | None
    damaged: bool = False
    numbers: tuple[int, ...] = field(default=())

    @property
    def lines(self) -> list[str]:
        """The findings, for people."""
        seen = self.known.seen
        lines = [
            f"seen here: version {seen.timestamp}, on {_day(seen.time)}"
            if seen
            else "seen here: nothing"
        ]
        if self.timestamp is None:
            lines.append("in the store: no timestamp that the channel's keys have signed")
        else:
            signed = self.timestamp.signed
            lines.append(
                f"in the store: a timestamp that names version {self.named}, and expires on "
                f"{signed.expires:%Y-%m-%d}"
            )
        lines.append(
            "signed and whole: "
            f"{', '.join(str(number) for number in sorted(self.states)) or 'nothing'}"
        )
        lines.append(f"problem: {self.problem.message}" if self.problem else "nothing is wrong")
        if self.problem and self.chosen is not None:
            lines.append(f"to be signed anew: version {self.chosen}")
            if seen and seen.snapshot not in self.states:
                lines.append(
                    f"  version {seen.snapshot} is not in the store: what was withdrawn since "
                    f"{self.chosen} has to be withdrawn again"
                )
            lines += [
                f"  {line}"
                for line in _shown(self.states[self.chosen], self.states.get(self.named or 0))
            ]
        return lines


def look(store: Store, ring: KeyRing, *, clock: Clock, to: int | None = None) -> Findings:
    """Collect the findings about a channel, here and in the store.

    Args:
        to: The version to restore (default: the newest).

    Raises:
        UsageError: No state of this version is signed and whole.
    """
    name, memory = ring.channel, memory_of(store, ring, ring.channel)
    known, damaged = _recall(memory)
    root = verified_root(store, name, ring.roots[-1])
    etag, timestamp = _timestamp(store, name, root)
    snapshots = signed_snapshots(store, root, name)
    states = _whole(store, name, root, snapshots)
    named = timestamp.signed.snapshot_meta.version if timestamp else None
    if to is not None and to not in states:
        whole = ", ".join(str(number) for number in sorted(states)) or "none"
        raise UsageError(
            f"the channel {name} has no version {to} that is signed and whole",
            hint=f"choose from: {whole}",
        )
    present = states.get(named or 0) or Channel(name=name, store=store, root=root)
    present.timestamp = timestamp
    return Findings(
        channel=name,
        known=known,
        etag=etag,
        timestamp=timestamp,
        named=named,
        states=states,
        chosen=to if to is not None else _newest(states, known, named),
        problem=damaged or _problem(present, known, clock),
        damaged=damaged is not None,
        numbers=tuple(metadata.signed.version for metadata in snapshots),
    )


def restore(store: Store, ring: KeyRing, found: Findings, *, clock: Clock) -> Channel | None:
    """Sign the chosen state anew.

    Without a chosen state, forget the memory, so that the channel can begin again.

    Returns:
        The restored channel, None if it begins again.

    Raises:
        StoreError: The channel was changed since :func:`look`.
        HostError: A bundle has seen the channel, and cannot forget it here.
    """
    memory = memory_of(store, ring, ring.channel)
    if found.chosen is None and memory.floor is not None:
        raise HostError(
            f"{BUNDLE} says that version {memory.floor.timestamp} of the channel {ring.channel} "
            "was seen: it does not begin again here",
            hint=(
                f"where its keys are, run: invoke recover {ring.channel}, "
                f"then: invoke keys export {ring.channel}"
            ),
        )
    if found.damaged or found.chosen is None:
        memory.reset(None)
    if found.chosen is None:
        return None
    channel = found.states[found.chosen]
    channel.etag, channel.timestamp = found.etag, found.timestamp
    require_valid(ring, channel)
    _keep_withdrawn(
        channel, [state for number, state in found.states.items() if number != found.chosen], clock
    )
    _raise_numbers(channel, found, clock)
    try:
        write_changes(ring, channel, clock, Deadline())
    except Conflict as error:
        again = f"look again: invoke recover {found.channel}"
        raise StoreError(
            f"the channel {found.channel} was changed meanwhile", hint=again
        ) from error
    return channel


def _recall(memory: Memory) -> tuple[Known, HostError | None]:
    try:
        return memory.load(), None
    except HostError as error:
        return Known(seen=memory.floor), error


def _timestamp(
    store: Store, name: str, root: Metadata[Root]
) -> tuple[str | None, Metadata[Timestamp] | None]:
    """Return the store's version of the timestamp, and the timestamp itself.

    Each is None if there is none; the timestamp also if the channel's keys did not sign it.
    """
    key = metadata_key(name, "timestamp")
    try:
        blob = store.read(key)
    except NotFound:
        return None, None
    try:
        timestamp: Metadata[Timestamp] = parse(blob.data, key, "timestamp")
    except VerificationError:
        return blob.etag, None
    return blob.etag, timestamp if is_signed(root, "timestamp", timestamp) else None


def _whole(
    store: Store, name: str, root: Metadata[Root], snapshots: Iterable[Metadata[Any]]
) -> dict[int, Channel]:
    """Return the states with all metadata there and signed, by number."""
    states = {}
    for snapshot in snapshots:
        try:
            channel = channel_at(store, name, root, snapshot)
            for appliance in channel.appliances:
                channel.shelf(appliance)
        except (StoreError, VerificationError):
            continue
        states[snapshot.signed.version] = channel
    return states


def _newest(states: Mapping[int, Channel], known: Known, named: int | None) -> int | None:
    """Return the number of the newest state that was current, or of a later one made from it.

    The later one may have been current, too. If one snapshot replaced another, a timestamp named
    the replaced one. A snapshot that replaced an older state lost its race.
    """
    current = {
        previous_of(state.snapshot).number
        for state in states.values()
        if state.snapshot is not None
    }
    current |= {named or 0, known.seen.snapshot if known.seen else 0}
    newest = max((number for number in states if number in current), default=0)
    made_from_it = [
        number
        for number, state in states.items()
        if state.snapshot is not None
        and number > newest
        and previous_of(state.snapshot).number == newest
        and known.begun.get(number) != identity(state.snapshot)
    ]
    return max(made_from_it, default=newest) or None


def _problem(channel: Channel, known: Known, clock: Clock) -> UserError | None:
    """Return the publishers' reason to refuse this state, None if they accept it."""
    if channel.timestamp is not None and channel.snapshot is None:
        return VerificationError(
            "what its timestamp names is not in the store, or not what was signed"
        )
    try:
        require_known(channel, known, clock)
        left = unnamed(channel, known)
        if left is not None:
            return VerificationError(
                f"its timestamp does not name the signed snapshot {left.number}"
            )
        if channel.timestamp is not None and channel.timestamp.signed.is_expired(
            datetime.fromtimestamp(clock(), UTC)
        ):
            end = f"its timestamp expired on {channel.timestamp.signed.expires:%Y-%m-%d}"
            return VerificationError(
                f"{end}, so newer ones may have been hidden; {clock_says(clock())}"
            )
    except VerificationError as error:
        return error
    return None


def _keep_withdrawn(channel: Channel, others: Iterable[Channel], clock: Clock) -> None:
    """Take over the tombstones of other signed states."""
    for other in others:
        for appliance in other.appliances:
            for release, stone in other.shelf(appliance).withdrawn.items():
                shelf = channel.shelf(appliance)
                if release in shelf.withdrawn:
                    continue
                if shelf.current == release:
                    shelf.current = shelf.before(release) or next(
                        (name for name in reversed(shelf.releases) if name != release), None
                    )
                shelf.releases.pop(release, None)
                shelf.withdrawn[release] = stone


def _raise_numbers(channel: Channel, found: Findings, clock: Clock) -> None:
    """Go above all numbers that users may have seen: they refuse lower ones."""
    seen = found.known.seen
    stamped = found.timestamp.signed.version if found.timestamp else 0
    channel.floors["snapshot"] = max(
        stamped, *found.numbers, *found.known.begun, seen.timestamp if seen else 0, 0
    )
    for state in found.states.values():
        for file, meta in state.snapshot.signed.meta.items() if state.snapshot else ():
            role = file.removesuffix(".json")
            channel.floors[role] = max(meta.version, channel.floors.get(role, 0))
    if seen and seen.snapshot not in found.states:  # users may have seen lists now gone
        channel.floors |= {role: max(floor, seen.highest) for role, floor in channel.floors.items()}
    mine = channel.snapshot.signed.meta if channel.snapshot else {}
    for file, meta in mine.items():
        role = file.removesuffix(".json")
        metadata = channel.targets if role == "targets" else channel.role(role)
        due = metadata is not None and half_over(metadata.signed.expires, clock)
        if due or channel.floors[role] > meta.version:
            channel.resign.add(role)
            if role != "targets":
                channel.shelf(role)


def _shown(chosen: Channel, named: Channel | None) -> list[str]:
    """Return lines with the content of a state, and its differences from the timestamp's state."""
    lines = []
    for appliance in chosen.appliances:
        shelf = chosen.shelf(appliance)
        other = named.shelf(appliance) if named is not None else None
        line = (
            f"{appliance}: {shelf.current or 'no release'}, {len(shelf.releases)} releases, "
            f"{len(shelf.withdrawn)} withdrawn"
        )
        if other is not None and other != shelf:
            line += (
                f" (now: {other.current or 'no release'}, {len(other.releases)} releases, "
                f"{len(other.withdrawn)} withdrawn)"
            )
        lines.append(line)
    return lines


def _day(time: float) -> str:
    return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M} UTC"
