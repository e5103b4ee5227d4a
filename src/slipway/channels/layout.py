"""Where everything is in a store: the keys of objects, and what a key says.

Its layout is that of docs/reference/store.md.
What goes in: channels, roles and releases, or a key. What comes out: a key, or whose it is. Nothing
is read here but listings.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from slipway.records.reference import ReleaseRef
from slipway.records.release import SUMS
from slipway.stores import Store, read_only

__all__ = [
    "FOLDERS",
    "METADATA",
    "RELEASES",
    "TARGETS",
    "channels_in",
    "is_channel",
    "is_ours",
    "metadata_folder",
    "metadata_key",
    "release_folders",
    "release_of",
    "signature_key",
    "signer_of",
    "snapshot_numbers",
    "sums_key",
    "target_key",
]

METADATA: Final = "metadata/"
RELEASES: Final = "releases/"
TARGETS: Final = "targets/"
#: Those of channels and releases; catalogs and the lease of a collection are elsewhere.
FOLDERS: Final = (METADATA, RELEASES, TARGETS)
_OURS: Final = re.compile(
    r"metadata/[a-z][a-z0-9-]*/[^/]+\.json|releases/[^/]+/[^/]+/SHA256SUMS"
    r"|targets/[^/]+/[^/]+/[0-9a-f]{64}\.[^/]+"
)
_IN_CHANNEL: Final = re.compile(r"metadata/([a-z][a-z0-9-]{0,39})/")
_SNAPSHOT: Final = re.compile(r"(\d+)\.snapshot\.json", re.ASCII)
_SIGNATURE: Final = re.compile(rf"{SUMS}(?:\.(.*))?\.minisig", re.DOTALL)


def metadata_folder(channel: str) -> str:
    """Where the metadata of a channel is."""
    return f"{METADATA}{channel}/"


def metadata_key(channel: str, role: str, version: int | None = None) -> str:
    """Where a role's metadata is."""
    number = "" if version is None else f"{version}."
    return f"{metadata_folder(channel)}{number}{role}.json"


def release_folders(ref: ReleaseRef) -> tuple[str, str]:
    """Where the files of a release are, and its list of them."""
    return f"{TARGETS}{ref.path}/", f"{RELEASES}{ref.path}/"


def target_key(ref: ReleaseRef, file: str, sha256: str) -> str:
    """Where a file of a release is."""
    return f"{TARGETS}{ref.path}/{sha256}.{file}"


def sums_key(ref: ReleaseRef) -> str:
    """Where a release's SHA256SUMS is; its lines say where everything else is."""
    return f"{RELEASES}{ref.path}/{SUMS}"


def signature_key(channel: str, ref: ReleaseRef) -> str:
    """Where a channel's signature of a release's SHA256SUMS is."""
    return f"{sums_key(ref)}.{channel}.minisig"


def signer_of(key: str) -> str | None:
    """Return the channel that a signature of a SHA256SUMS is named after.

    Empty for one of an early version, None for another object.
    """
    found = _SIGNATURE.fullmatch(key.rpartition("/")[2])
    return (found[1] or "") if found else None


def release_of(key: str) -> ReleaseRef | None:
    """Return the release in whose folder an object is."""
    parts = key.split("/")
    return ReleaseRef(parts[1], parts[2]) if len(parts) > 2 else None


def is_ours(key: str) -> bool:
    """Return True if slipway gives objects such keys."""
    return _OURS.fullmatch(key) is not None


def is_channel(name: str) -> bool:
    """Return True if a channel can have this name."""
    return _IN_CHANNEL.fullmatch(metadata_folder(name)) is not None


def channels_in(store: Store, more: Iterable[str] = ()) -> tuple[str, ...]:
    """The channels that a store has, and more, in the order in which something is withdrawn from
    them: most trusted first.

    Folders that no channel can be called are none.
    """
    listing = () if read_only(store) else store.list(METADATA)
    names = {match[1] for status in listing if (match := _IN_CHANNEL.match(status.key))} | set(more)
    rank = {"stable": 0, "candidate": 1, "nightly": 3}
    return tuple(sorted(names, key=lambda name: (rank.get(name, 2), name)))


def snapshot_numbers(store: Store, channel: str) -> list[int]:
    """The numbers of a channel's snapshots in a store, as it lists them."""
    return [
        int(found[1])
        for status in store.list(metadata_folder(channel))
        if (found := _SNAPSHOT.fullmatch(status.key.rpartition("/")[2]))
    ]
