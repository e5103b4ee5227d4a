"""Garbage collection: objects that no channel refers to any more, and that nobody is about to refer
to.

With t0 = when a collection begins, G = :data:`GRACE_S` and D =
:data:`~slipway.channels.commit.LIMIT_S` < G, all by the store's clock: list, then read every
channel; delete an object only if it was last written before t0 - G *and* no metadata that was
current at any moment since t0 - G refers to it. Every commit ends within D of its first read. So
whatever a promotion found in its source channel is still referred to, by that channel's past, until
the promotion is over; and what a publication wrote is too young. One case is left: a publication
that finds its object there already, old and forgotten, from a run that was stopped. It makes the
object young again, while it holds the lease that a collection needs too.

A collection is over within D; then its lease is void. Two searches of all orders of the steps find
a lost image as soon as any of these rules is left out:
tests/integration/test_channels_in_every_order.py over this code, and
tests/unit/channels/test_interleavings.py over a model of more actors.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

from slipway.channels.commit import LIMIT_S, Deadline
from slipway.channels.layout import (
    FOLDERS,
    METADATA,
    RELEASES,
    TARGETS,
    channels_in,
    metadata_folder,
    metadata_key,
    release_folders,
    release_of,
    target_key,
)
from slipway.channels.shelf import past_of, to_shelf
from slipway.channels.state import load as load_metadata
from slipway.channels.state import read_channel
from slipway.errors import HostError, StoreError, UserError
from slipway.records.reference import ReleaseRef
from slipway.stores import Conflict, NotFound, Status, Store

__all__ = ["GRACE_S", "Collected", "collect", "doomed", "rescue"]

#: G of the protocol, in seconds.
GRACE_S: Final = 7 * 86400
_LEASE: Final = "gc/lease"
_FREE: Final = b"free\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What a collection removed, or would remove; sizes in bytes.

    ``uploads`` were begun and never ended.

    ``problems`` say by channel why it cannot be read; then nothing was removed that it might refer
    to.
    """

    removed: tuple[Status, ...]
    uploads: int
    problems: Mapping[str, UserError] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """All that was removed."""
        return sum(status.size for status in self.removed)


def doomed(
    listing: Iterable[Status],
    referred: frozenset[str] | set[str],
    t0: float,
    grace_s: float = GRACE_S,
) -> list[Status]:
    """The rule: of what was listed, that which is old and which nothing refers to, or referred to
    since t0 - G.
    """
    return [
        status
        for status in listing
        if status.modified < t0 - grace_s and status.key not in referred
    ]


def collect(
    store: Store,
    roots: Mapping[str, bytes],
    *,
    dry_run: bool = False,
    grace_s: float = GRACE_S,
    unreadable: Mapping[str, UserError] | None = None,
) -> Collected:
    """Remove what nothing refers to.

    Args:
        roots: The trusted root of each channel.
        unreadable: By channel, why it is not to be read, or that it is gone.

    Raises:
        StoreError: Another collection is under way.
    """
    if dry_run:
        removed, problems = _find(store, roots, grace_s, unreadable or {})
        return Collected(removed=tuple(removed), uploads=0, problems=problems)
    with _lease(store) as deadline:
        removed, problems = _find(store, roots, grace_s, unreadable or {})
        # What refers goes before what is referred to, and lists last: whatever is left by a crash
        # is found again.
        for status in sorted(
            removed, key=lambda status: (not status.key.startswith(METADATA), status.key)
        ):
            deadline.check("the collection")
            store.delete(status.key)
        return Collected(
            removed=tuple(removed), uploads=store.sweep(store.now() - grace_s), problems=problems
        )


def _find(
    store: Store, roots: Mapping[str, bytes], grace_s: float, unreadable: Mapping[str, UserError]
) -> tuple[list[Status], dict[str, UserError]]:
    """Find what nothing refers to; and by channel, why it cannot be read.

    Of a channel that cannot be read nothing can be said, so all of it and every release are kept
    then.
    """
    t0 = store.now()
    listing = [status for folder in FOLDERS for status in store.list(folder)]
    modified = {status.key: status.modified for status in listing}
    referred: set[str] = set()
    problems = dict(unreadable)
    for channel in channels_in(store):
        if channel in problems:
            continue
        try:
            referred |= _referred(store, channel, _root(roots, channel), modified, t0 - grace_s)
        except UserError as error:
            problems[channel] = error
    releases = {release_of(key) for key in referred if key.startswith(TARGETS)}
    signatures = {
        key for key in modified if key.startswith(RELEASES) and release_of(key) in releases
    }
    kept = (RELEASES, TARGETS, *map(metadata_folder, problems)) if problems else ()
    found = doomed(listing, referred | signatures, t0, grace_s)
    return [status for status in found if not status.key.startswith(kept)], problems


def _root(roots: Mapping[str, bytes], channel: str) -> bytes:
    if channel not in roots:
        raise HostError(
            f"the root of the channel {channel} is not known here, so what it refers "
            "to is not either",
            hint=f"put it into trust/{channel}.root.json",
        )
    return roots[channel]


def _referred(
    store: Store, channel: str, trusted: bytes, modified: Mapping[str, float], since: float
) -> set[str]:
    """All keys that metadata of a channel refers to, or referred to at any moment since then."""
    state = read_channel(store, channel, trusted)
    for appliance in state.appliances:
        state.shelf(appliance)  # what is current must make sense
    keys = {metadata_key(channel, "timestamp")}
    keys |= {
        key
        for key in modified
        if key.startswith(metadata_folder(channel)) and key.endswith(".root.json")
    }
    version = state.snapshot.signed.version if state.snapshot is not None else 0
    seen: set[tuple[str, int]] = set()
    while version:
        key = metadata_key(channel, "snapshot", version)
        try:
            # What is past was verified when it was current; signed by keys, perhaps, that have been
            # replaced since.
            snapshot = load_metadata(store, channel, "snapshot", version)
        except NotFound:
            break  # an earlier collection found that it is long past
        keys.add(key)
        for name, meta in snapshot.signed.meta.items():
            role = name.removesuffix(".json")
            if (role, meta.version) not in seen:
                seen.add((role, meta.version))
                keys.add(metadata_key(channel, role, meta.version))
                if role != "targets":
                    keys |= _objects(
                        load_metadata(store, channel, role, meta.version), role, channel
                    )
        # It became current after it was written, and within D; before that it was the one that it
        # replaced.
        if modified.get(key, math.inf) + LIMIT_S < since:
            break
        version = past_of(snapshot, channel)
    return keys


def _objects(role: Any, appliance: str, channel: str) -> set[str]:
    releases = to_shelf(role, appliance, channel).releases
    return {
        target_key(ReleaseRef(appliance, release), file, sha256)
        for release, listed in releases.items()
        for file, (_, sha256) in listed.files.items()
    }


@contextmanager
def _lease(store: Store) -> Iterator[Deadline]:
    """Be the only one who collects or rescues.

    Whoever was stopped in it is waited for no longer than D.

    Raises:
        StoreError: Somebody else is at it.
    """
    etag = None
    with suppress(NotFound):
        blob = store.read(_LEASE)
        etag = blob.etag
        status = store.stat(_LEASE)
        age = store.now() - status.modified if status else 0.0
        if blob.data != _FREE and age <= LIMIT_S:
            raise StoreError(
                f"a garbage collection has been under way for {age / 60:.0f} minutes",
                hint=(
                    f"try again later: if it was stopped, its lease ends {LIMIT_S / 3600:g} "
                    "hours after its begin"
                ),
            )
    deadline = Deadline()
    try:
        mine = store.swap(_LEASE, f"taken {time.time()}\n".encode(), etag=etag)
    except Conflict as error:
        raise StoreError("a garbage collection has just begun", hint="try again later") from error
    try:
        yield deadline
    finally:
        with suppress(Conflict):
            store.swap(_LEASE, _FREE, etag=mine)


def rescue(store: Store, ref: ReleaseRef) -> None:
    """Before a release is published: make what is there of it already, and is old, count as written
    now.

    Raises:
        StoreError: A collection is under way, which may be about to remove it.
    """
    limit = store.now() - (GRACE_S - 2 * LIMIT_S)
    old = [
        status
        for folder in release_folders(ref)
        for status in store.list(folder)
        if status.modified < limit
    ]
    if old:
        with _lease(store):
            for status in old:
                store.renew(status.key)
