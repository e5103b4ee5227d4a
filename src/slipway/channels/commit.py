"""Change a channel, always in one way: read, change, write numbered metadata, swap the timestamp.

Invariants: A reader sees the state before a commit or the state after it. Of two commits at the
same time, one starts again from the other's result. Numbered files are created, never replaced. A
commit is given up after :data:`LIMIT_S`, and garbage collection relies on it
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
from slipway.channels.watch import read_own, seen_of
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
    """The result of a commit.

    Attributes:
        channel: The channel after it.
        retries: The number of lost races.
        written: False for a no-op.
    """

    channel: Channel
    retries: int
    written: bool


class Deadline:
    """The time limit of a commit, from the creation of this object.

    The clock also runs while the machine sleeps.
    """

    def __init__(self, limit_s: float = LIMIT_S) -> None:
        self.limit_s = limit_s
        self._started = time.clock_gettime(time.CLOCK_BOOTTIME)

    def check(self, what: str) -> None:
        """Give up after the limit.

        Raises:
            StoreError: The limit has passed.
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
        change: Called with the channel's present state, and again after every lost race. It must
            not rely on an earlier call.
        deadline: The deadline of a longer operation with this commit at its end.
        force: Sign anew even without a change.

    Raises:
        VerificationError: The channel is not signed by its keys, or older than a state seen here.
        StoreError: The store refused, or others were first too often.
    """
    deadline = deadline or Deadline()
    for retries in range(_ATTEMPTS):
        try:
            _bring_roots(store, ring, clock, deadline)
            channel = read_own(store, ring, clock, ring.roots[-1])
            require_valid(ring, channel)
            change(channel)
            written = bool(channel.changed() or channel.resign or force or channel.snapshot is None)
            if written:
                write_changes(ring, channel, clock, deadline)
            return Committed(channel=channel, retries=retries, written=written)
        except Conflict:
            time.sleep(random.uniform(0, min(1.0, 0.02 * 2 ** min(retries, 10))))
    raise StoreError(
        f"{ring.channel} was changed by other publishers in each of {_ATTEMPTS} attempts",
        hint="try again later",
    )


def require_valid(ring: KeyRing, channel: Channel) -> None:
    """Refuse to sign with keys missing from the channel's root: no client would follow.

    Raises:
        HostError: Too few of a role's keys are in the channel's root.
    """
    if channel.root.signed.version < _version(ring.roots[-1]):
        return  # the store does not have the newest root yet
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
    """Create the roots missing from the store, in order.

    Before each, everything in the store is also signed as the new root requires. A client may read
    the new root first, and still finds everything in order.
    """
    there = len(ring.roots)
    while (
        there
        and store.stat(metadata_key(ring.channel, "root", _version(ring.roots[there - 1]))) is None
    ):
        there -= 1
    if there == len(ring.roots):
        return
    if not there:  # a channel seen before and now gone does not begin anew
        read_own(store, ring, clock, ring.roots[-1])
    brought = _signed_by_newest(store, ring)
    for root in ring.roots[there:]:
        if there and not brought:
            channel = read_own(store, ring, clock, ring.roots[there - 1])
            unaccepted = _unaccepted(root, channel)
            if unaccepted:
                # New timestamp or snapshot keys alone need no new signature by the offline ones.
                channel.resign |= (
                    {"targets", *channel.appliances} if "targets" in unaccepted else set()
                )
                write_changes(ring, channel, clock, deadline)
        store.create(metadata_key(ring.channel, "root", _version(root)), root)
        there += 1


def _signed_by_newest(store: Store, ring: KeyRing) -> bool:
    """Return True if all metadata satisfies the newest root: existing roots were deleted."""
    try:
        return read_channel(store, ring.channel, ring.roots[-1]).timestamp is not None
    except (StoreError, VerificationError):
        return False


def _version(root: bytes) -> int:
    return int(parse(root, "a root of the key ring", "root").signed.version)


def _unaccepted(root: bytes, channel: Channel) -> set[str]:
    """Return the roles whose metadata a root does not accept."""
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
    """Write the changes as new numbered metadata, then swap the timestamp.

    Raises:
        Conflict: Somebody else was first. Garbage collection removes the files created so far.
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
    # One number for both: the numbered files tell the number of the timestamp.
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
    """Return one role for each appliance, so a client reads the metadata of this one alone."""
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
    """Sign metadata and create it under the next free number.

    A taken number is the rest of a lost or interrupted commit.

    Returns:
        The entry for other metadata, with the hash: such a rest could take the number alone.
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
