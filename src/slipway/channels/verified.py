"""Read records of a release from a store, and compare them with signed metadata.

Input: sizes and hashes by file, from verified metadata. Output: the very bytes listed there.
Invariant: only published bytes are returned.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from slipway.channels.layout import target_key
from slipway.channels.shelf import MAX_RECORD
from slipway.errors import VerificationError
from slipway.records.manifest import Manifest, read_manifest
from slipway.records.reference import ReleaseRef
from slipway.records.release import MANIFEST
from slipway.stores import Store

__all__ = ["manifest_of", "read_record"]


def read_record(
    store: Store, ref: ReleaseRef, file: str, files: Mapping[str, tuple[int, str]]
) -> bytes:
    """Read a file of a release that is no image.

    Raises:
        VerificationError: The file is not listed, too large, or tampered.
        NotFound: The store does not have the file.
    """
    if file not in files:
        raise VerificationError(f"{ref} lists no {file}", hint="run: invoke verify")
    size, sha256 = files[file]
    key = target_key(ref, file, sha256)
    if size > MAX_RECORD:
        raise VerificationError(f"{key} is larger than {MAX_RECORD} bytes")
    data = store.read_range(key, 0, size + 1)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise VerificationError(
            f"{key} is not what was published",
            hint="the store was changed by something else; run: invoke verify",
        )
    return data


def manifest_of(store: Store, ref: ReleaseRef, files: Mapping[str, tuple[int, str]]) -> Manifest:
    """Read a release's manifest.

    Raises:
        VerificationError: The manifest is tampered, or about another release.
        NotFound: The store does not have the manifest.
    """
    text = read_record(store, ref, MANIFEST, files)
    return read_manifest(text, source=target_key(ref, MANIFEST, files[MANIFEST][1]), of=ref)
