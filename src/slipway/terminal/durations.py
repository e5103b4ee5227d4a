"""Past durations of work on this machine -> its usual duration.

What goes in: seconds by key, as work ends well. What comes out: the median of the last runs of a
key. Invariants: the record is a convenience, so nothing here fails. A missing or damaged record
counts as none, and a failed write is ignored. A reader sees the old record or the new one; it stays
small.
"""

from __future__ import annotations

import contextlib
import json
import math
import statistics
import threading
from pathlib import Path
from typing import Final

from slipway.cache import create_file
from slipway.errors import UserError
from slipway.host.ownership import make_private

__all__ = ["Durations"]

#: How many runs of a key count, how many keys are kept, and how long a key may be.
_RUNS: Final = 5
_KEYS: Final = 1000
_KEY_LENGTH: Final = 200
#: A longer record, in bytes, was not written here.
_BYTES: Final = 1 << 19
#: Nothing takes longer than a month.
_LONGEST_S: Final = 31 * 86400.0


class Durations:
    """The record in one file; without a file, nothing is known and nothing kept."""

    def __init__(self, file: Path | None = None) -> None:
        self.file = file
        self._guard = threading.Lock()

    def usual_s(self, key: str) -> float | None:
        """Return the usual duration of a key's work, in seconds; None if unknown."""
        runs = self._read().get(key)
        return statistics.median(runs) if runs else None

    def add(self, key: str, took_s: float) -> None:
        """Record the duration of a key's work; forget its oldest run and the oldest keys.

        Of two processes that end at once, one may lose its run.
        """
        if self.file is None or len(key) > _KEY_LENGTH or not _is_duration(took_s):
            return
        with self._guard, contextlib.suppress(OSError, UserError):
            known = self._read()
            runs = [*known.pop(key, []), round(took_s, 1)][-_RUNS:]
            kept = dict([*known.items(), (key, runs)][-_KEYS:])
            make_private(self.file.parent)
            with create_file(self.file, mode=0o600, lasting=False) as file:
                file.write(json.dumps(kept, indent=0).encode())

    def _read(self) -> dict[str, list[float]]:
        """Return the runs by key, the last used one at the end."""
        if self.file is None:
            return {}
        try:
            with self.file.open("rb") as file:
                text = file.read(_BYTES + 1)
            found = json.loads(text) if len(text) <= _BYTES else {}
        except (OSError, ValueError, RecursionError):
            return {}
        if not isinstance(found, dict):
            return {}
        return {key: runs for key, runs in found.items() if _are_runs(runs)}


def _are_runs(runs: object) -> bool:
    return isinstance(runs, list) and 0 < len(runs) <= _RUNS and all(map(_is_duration, runs))


def _is_duration(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, float | int):
        return False
    return math.isfinite(value) and 0 <= value <= _LONGEST_S
