"""A channel's state, as a publisher remembers it and a bundle of keys carries it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

__all__ = ["Seen", "seen_from"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A channel's state: the numbers of its root, timestamp and snapshot, and more.

    Attributes:
        sha256: The SHA-256 of the snapshot's signed part in canonical form.
        time: The time it was seen, in seconds since 1970.
        highest: The highest number of a list that the snapshot names.
    """

    root: int
    timestamp: int
    snapshot: int
    sha256: str
    time: int
    highest: int = 0


def seen_from(record: Mapping[str, Any]) -> Seen:
    """Return the state in a JSON object.

    Raises:
        TypeError: A key is missing or unknown, or a value has another type.
    """
    seen = Seen(**record)
    for each in fields(seen):
        wanted = str if each.name == "sha256" else int
        if type(getattr(seen, each.name)) is not wanted:
            raise TypeError(f"{each.name} is no {wanted.__name__}")
    return seen
