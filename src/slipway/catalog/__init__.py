"""A store's releases -> pages for people and indexes for other programs, kept in the store itself.

What goes in: the channels of a store, verified. What comes out: a few objects with references to
``targets/``: pages, streams for Incus and LXD, a content library for vSphere.

Invariants: they are views, written anew after a change, and nothing here trusts them. Only a
channel's current releases are offered, so no withdrawn one is.

A kind of index is one module of this package with a function ``index(catalog, templates)``. It
returns the objects by key.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol, cast

from slipway.channels.keys.ring import fingerprint
from slipway.channels.layout import target_key
from slipway.channels.shelf import Shelf, Tombstone
from slipway.channels.state import Channel
from slipway.channels.verified import manifest_of, read_record
from slipway.errors import StoreError
from slipway.formats import Artifact
from slipway.records.manifest import Manifest
from slipway.records.reference import ReleaseRef
from slipway.records.release import SBOM
from slipway.records.sbom import Part, read_parts
from slipway.stores import Conflict, NotFound, Store

__all__ = ["INDEXED", "Catalog", "Listing", "Offer", "exists", "kinds", "read_catalog", "write"]

_ATTEMPTS = 10
#: The formats that indexes show.
INDEXED: Final = ("incus", "ova")


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """An appliance's current release in a channel.

    ``first`` is True if no more trusted channel has the appliance. ``revision`` grows with every
    change of the appliance there. ``files`` are size and SHA-256 of all its files in the channel,
    by name. ``parts`` are its SBOM's; only the first offer has them, because only it shows them.
    """

    channel: str
    first: bool
    revision: int
    manifest: Manifest
    files: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    parts: Sequence[Part] = ()

    def artifact(self, form: str) -> Artifact | None:
        """Return the file of a format, if there is one."""
        return next(
            (artifact for artifact in self.manifest.artifacts if artifact.format == form), None
        )

    def key(self, artifact: Artifact) -> str:
        """Return a file's key in the store."""
        return target_key(self.manifest.ref, artifact.file, artifact.sha256)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A release in a channel; a withdrawn one has a ``tombstone`` and no files.

    ``added`` is the time of its arrival in the channel, or of its withdrawal, in seconds since
    1970. ``files`` are size and SHA-256 by name.
    """

    channel: str
    ref: ReleaseRef
    added: int
    current: bool
    files: Mapping[str, tuple[int, str]]
    tombstone: Tombstone | None = None

    def key(self, file: str) -> str:
        """Return a file's key in the store."""
        return target_key(self.ref, file, self.files[file][1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """The offers of a store; ``revision`` grows with every change of any channel.

    ``listings`` are all releases, the newest first. ``fingerprints`` are the root keys'
    fingerprints by channel, the most trusted channel first.
    """

    offers: Sequence[Offer]
    revision: int
    listings: Sequence[Listing] = ()
    fingerprints: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def hidden(self) -> list[Offer]:
        """The offers without a format for indexes."""
        return [offer for offer in self.offers if not any(map(offer.artifact, INDEXED))]

    @property
    def shown(self) -> int:
        """The number of offers in indexes."""
        return len(self.offers) - len(self.hidden)


class _Kind(Protocol):
    def index(self, catalog: Catalog, templates: Path) -> Mapping[str, bytes]: ...


def kinds() -> tuple[str, ...]:
    """Return the existing kinds of indexes, sorted."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def read_catalog(store: Store, channels: Iterable[Channel]) -> Catalog:
    """Return the current state of channels.

    Args:
        channels: The most trusted first.

    Raises:
        VerificationError: A manifest or an SBOM is not the published one.
        StoreError: A manifest or an SBOM is missing.
    """
    found: dict[tuple[str, str], Offer] = {}
    listings: list[Listing] = []
    fingerprints: dict[str, list[str]] = {}
    revision = 0
    for channel in channels:
        root = channel.root.signed
        fingerprints[channel.name] = [
            fingerprint(root.keys[keyid]) for keyid in sorted(root.roles["root"].keyids)
        ]
        revision += channel.snapshot.signed.version if channel.snapshot else 0
        for appliance in channel.appliances:
            shelf, role = channel.shelf(appliance), channel.role(appliance)
            listings += _listings(channel.name, appliance, shelf)
            if shelf.current and role:
                ref = ReleaseRef(appliance, shelf.current)
                files = shelf.releases[shelf.current].files
                manifest = manifest_of(store, ref, files)
                first = all(other != appliance for _, other in found)
                offer = Offer(
                    channel=channel.name,
                    first=first,
                    revision=role.signed.version,
                    manifest=manifest,
                    files=files,
                    parts=read_parts(read_record(store, ref, SBOM, files)) if first else (),
                )
                found[channel.name, appliance] = offer
    listings.sort(key=lambda listing: (-listing.added, listing.ref))
    return Catalog(
        offers=tuple(found.values()),
        revision=revision,
        listings=tuple(listings),
        fingerprints=fingerprints,
    )


def _listings(channel: str, appliance: str, shelf: Shelf) -> Iterator[Listing]:
    for release, listed in shelf.releases.items():
        current = release == shelf.current
        yield Listing(
            channel=channel,
            ref=ReleaseRef(appliance, release),
            added=listed.added,
            current=current,
            files=listed.files,
        )
    for release, tombstone in shelf.withdrawn.items():
        yield Listing(
            channel=channel,
            ref=ReleaseRef(appliance, release),
            added=tombstone.time,
            current=False,
            files={},
            tombstone=tombstone,
        )


def write(store: Store, catalog: Catalog, templates: Path, *, dry_run: bool = False) -> list[str]:
    """Write every index; return the keys of changed objects, or of those to change."""
    changed = []
    for name in kinds():
        kind = cast(_Kind, importlib.import_module(f"{__name__}.{name}"))
        for key, data in kind.index(catalog, templates).items():
            if _put(store, key, data, dry_run=dry_run):
                changed.append(key)
    return changed


def exists(store: Store) -> bool:
    """Return True if a store has indexes; they have to follow its channels then."""
    return any(True for _ in store.list("streams/v1/"))


def _put(store: Store, key: str, data: bytes, *, dry_run: bool = False) -> bool:
    for _ in range(_ATTEMPTS):
        try:
            there = store.read(key)
        except NotFound:
            there = None
        if there and there.data == data:
            return False
        if dry_run:
            return True
        try:
            store.swap(key, data, etag=there.etag if there else None)
        except Conflict:
            continue
        return True
    raise StoreError(
        f"{key} is being changed by other writers all the time", hint="run the command again"
    )
