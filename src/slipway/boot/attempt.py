"""Run one try of a check on this host, until it ends or its time is up.

What goes in: a command, a log, and a time limit. The limit is read again during the run, because
the host may get other work meanwhile. What comes out: the exit status, or None if the time was up.

Invariants: a Python program cut off by the limit writes its stack to the log. No process of the
program is left running.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from slipway.host import process

__all__ = ["KIT", "PYTHON", "attempt"]

#: The command to run a check in Python. Its output is in the log at once, and a signal makes it
#: write its stack. It finds slipway_check beside itself, and nothing by its environment.
PYTHON: Final = (sys.executable, "-E", "-s", "-u", "-X", "faulthandler")
#: The module for checks to import.
KIT: Final = Path(__file__).with_name("slipway_check.py")
#: The interval between two calls for the limit, and the time for a program to write its stack, in
#: seconds.
_ASK_S: Final = 5.0
_SAY_S: Final = 2.0


def attempt(
    argv: Sequence[str | Path],
    environment: Mapping[str, str],
    log: Path,
    *,
    limit_s: Callable[[], float],
) -> int | None:
    """Run a program until it ends or its time is up.

    Args:
        log: The file to append the output to.
        limit_s: The time limit, in seconds from the start. It is called every few seconds, and the
            longest answer counts.

    Returns:
        The exit status, negative for a signal; None if the time was up.
    """
    with (
        log.open("ab") as sink,
        process.spawn(argv, env=environment, stdout=sink, stderr=sink) as program,
    ):
        begun, most = time.monotonic(), 0.0
        while True:
            most = max(most, limit_s())
            left_s = begun + most - time.monotonic()
            if left_s <= 0:
                process.abort(program, patience_s=_SAY_S)
                return None
            with contextlib.suppress(subprocess.TimeoutExpired):
                return program.wait(min(left_s, _ASK_S))
