"""A channel's state, as a publisher remembers it and a bundle of keys carries it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

__all__ = ["Seen", "newer", "seen_from"]


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


def newer(one: Seen, other: Seen) -> Seen:
    """Return the newer of two states of one channel, with the higher number of their roots.

    Raises:
        ValueError: They are two states of one number: the channel's keys have signed both.
    """
    if one.timestamp == other.timestamp and one.sha256 != other.sha256:
        raise ValueError(f"two states of version {one.timestamp} are known")
    latest = max(one, other, key=lambda state: state.timestamp)
    return replace(latest, root=max(one.root, other.root))
