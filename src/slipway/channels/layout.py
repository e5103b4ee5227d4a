"""Make and read the keys of a store's objects, in the layout of docs/reference/store.md.

Input: channels, roles and releases, or a key. Output: a key, or its owner. Nothing is read here but
listings.
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
#: The folders of channels and releases; catalogs and the lease of a collection are elsewhere.
FOLDERS: Final = (METADATA, RELEASES, TARGETS)
_OURS: Final = re.compile(
    r"metadata/[a-z][a-z0-9-]*/[^/]+\.json|releases/[^/]+/[^/]+/SHA256SUMS"
    r"|targets/[^/]+/[^/]+/[0-9a-f]{64}\.[^/]+"
)
_IN_CHANNEL: Final = re.compile(r"metadata/([a-z][a-z0-9-]{0,39})/")
_SNAPSHOT: Final = re.compile(r"(\d+)\.snapshot\.json", re.ASCII)
_SIGNATURE: Final = re.compile(rf"{SUMS}(?:\.(.*))?\.minisig", re.DOTALL)


def metadata_folder(channel: str) -> str:
    """Return the folder of a channel's metadata."""
    return f"{METADATA}{channel}/"


def metadata_key(channel: str, role: str, version: int | None = None) -> str:
    """Return the key of a role's metadata."""
    number = "" if version is None else f"{version}."
    return f"{metadata_folder(channel)}{number}{role}.json"


def release_folders(ref: ReleaseRef) -> tuple[str, str]:
    """Return the folder of a release's files, and the folder of its SHA256SUMS."""
    return f"{TARGETS}{ref.path}/", f"{RELEASES}{ref.path}/"


def target_key(ref: ReleaseRef, file: str, sha256: str) -> str:
    """Return the key of a release's file."""
    return f"{TARGETS}{ref.path}/{sha256}.{file}"


def sums_key(ref: ReleaseRef) -> str:
    """Return the key of a release's SHA256SUMS; its lines lead to all other files."""
    return f"{RELEASES}{ref.path}/{SUMS}"


def signature_key(channel: str, ref: ReleaseRef) -> str:
    """Return the key of a channel's signature of a release's SHA256SUMS."""
    return f"{sums_key(ref)}.{channel}.minisig"


def signer_of(key: str) -> str | None:
    """Return the channel in the name of a signature of a SHA256SUMS.

    Empty for a signature of an early version, None for another object.
    """
    found = _SIGNATURE.fullmatch(key.rpartition("/")[2])
    return (found[1] or "") if found else None


def release_of(key: str) -> ReleaseRef | None:
    """Return the release of an object, by the folder in its key."""
    parts = key.split("/")
    return ReleaseRef(parts[1], parts[2]) if len(parts) > 2 else None


def is_ours(key: str) -> bool:
    """Return True if a key has one of slipway's forms."""
    return _OURS.fullmatch(key) is not None


def is_channel(name: str) -> bool:
    """Return True if a channel can have this name."""
    return _IN_CHANNEL.fullmatch(metadata_folder(name)) is not None


def channels_in(store: Store, more: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the channels of a store, and more, the most trusted first.

    A withdrawal goes through them in this order. Folders with a name impossible for a channel are
    left out.
    """
    listing = () if read_only(store) else store.list(METADATA)
    names = {match[1] for status in listing if (match := _IN_CHANNEL.match(status.key))} | set(more)
    rank = {"stable": 0, "candidate": 1, "nightly": 3}
    return tuple(sorted(names, key=lambda name: (rank.get(name, 2), name)))


def snapshot_numbers(store: Store, channel: str) -> list[int]:
    """Return the numbers of a channel's snapshots, in the order of the store's listing."""
    return [
        int(found[1])
        for status in store.list(metadata_folder(channel))
        if (found := _SNAPSHOT.fullmatch(status.key.rpartition("/")[2]))
    ]
