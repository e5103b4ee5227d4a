"""Read the content of a channel from its signed metadata, verified from a trusted root.

A channel is the TUF repository ``metadata/<channel>/`` (TUF specification 1.0). Its targets role
delegates each appliance to a role of its own. The metadata of this role lists the files of every
release. Its signed field ``x-slipway`` has the rest: the current release, the times of build and
arrival, and the withdrawn releases. In the same field, a snapshot names the one it replaced, so the
past of a channel can be followed.

Invariants: A channel holds verified metadata only. Versions in timestamp, snapshot and file names
agree.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from slipway.channels.layout import FOLDERS, is_ours, metadata_key, snapshot_numbers
from slipway.channels.metadata import CUSTOM, previous_of
from slipway.channels.shelf import Listed, Shelf, Tombstone, is_name, malformed, to_shelf
from slipway.errors import StoreError, VerificationError
from slipway.stores import NotFound, Status, Store, read_only

if TYPE_CHECKING:
    from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, Targets, Timestamp

__all__ = [
    "CUSTOM",
    "Channel",
    "Listed",
    "Shelf",
    "Tombstone",
    "channel_at",
    "load",
    "load_listed",
    "read_channel",
    "require_store",
    "verified_root",
]

#: The most that python-tuf's client reads of each role, in bytes (tuf.ngclient.UpdaterConfig); an
#: appliance's role counts as targets.
MAX_BYTES: Final = {
    "root": 512_000,
    "timestamp": 16_384,
    "snapshot": 2_000_000,
    "targets": 5_000_000,
}
_SOMETHING_ELSE: Final = "something else is there"
_RESERVED: Final = ("root", "targets", "snapshot", "timestamp")


@dataclass(slots=True, kw_only=True)
class Channel:
    """A channel as it was read, and the changes to it.

    Attributes:
        etag: The timestamp's version in the store, None for a new channel.
        resign: Roles (``targets`` and appliances) to sign anew even without a change.
        floors: Numbers by role that new metadata must exceed.
    """

    name: str
    store: Store
    root: Metadata[Root]
    roots: tuple[Metadata[Root], ...] = ()
    etag: str | None = None
    timestamp: Metadata[Timestamp] | None = None
    snapshot: Metadata[Snapshot] | None = None
    targets: Metadata[Targets] | None = None
    roles: dict[str, Metadata[Targets]] = field(default_factory=dict)
    shelves: dict[str, Shelf] = field(default_factory=dict)
    resign: set[str] = field(default_factory=set)
    floors: dict[str, int] = field(default_factory=dict)
    _read: dict[str, Shelf] = field(default_factory=dict)

    @property
    def appliances(self) -> tuple[str, ...]:
        """The channel's appliances, sorted."""
        roles = (
            self.targets.signed.delegations.roles
            if self.targets and self.targets.signed.delegations
            else None
        )
        names = {*(roles or ()), *self.shelves}
        strange = [name for name in names if not is_name(name) or name in _RESERVED]
        if strange:
            raise malformed(
                self.name, "the list of appliances", f"no name of one: {strange[0][:100]!r}"
            )
        return tuple(sorted(names))

    def shelf(self, appliance: str) -> Shelf:
        """Return one appliance's releases, to read or to change."""
        if appliance in _RESERVED:
            raise StoreError(
                f'an appliance that is called "{appliance}" cannot be published',
                hint="that name has a meaning in TUF",
            )
        if appliance not in self.shelves:
            known = self.snapshot is not None and f"{appliance}.json" in self.snapshot.signed.meta
            self.shelves[appliance] = (
                to_shelf(self._role(appliance), appliance, self.name) if known else Shelf()
            )
            self._read[appliance] = copy.deepcopy(self.shelves[appliance])
        return self.shelves[appliance]

    def role(self, appliance: str) -> Metadata[Targets] | None:
        """Return the metadata of an appliance as it was read, None for a new one."""
        known = self.snapshot is not None and f"{appliance}.json" in self.snapshot.signed.meta
        return self._role(appliance) if known else None

    def changed(self) -> list[str]:
        """Return the appliances that are no longer as they were read."""
        return sorted(
            name for name, shelf in self.shelves.items() if shelf != self._read.get(name, Shelf())
        )

    def _role(self, appliance: str) -> Metadata[Targets]:
        if appliance not in self.roles:
            assert self.snapshot and self.targets
            role: Metadata[Targets] = load_listed(
                self.store, self.name, appliance, _listed(self.snapshot, self.name, appliance)
            )
            _verify(self.targets, appliance, role, self.name)
            self.roles[appliance] = role
        return self.roles[appliance]


def require_store(store: Store, *, new: bool = False) -> None:
    """Refuse a place without a store: a mistyped name looks like an empty store.

    Args:
        new: True if a store may begin here; then a folder may be missing or empty.

    Raises:
        StoreError: The place is empty, or holds something else.
    """
    if any(is_ours(status.key) for folder in FOLDERS for status in _listed_in(store, folder)):
        return
    hint = (
        "check --store and SLIPWAY_STORE; a new store begins with: invoke keys init nightly; "
        f"invoke publish NAME --store={store.url}"
    )
    problem = "nothing was published there"
    if "://" not in store.url:
        problem = _folder_problem(Path(store.url))
    if problem == _SOMETHING_ELSE:
        raise StoreError(
            f"{store.url} is not a store: {problem}",
            hint="name the folder of a store, or an empty one",
        )
    if not new:
        raise StoreError(f"there is no store in {store.url}: {problem}", hint=hint)


def _listed_in(store: Store, folder: str) -> Iterator[Status]:
    """Yield the objects of a folder; none if the store's own folder is missing or a file."""
    if "://" in store.url or Path(store.url).is_dir():
        yield from store.list(folder)


def _folder_problem(path: Path) -> str:
    """Return the reason that a folder is no store."""
    try:
        names = [each.name for each in path.iterdir() if each.name != ".tmp"]
    except FileNotFoundError:
        return "there is no such folder"
    except NotADirectoryError:
        return _SOMETHING_ELSE
    except OSError as error:
        raise StoreError(
            f"{path} cannot be read: {os.strerror(error.errno or 0)}",
            hint="ask its owner for read permission",
        ) from error
    return _SOMETHING_ELSE if names else "the folder is empty"


def read_channel(store: Store, name: str, trusted: bytes) -> Channel:
    """Read a channel as it is now; of a channel that does not exist yet, its root alone.

    Args:
        trusted: Any trusted root of the channel; newer ones are followed from there.

    Raises:
        VerificationError: Metadata is not signed by the right keys, or versions do not agree.
        StoreError: The timestamp was deleted.
    """
    roots = root_chain(store, name, trusted)
    root = roots[-1]
    try:
        blob = store.read(metadata_key(name, "timestamp"), limit=MAX_BYTES["timestamp"])
    except NotFound:
        _require_new(store, name)
        return Channel(name=name, store=store, root=root, roots=roots)
    timestamp: Metadata[Timestamp] = parse(blob.data, metadata_key(name, "timestamp"), "timestamp")
    _verify(root, "timestamp", timestamp, name)
    snapshot: Metadata[Snapshot] = load_listed(
        store, name, "snapshot", timestamp.signed.snapshot_meta
    )
    _verify(root, "snapshot", snapshot, name)
    channel = channel_at(store, name, root, snapshot)
    channel.etag, channel.timestamp, channel.roots = blob.etag, timestamp, roots
    return channel


def channel_at(
    store: Store, name: str, root: Metadata[Root], snapshot: Metadata[Snapshot]
) -> Channel:
    """Read a channel in the state of a verified snapshot.

    Raises:
        NotFound: Listed metadata is missing.
        VerificationError: Metadata differs from the list, or is not signed by the right keys.
    """
    targets: Metadata[Targets] = load_listed(
        store, name, "targets", _listed(snapshot, name, "targets")
    )
    _verify(root, "targets", targets, name)
    return Channel(name=name, store=store, root=root, snapshot=snapshot, targets=targets)


def verified_root(store: Store, channel: str, trusted: bytes) -> Metadata[Root]:
    """Return the newest root of a channel in the store."""
    return root_chain(store, channel, trusted)[-1]


def root_chain(store: Store, channel: str, trusted: bytes) -> tuple[Metadata[Root], ...]:
    """Return the roots of a channel, from a trusted one on.

    Each is signed by the keys of the one before and by its own.
    """
    root: Metadata[Root] = parse(trusted, f"the trusted root of {channel}", "root")
    _verify(root, "root", root, channel)
    chain = [root]
    while True:
        try:
            following: Metadata[Root] = load(store, channel, "root", root.signed.version + 1)
        except NotFound:
            return tuple(chain)
        _verify(root, "root", following, channel)
        _verify(following, "root", following, channel)
        root = following
        chain.append(root)


def load(store: Store, channel: str, role: str, version: int) -> Any:
    """Load a numbered file of metadata, not verified except for its type and number.

    Raises:
        NotFound: The file does not exist.
        VerificationError: The file is no metadata, or not of the type and number in its name.
    """
    return _parsed(_bytes(store, metadata_key(channel, role, version)), channel, role, version)


def load_listed(store: Store, channel: str, role: str, meta: MetaFile) -> Any:
    """Load a numbered file as other metadata lists it: by number, and by hash if there is one.

    Raises:
        NotFound: The file does not exist.
        VerificationError: The file is no metadata, or not the listed one.
    """
    from tuf.api.exceptions import LengthOrHashMismatchError

    key = metadata_key(channel, role, meta.version)
    data = _bytes(store, key)
    metadata = _parsed(data, channel, role, meta.version)
    try:
        meta.verify_length_and_hashes(data)
    except LengthOrHashMismatchError as error:
        raise VerificationError(
            f"{key} is not the one that its channel lists: {error}",
            hint="the store was changed by something else",
        ) from error
    return metadata


def _bytes(store: Store, key: str) -> bytes:
    role = key.rpartition("/")[2].removesuffix(".json").rpartition(".")[2]
    limit = MAX_BYTES.get(role, MAX_BYTES["targets"])
    data = store.read_range(key, 0, limit + 1)
    if len(data) > limit:
        raise VerificationError(f"{key} is larger than {limit} bytes")
    return data


def _parsed(data: bytes, channel: str, role: str, version: int) -> Any:
    key = metadata_key(channel, role, version)
    metadata = parse(data, key, role if role in ("root", "snapshot") else "targets")
    if metadata.signed.version != version:
        raise VerificationError(f"{key} says that it is version {metadata.signed.version}")
    return metadata


def parse(data: bytes, source: str, kind: str) -> Any:
    """Parse metadata of a kind, not verified.

    Raises:
        VerificationError: The data is no metadata, or of another kind.
    """
    from tuf.api.metadata import Metadata
    from tuf.api.serialization import DeserializationError

    try:
        metadata = Metadata[Any].from_bytes(data)
    except DeserializationError as error:
        raise VerificationError(
            f"{source} is not TUF metadata", hint="the store was changed by something else"
        ) from error
    if metadata.signed.type != kind:
        raise VerificationError(f"{source} is {metadata.signed.type} metadata, not {kind}")
    return metadata


def _verify(delegator: Metadata[Any], role: str, metadata: Metadata[Any], channel: str) -> None:
    from tuf.api.exceptions import RepositoryError

    try:
        delegator.signed.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
    except (RepositoryError, ValueError) as error:
        # also metadata without a canonical form, such as a number with a point
        raise VerificationError(
            f"the {role} metadata of the channel {channel} is not signed by its keys: "
            f"{str(error) or 'it has no canonical form'}",
            hint=(
                "whoever wrote it is not who holds the keys; or these are not the "
                "keys of this store"
            ),
        ) from error


def _listed(snapshot: Metadata[Snapshot], channel: str, role: str) -> MetaFile:
    try:
        return snapshot.signed.meta[f"{role}.json"]
    except KeyError:
        raise VerificationError(
            f"the snapshot of the channel {channel} does not list {role}"
        ) from None


def _require_new(store: Store, channel: str) -> None:
    """Refuse a channel whose timestamp was deleted.

    A channel that was never there passes, and so does one with an interrupted first commit.
    """
    if read_only(store):
        return  # no listing to tell them apart by
    numbers = snapshot_numbers(store, channel)
    if numbers and previous_of(load(store, channel, "snapshot", max(numbers))).number:
        raise StoreError(
            f"the channel {channel} has metadata, but its timestamp.json was deleted",
            hint=(
                f"clients keep their last state; to inspect and recover: invoke recover {channel}"
            ),
        )
