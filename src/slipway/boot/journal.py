"""A machine whose checks failed -> its journal, beside the logs of its checks.

What goes in: the words that log in to the machine as root. What comes out: the newest
:data:`LINES` lines of all its starts, as ``journalctl --output=short-precise`` writes them
(journalctl(1)). A machine that lets nobody in, or no longer answers, leaves no file: the console
says what it came to.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from slipway.boot.attempt import attempt

__all__ = ["LINES", "keep"]

#: How many lines are kept.
LINES: Final = 20_000
_COMMAND: Final = f"journalctl --no-pager --output=short-precise --lines={LINES}"


def keep(login: Sequence[str | Path], file: Path, *, limit_s: float) -> bool:
    """Write a machine's journal into a file, and return whether there is one.

    Args:
        login: Runs the command of a shell that follows it on the machine, as root.
        limit_s: How long that may take, in seconds.
    """
    partial = file.with_name(f"{file.name}.part")
    try:
        kept = attempt([*login, _COMMAND], {}, partial, limit_s=lambda: limit_s) == 0
        if kept:
            partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
    return kept
