"""What a person sees while it works: one line a step, with its time; the same lines, and nothing
else, in a pipe.

On a terminal the step under way is shown with its running time and replaced by its result; in a
GitHub workflow the details of a step are folded. Everything goes to one stream, standard error by
default, so that standard output stays free for results.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from slipway.terminal import one_line, shown

__all__ = ["Progress", "Step", "seconds", "size"]


def size(count: float) -> str:
    """A number of bytes for people, in the powers of 1024 that disk tools use."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError


def seconds(duration_s: float) -> str:
    """A duration for people."""
    return (
        f"{duration_s:.1f} s"
        if duration_s < 60
        else f"{int(duration_s) // 60} min {int(duration_s) % 60:02d} s"
    )


class Step:
    """One step under way; what it found out is shown beside its name when it ends."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.detail = ""
        self.started = time.monotonic()


class Progress:
    """Lines on a stream; the steps under way share the last one."""

    def __init__(self, stream: TextIO | None = None, *, quiet: bool = False) -> None:
        self.stream = stream if stream is not None else sys.stderr
        self.quiet = quiet
        self.live = not quiet and self.stream.isatty() and os.environ.get("TERM") != "dumb"
        self._lock = threading.RLock()
        self._steps: list[Step] = []
        self._ticking: threading.Thread | None = None

    def line(self, text: str = "") -> None:
        """Print a line."""
        if self.quiet:
            return
        with self._lock:
            self._erase()
            self.stream.write(shown(text, self.stream) + "\n")
            self.stream.flush()

    @contextmanager
    def step(self, label: str) -> Iterator[Step]:
        """Show a step while the block runs, then its line: label, detail, time."""
        step = Step(label)
        with self._lock:
            self._steps.append(step)
        self._tick()
        outcome = "failed"
        try:
            yield step
            outcome = ""
        except KeyboardInterrupt:
            outcome = "interrupted"
            raise
        finally:
            with self._lock:
                self._steps.remove(step)
            took = seconds(time.monotonic() - step.started)
            self.line(f"  {step.label:<18} {outcome or step.detail:<44} {took:>10}".rstrip())

    def note(self, label: str, text: str) -> None:
        """A step's line for something that took no time, such as what was found in the cache."""
        self.line(f"  {label:<18} {text}".rstrip())

    def _erase(self) -> None:
        if self.live:
            self.stream.write("\r\x1b[K")

    def _tick(self) -> None:
        if self.live and self._ticking is None:
            self._ticking = threading.Thread(target=self._show, daemon=True)
            self._ticking.start()

    def _show(self) -> None:
        frames = "|/-\\"
        turn = 0
        while True:
            with self._lock:
                if not self._steps:
                    self._ticking = None
                    return
                now = time.monotonic()
                under_way = [
                    f"{step.label} {step.detail}".rstrip() + f" {seconds(now - step.started)}"
                    for step in self._steps
                ]
                text = f"{frames[turn % 4]} {' | '.join(under_way)}"
                columns = shutil.get_terminal_size().columns
                self._erase()
                self.stream.write(one_line(text)[: columns - 1])
                self.stream.flush()
            turn += 1
            time.sleep(0.1)
