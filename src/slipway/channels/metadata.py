"""Read slipway's own field ``x-slipway`` of TUF metadata, and check who signed metadata.

Invariant: nothing here trusts its input. A field of another type counts as missing.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from tuf.api.metadata import Metadata, Root, Snapshot

__all__ = ["CUSTOM", "Previous", "identity", "is_signed", "previous_of"]

CUSTOM: Final = "x-slipway"


@dataclass(frozen=True, slots=True, kw_only=True)
class Previous:
    """The snapshot replaced by another one.

    Attributes:
        number: Its number, 0 for none.
        sha256: Its :func:`identity`, if known.
    """

    number: int
    sha256: str | None


def previous_of(snapshot: Metadata[Snapshot]) -> Previous:
    """Return the snapshot that this one replaced, by its own field."""
    own = snapshot.signed.unrecognized_fields.get(CUSTOM)
    own = own if isinstance(own, dict) else {}
    number, sha256 = own.get("previous"), own.get("sha256")
    return Previous(
        number=number if type(number) is int and number > 0 else 0,
        sha256=sha256 if isinstance(sha256, str) else None,
    )


def identity(metadata: Metadata[Any]) -> str:
    """Return the SHA-256 of the signed part in canonical form: signatures do not change it.

    Metadata without a canonical form has no identity, only an empty text.
    """
    from tuf.api.serialization import SerializationError

    try:
        return hashlib.sha256(metadata.signed_bytes).hexdigest()
    except SerializationError:
        return ""


def is_signed(root: Metadata[Root], role: str, metadata: Metadata[Any]) -> bool:
    """Return True if enough of a role's keys have signed its metadata."""
    from tuf.api.exceptions import RepositoryError

    try:
        root.signed.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
    except (RepositoryError, ValueError):
        return False
    return True
