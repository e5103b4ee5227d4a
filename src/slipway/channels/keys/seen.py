"""A channel's state as a publisher remembers it, and as a bundle of keys carries it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

__all__ = ["Seen", "seen_from"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A channel's state: the numbers of its root, timestamp and snapshot, the snapshot's SHA-256,
    and when it was seen.

    The hash is that of the signed part in canonical form. ``time`` is in seconds since 1970, and
    ``highest`` the highest number of a list that the snapshot names.
    """

    root: int
    timestamp: int
    snapshot: int
    sha256: str
    time: int
    highest: int = 0


def seen_from(record: Mapping[str, Any]) -> Seen:
    """Return the state that a JSON object describes.

    Raises:
        TypeError: A key is missing or unknown, or a value has another type.
    """
    seen = Seen(**record)
    for each in fields(seen):
        wanted = str if each.name == "sha256" else int
        if type(getattr(seen, each.name)) is not wanted:
            raise TypeError(f"{each.name} is no {wanted.__name__}")
    return seen
