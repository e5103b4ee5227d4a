"""The one way in which a channel changes: read, change, write numbered metadata, swap the
timestamp.

Invariants: a reader sees the state before or the state after; of two commits at the same time one
starts again from what the other made; numbered files are created, never replaced; a commit that
takes longer than :data:`LIMIT_S` is given up, which garbage collection relies on
(:mod:`slipway.channels.collect`).
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from slipway.channels.keys import EXPIRY_DAYS, Clock, KeyRing
from slipway.channels.layout import metadata_key
from slipway.channels.memory import memory_of
from slipway.channels.metadata import CUSTOM, identity
from slipway.channels.shelf import require_sound
from slipway.channels.state import Channel, Shelf, parse, read_channel
from slipway.channels.watch import read_watched, seen_of
from slipway.errors import HostError, StoreError, VerificationError
from slipway.stores import AlreadyExists, Conflict, Store

if TYPE_CHECKING:
    from tuf.api.metadata import Metadata, MetaFile, Targets

__all__ = ["LIMIT_S", "Change", "Committed", "Deadline", "commit", "require_valid", "write_changes"]

#: D of the protocol: from a commit's first read to its swap, in seconds.
LIMIT_S: Final = 6 * 3600
_ATTEMPTS: Final = 200

Change = Callable[[Channel], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """A channel after a commit, the number of times that others were first, and whether there was
    anything to write.
    """

    channel: Channel
    retries: int
    written: bool


class Deadline:
    """The time within which a commit must be done, from when this is made.

    The clock goes on while a machine sleeps.
    """

    def __init__(self, limit_s: float = LIMIT_S) -> None:
        self.limit_s = limit_s
        self._started = time.clock_gettime(time.CLOCK_BOOTTIME)

    def check(self, what: str) -> None:
        """Give up once it is too late.

        Raises:
            StoreError: It is.
        """
        if time.clock_gettime(time.CLOCK_BOOTTIME) - self._started > self.limit_s:
            raise StoreError(
                f"{what} took longer than {self.limit_s / 3600:g} hours, and was given up",
                hint="run it again",
            )


def commit(
    store: Store,
    ring: KeyRing,
    change: Change,
    *,
    clock: Clock = time.time,
    deadline: Deadline | None = None,
    force: bool = False,
) -> Committed:
    """Change a channel.

    Args:
        change: Called with the channel as it is; again after every lost race, so it must not rely
            on an earlier call.
        deadline: That of a longer work of which this is the end.
        force: Sign anew even if nothing changed.

    Raises:
        VerificationError: What the store holds was not made with the keys of this channel.
        StoreError: The store refused, or others were first too often.
    """
    deadline = deadline or Deadline()
    for retries in range(_ATTEMPTS):
        try:
            _bring_roots(store, ring, clock, deadline)
            channel = read_watched(
                store,
                ring.channel,
                ring.roots[-1],
                memory_of(store, ring, ring.channel),
                clock=clock,
            )
            require_valid(ring, channel)
            change(channel)
            written = bool(channel.changed() or channel.resign or force or channel.snapshot is None)
            if written:
                write_changes(ring, channel, clock, deadline)
            return Committed(channel=channel, retries=retries, written=written)
        except Conflict:
            time.sleep(random.uniform(0, min(1.0, 0.02 * 2 ** min(retries, 10))))
    raise StoreError(
        f"others were first {_ATTEMPTS} times in {ring.channel}",
        hint="try again when less is going on",
    )


def require_valid(ring: KeyRing, channel: Channel) -> None:
    """Refuse to sign with keys that the channel's root does not name, or no longer: no client would
    follow.

    Raises:
        HostError: They are such.
    """
    if channel.root.signed.version < _version(ring.roots[-1]):
        return  # the store has not been told yet of the keys that replace its own
    for role in ("targets", "snapshot", "timestamp"):
        wanted = channel.root.signed.roles[role]
        if len({key.keyid for key in ring.public(role)} & set(wanted.keyids)) < wanted.threshold:
            raise HostError(
                f"the {role} key that is here is not one that the channel {channel.name} accepts",
                hint=(
                    "it was replaced: get the new one from where it was made, with: "
                    "invoke keys export"
                ),
            )


def _bring_roots(store: Store, ring: KeyRing, clock: Clock, deadline: Deadline) -> None:
    """Create the roots that the store does not have yet, each only when all that is there is also
    signed as it wants: a client that reads a new root before anything else finds everything in
    order.
    """
    there = len(ring.roots)
    while (
        there
        and store.stat(metadata_key(ring.channel, "root", _version(ring.roots[there - 1]))) is None
    ):
        there -= 1
    if there == len(ring.roots):
        return
    if not there:  # a channel that was seen, and is gone, does not begin anew
        read_watched(
            store, ring.channel, ring.roots[-1], memory_of(store, ring, ring.channel), clock=clock
        )
    brought = _signed_by_newest(store, ring)
    for root in ring.roots[there:]:
        if there and not brought:
            channel = read_watched(
                store,
                ring.channel,
                ring.roots[there - 1],
                memory_of(store, ring, ring.channel),
                clock=clock,
            )
            unaccepted = _unaccepted(root, channel)
            if unaccepted:
                # Of new timestamp and snapshot keys alone, the offline ones need not know.
                channel.resign |= (
                    {"targets", *channel.appliances} if "targets" in unaccepted else set()
                )
                write_changes(ring, channel, clock, deadline)
        store.create(metadata_key(ring.channel, "root", _version(root)), root)
        there += 1


def _signed_by_newest(store: Store, ring: KeyRing) -> bool:
    """Return true if all that is there is signed as the newest root wants: somebody deleted roots
    that were there.
    """
    try:
        return read_channel(store, ring.channel, ring.roots[-1]).timestamp is not None
    except (StoreError, VerificationError):
        return False


def _version(root: bytes) -> int:
    return int(parse(root, "a root of the key ring", "root").signed.version)


def _unaccepted(root: bytes, channel: Channel) -> set[str]:
    """The roles whose metadata a root does not accept."""
    from tuf.api.exceptions import UnsignedMetadataError

    signed = parse(root, "a root of the key ring", "root").signed
    found = set()
    for role, metadata in (
        ("timestamp", channel.timestamp),
        ("snapshot", channel.snapshot),
        ("targets", channel.targets),
    ):
        if metadata is not None:
            try:
                signed.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
            except UnsignedMetadataError:
                found.add(role)
    return found


def write_changes(ring: KeyRing, channel: Channel, clock: Clock, deadline: Deadline) -> None:
    """Write what changed as new numbered metadata, then swap the timestamp.

    Raises:
        Conflict: Somebody else was first; what was created is left for garbage collection.
    """
    from tuf.api.metadata import Metadata, Snapshot, Targets, Timestamp

    meta = dict(channel.snapshot.signed.meta) if channel.snapshot else {}
    appliances = sorted({*channel.changed(), *channel.resign} - {"targets"})
    offline = appliances or channel.targets is None or "targets" in channel.resign
    for signing in ("timestamp", "snapshot", *(("targets",) if offline else ())):
        ring.of(signing)  # before anything is created
    roles = {
        appliance: Metadata(_to_targets(appliance, channel.shelf(appliance)))
        for appliance in appliances
    }
    for appliance, role in roles.items():
        require_sound(role, appliance)
    for appliance, role in roles.items():
        old = channel.role(appliance)
        version = old.signed.version if old else 0
        meta[f"{appliance}.json"] = _numbered(ring, channel, appliance, role, version, clock)
    if (
        channel.targets is None
        or "targets" in channel.resign
        or any(channel.role(appliance) is None for appliance in appliances)
    ):
        targets = Metadata(
            Targets(
                delegations=_delegations(
                    ring, [name.removesuffix(".json") for name in meta if name != "targets.json"]
                )
            )
        )
        version = channel.targets.signed.version if channel.targets else 0
        meta["targets.json"] = _numbered(ring, channel, "targets", targets, version, clock)
    previous = channel.snapshot.signed.version if channel.snapshot else 0
    past: dict[str, Any] = {"previous": previous}
    if channel.snapshot:
        past["sha256"] = identity(channel.snapshot)
    snapshot = Metadata(Snapshot(meta=meta, unrecognized_fields={CUSTOM: past}))
    listed = _numbered(ring, channel, "snapshot", snapshot, previous, clock)
    # One number for both: whoever looks at the numbered files knows what the timestamp was.
    timestamp = Metadata(
        Timestamp(
            version=listed.version, expires=_expires(clock, "timestamp"), snapshot_meta=listed
        )
    )
    data = ring.sign(timestamp, "timestamp")
    deadline.check(f"the commit to {channel.name}")
    channel.etag = channel.store.swap(
        metadata_key(channel.name, "timestamp"), data, etag=channel.etag
    )
    written = Channel(
        name=channel.name,
        store=channel.store,
        root=channel.root,
        timestamp=timestamp,
        snapshot=snapshot,
    )
    memory_of(channel.store, ring, channel.name).remember(seen_of(written, clock))


def _to_targets(appliance: str, shelf: Shelf) -> Targets:
    from tuf.api.metadata import TargetFile, Targets

    targets = {}
    for release, listed in shelf.releases.items():
        for file, (size, sha256) in listed.files.items():
            path = f"{appliance}/{release}/{file}"
            targets[path] = TargetFile(length=size, hashes={"sha256": sha256}, path=path)
    own = {
        "current": shelf.current,
        "releases": [
            {"release": name, "created": each.created, "added": each.added}
            for name, each in shelf.releases.items()
        ],
        "withdrawn": {
            name: {"reason": each.reason, "replacement": each.replacement, "time": each.time}
            for name, each in shelf.withdrawn.items()
        },
        "past": [name for name in shelf.past if name in shelf.releases],
    }
    return Targets(targets=targets, unrecognized_fields={CUSTOM: own})


def _delegations(ring: KeyRing, appliances: Iterable[str]) -> Any:
    """Each appliance's own role, so that a client reads the metadata of that one alone."""
    from tuf.api.metadata import DelegatedRole, Delegations

    keys = {key.keyid: key for key in ring.public("targets")}
    return Delegations(
        keys=keys,
        roles={
            name: DelegatedRole(
                name=name, keyids=sorted(keys), threshold=1, terminating=True, paths=[f"{name}/*/*"]
            )
            for name in sorted(appliances)
        },
    )


def _numbered(
    ring: KeyRing, channel: Channel, role: str, metadata: Metadata[Any], version: int, clock: Clock
) -> MetaFile:
    """Sign metadata and create it under the next number that is free: one that is taken is the rest
    of a commit that lost or was stopped. Returns how other metadata lists it: the number alone
    could be taken by such a rest.
    """
    from tuf.api.metadata import MetaFile

    signer = role if role in EXPIRY_DAYS else "targets"
    metadata.signed.expires = _expires(clock, signer)
    version = max(version, channel.floors.get(role, 0))
    while True:
        version += 1
        metadata.signed.version = version
        data = ring.sign(metadata, signer)
        if role == "snapshot":
            memory = memory_of(channel.store, ring, channel.name)
            if not memory.begin(version, identity(metadata)):
                continue
        try:
            channel.store.create(metadata_key(channel.name, role, version), data)
        except AlreadyExists:
            continue
        return MetaFile(version, hashes={"sha256": hashlib.sha256(data).hexdigest()})


def _expires(clock: Clock, role: str) -> datetime:
    return datetime.fromtimestamp(int(clock()), UTC) + timedelta(days=EXPIRY_DAYS[role])
