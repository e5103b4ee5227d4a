"""Collect garbage: objects without any reference, present, recent or about to be made.

All times are by the store's clock. A collection begins at t0. G is :data:`GRACE_S`, and D < G is
:data:`~slipway.channels.commit.LIMIT_S`. A collection lists the store, then reads every channel. It
deletes an object only if two rules allow it:

* The object was last written before t0 - G.
* No metadata that was current at any moment since t0 - G refers to it.

Every commit ends within D of its first read. So the past of a promotion's source channel refers to
the objects until the promotion is over. The objects of a publication are too young. One case is
left: a publication finds its object there already, old and forgotten, from an interrupted run. It
renews the object while it holds the lease, the same one a collection needs.

A collection ends within D; then its lease is void. Two searches go through all orders of the steps.
They find a lost image as soon as any of these rules is left out.
tests/integration/test_channels_in_every_order.py searches this code.
tests/unit/channels/test_interleavings.py searches a model with more actors.
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
    """The result of a collection or of its dry run.

    Attributes:
        removed: The removed objects; sizes in bytes.
        uploads: The number of abandoned uploads.
        problems: The error of each unreadable channel. Nothing it might refer to was removed.
    """

    removed: tuple[Status, ...]
    uploads: int
    problems: Mapping[str, UserError] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """The size of all removed objects together."""
        return sum(status.size for status in self.removed)


def doomed(
    listing: Iterable[Status],
    referred: frozenset[str] | set[str],
    t0: float,
    grace_s: float = GRACE_S,
) -> list[Status]:
    """Return the objects to remove: listed, old and without a reference since t0 - G."""
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
    """Remove objects without a reference.

    Args:
        roots: The trusted root of each channel.
        unreadable: Channels not to be read, each with the error; also channels now gone.

    Raises:
        StoreError: Another collection is under way, or this one took longer than D.
    """
    if dry_run:
        removed, problems = _find(store, roots, grace_s, unreadable or {})
        return Collected(removed=tuple(removed), uploads=0, problems=problems)
    with _lease(store) as deadline:
        removed, problems = _find(store, roots, grace_s, unreadable or {})
        # Metadata and lists go before the objects they refer to: after a crash, the next run finds
        # the rest.
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
    """Find the objects without a reference, and the error of each unreadable channel.

    An unreadable channel may refer to anything, so all of it and every release are kept.
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
    """Return the keys that a channel's metadata refers to, now or at any moment since a time."""
    state = read_channel(store, channel, trusted)
    for appliance in state.appliances:
        state.shelf(appliance)  # the current state must be sound
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
            # A past snapshot was verified while it was current. Its keys may have been replaced
            # since.
            snapshot = load_metadata(store, channel, "snapshot", version)
        except NotFound:
            break  # long past: an earlier collection removed it
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
        # It became current within D of being written. Until then, the snapshot it replaced was
        # current.
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
    """Hold the lease for collecting and rescuing.

    The lease of an interrupted holder ends after D.

    Raises:
        StoreError: Somebody else holds the lease.
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
    """Renew the old objects of a release before it is published: they count as written now.

    Raises:
        StoreError: A collection is under way, and may be about to remove them.
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
