"""Write a release's SHA256SUMS and its minisign signatures, as views of signed metadata.

They are never a source of trust. Input: the sizes and hashes of a release's files, from a local
build or verified metadata. Output: the list's text, and one signature for each channel.

Invariants: A key signs only text made here, never text from a store. A list with other images is
refused. An existing signature is verified.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Final, TypeVar

from slipway.channels.keys import EXPIRY_DAYS, Clock, KeyRing
from slipway.channels.layout import signature_key, sums_key
from slipway.channels.minisign import sign, verify
from slipway.errors import StoreError, VerificationError
from slipway.records.reference import ReleaseRef
from slipway.records.release import MANIFEST, PROVENANCE, SBOM, SUMS
from slipway.records.sums import format_sums, parse_sums
from slipway.stores import AlreadyExists, Conflict, NotFound, Store

__all__ = [
    "RECORDS",
    "Files",
    "artifacts_of",
    "hash_of",
    "require_bytes",
    "require_list",
    "require_same_images",
    "settle",
    "sums_text",
]

#: Size and SHA-256 by file name.
Files = Mapping[str, tuple[int, str]]
_RANGE: Final = 8 << 20
_ATTEMPTS: Final = 10
#: The files beside the images.
RECORDS: Final = (MANIFEST, SBOM, PROVENANCE)
_What = TypeVar("_What")
_SECOND: Final = "a store where somebody else can write is not safe: find out who did"


def sums_text(files: Files) -> bytes:
    """Return the text of SHA256SUMS for these files."""
    return format_sums({file: sha256 for file, (_, sha256) in files.items()})


def artifacts_of(files: Mapping[str, _What]) -> dict[str, _What]:
    """Return the files of a release without its records."""
    return {file: what for file, what in files.items() if file not in RECORDS}


def hash_of(store: Store, key: str, length: int) -> str | None:
    """Return the SHA-256 of an object, or None if it is missing.

    At most one byte more than the expected length is read.
    """
    digest = hashlib.sha256()
    try:
        for start in range(0, length + 1, _RANGE):
            digest.update(store.read_range(key, start, min(_RANGE, length + 1 - start)))
    except NotFound:
        return None
    return digest.hexdigest()


def require_bytes(store: Store, key: str, size: int, sha256: str) -> None:
    """Read an object and compare it with its expected size and hash.

    Raises:
        StoreError: The object is missing or differs.
    """
    found = hash_of(store, key, size)
    if found is None:
        raise StoreError(
            f"{key} is missing", hint="publish the build that was first, or withdraw the release"
        )
    if found != sha256:
        raise StoreError(
            f"{key} already exists with other content",
            hint=f"{_SECOND}, remove it, and run this again",
        )


def require_list(
    store: Store, ref: ReleaseRef, files: Files, *, replaced_by: str | None = None
) -> bool:
    """Compare a release's SHA256SUMS with its files; return False if there is none.

    Args:
        replaced_by: The channel allowed to replace a list of the same images with other records.

    Raises:
        StoreError: The list has other images, is malformed, or is signed by another channel.
        VerificationError: The list has other records.
    """
    key = sums_key(ref)
    try:
        text = store.read(key).data
    except NotFound:
        return False
    _compare(text, f"{store.url}/{key}", ref, files)
    if text != sums_text(files):
        if replaced_by is None:
            raise _forged(key, ref)
        _require_replaceable(store, replaced_by, ref)
    return True


def settle(
    store: Store,
    ring: KeyRing,
    ref: ReleaseRef,
    files: Files,
    *,
    clock: Clock,
    replace: bool = False,
) -> None:
    """Make a release's SHA256SUMS and this channel's signature match the channel's metadata.

    Args:
        files: The files in the channel's metadata, as just committed.
        replace: Replace a list of the same images with other records, unless another channel signed
            it. An interrupted publication or a pruned release leaves such a list.

    Raises:
        StoreError: The list has other images, or others keep changing it.
        VerificationError: The list has other records, and ``replace`` is False.
    """
    for _ in range(_ATTEMPTS):
        with suppress(Conflict, AlreadyExists):
            _put_list(store, ring, ref, files, replace=replace)
            _put_signature(store, ring, ref, files, clock)
            return
    key = sums_key(ref)
    raise StoreError(f"{key} is being changed by other writers all the time", hint="run it again")


def _require_replaceable(store: Store, channel: str, ref: ReleaseRef) -> None:
    """Refuse to replace a SHA256SUMS signed by another channel.

    Raises:
        StoreError: Another channel has signed it.
    """
    mine = signature_key(channel, ref)
    for status in store.list(f"{sums_key(ref)}."):
        if status.key != mine:
            raise StoreError(
                f"{ref} is published with other records, and {status.key} signs them",
                hint="promote it from where it is listed, or publish the build that was first",
            )


def _put_list(store: Store, ring: KeyRing, ref: ReleaseRef, files: Files, *, replace: bool) -> None:
    key, text = sums_key(ref), sums_text(files)
    try:
        there = store.read(key)
    except NotFound:
        store.create(key, text)
        return
    if there.data == text:
        return
    _compare(there.data, f"{store.url}/{key}", ref, files)
    if not replace:
        raise _forged(key, ref)
    _require_replaceable(store, ring.channel, ref)
    store.swap(key, text, etag=there.etag)


def _put_signature(
    store: Store, ring: KeyRing, ref: ReleaseRef, files: Files, clock: Clock
) -> None:
    """Sign the list's text, as made here, unless a good signature is there."""
    key, text = signature_key(ring.channel, ref), sums_text(files)
    about = {"appliance": ref.appliance, "release": ref.release, "channel": ring.channel}
    etag = None
    with suppress(NotFound):
        there = store.read(key)
        for public in ring.public("targets"):
            comment = verify(text, there.data, public)
            # Signatures of earlier versions have no names to compare, and are replaced.
            if comment is not None and comment.split(" ")[:3] == [
                f"{name}={value}" for name, value in about.items()
            ]:
                return
        etag = there.etag
    about["time"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(clock()))
    expires = clock() + EXPIRY_DAYS["root"] * 86400
    signature = sign(text, ring.of("targets")[0], file=SUMS, expires=expires, about=about)
    if signature is None:
        return
    if etag is None:
        store.create(key, signature)
    else:
        store.swap(key, signature, etag=etag)


def _forged(key: str, ref: ReleaseRef) -> VerificationError:
    return VerificationError(
        f"{key} is not what the signed metadata says of {ref}",
        hint=f"{_SECOND}, remove it, and run this again: it is made anew",
    )


def _compare(text: bytes, source: str, ref: ReleaseRef, files: Files) -> None:
    """Refuse a malformed list, or one with other images."""
    try:
        theirs = artifacts_of(parse_sums(text, source=source))
    except VerificationError as error:
        raise StoreError(error.message, hint="the store was changed by something else") from error
    require_same_images(ref, {name: each for name, (_, each) in files.items()}, theirs)


def require_same_images(
    ref: ReleaseRef, ours: Mapping[str, _What], theirs: Mapping[str, _What]
) -> None:
    """Refuse to publish a build over another one of the same release.

    Raises:
        StoreError: The images differ.
    """
    mine, listed = artifacts_of(ours), artifacts_of(theirs)
    if mine != listed:
        names = mine.keys() | listed.keys()
        differing = sorted(name for name in names if mine.get(name) != listed.get(name))
        raise StoreError(
            f"{ref} is published with other artifacts: {', '.join(differing)}",
            hint=(
                "a release never changes: raise the version, or find out why the same inputs "
                "gave another image"
            ),
        )
