"""The results of a guest's checks, as runner.sh reports them over a virtio-serial port.

What goes in: a machine that runs, the file that the port writes to, its console. What comes out: a
:class:`~slipway.boot.report.CheckResult` for each check as it ends, or :class:`Died`. Nothing here waits forever.
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Iterator
from pathlib import Path

from slipway.boot.machine import Running
from slipway.boot.report import CheckResult

__all__ = ["Died", "follow"]

_CRASH = re.compile(rb"Kernel panic|Oops:|BUG: unable to handle|end Kernel|mas_empty_area")


class Died(Exception):
    """The guest never came to its checks, or was gone before they ended."""


def follow(guest: Running, results: Path, console: Path, *, start_s: float, check_s: float) -> Iterator[CheckResult]:
    """The results of the guest's checks, as it reports them, until it says that it is done.

    Args:
        results: The file that its virtio-serial port writes to.
        console: Its console, which tells of a kernel that crashed.
        start_s: How long it may take to be heard of.
        check_s: How long it may be silent after that.

    Raises:
        Died: It is gone, or is silent for too long.
    """
    patience, heard = start_s, time.monotonic()
    running_checks = False
    for line in _lines(results):
        if line is None:
            if guest.ended is not None:
                raise Died(f"QEMU ended with status {guest.ended}")
            if not running_checks and _CRASH.search(console.read_bytes() if console.exists() else b""):
                raise Died("its kernel crashed")
            if time.monotonic() - heard > patience:
                raise Died(f"nothing was heard of it for {patience:.0f} s")
            time.sleep(0.1)
            continue
        words = line.split(" ")
        running_checks, patience, heard = True, check_s, time.monotonic()
        if words[0] == "check" and len(words) == 6:
            _, name, outcome, attempts, hundredths, output = words
            yield CheckResult(
                name=name,
                place="guest",
                outcome=outcome.replace("-", " "),
                duration_s=int(hundredths) / 100,
                attempts=int(attempts),
                output=base64.b64decode(output).decode(errors="replace"),
            )
        elif words[0] == "finished":
            return


def _lines(file: Path) -> Iterator[str | None]:
    """The whole lines of a file that grows; None whenever there is none yet."""
    rest = ""
    with file.open(encoding="utf-8", errors="replace") as reader:
        while True:
            text = reader.read()
            *lines, rest = (rest + text).split("\n")
            yield from lines
            if not text:
                yield None
