"""Keep the journal of a machine whose checks failed, beside the logs of its checks.

What goes in: the command to log in to the machine as root. What comes out: the newest :data:`LINES`
lines of all its starts, in the format of ``journalctl --output=short-precise`` (journalctl(1)). If
the machine refuses the login, does not answer, or says more than this host keeps, there is no file.
The console then shows its last state.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from slipway.boot.attempt import attempt

__all__ = ["LINES", "keep"]

#: How many lines are kept.
LINES: Final = 20_000
#: The machine decides what it sends; the largest file that is taken, in bytes (setrlimit(2)).
_LIMIT: Final = ("prlimit", f"--fsize={64 << 20}", "--core=0", "--")
_COMMAND: Final = f"journalctl --no-pager --output=short-precise --lines={LINES}"


def keep(login: Sequence[str | Path], file: Path, *, limit_s: float) -> bool:
    """Write a machine's journal to a file; return True if it worked.

    Args:
        login: The command to log in as root; a shell command for the machine follows it.
        limit_s: The time limit, in seconds.
    """
    partial = file.with_name(f"{file.name}.part")
    try:
        kept = attempt([*_LIMIT, *login, _COMMAND], {}, partial, limit_s=lambda: limit_s) == 0
        if kept:
            partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
    return kept
