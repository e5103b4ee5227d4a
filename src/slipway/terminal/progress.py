"""The lines of progress: one for each step, with its time; the same lines in a pipe.

On a terminal (:mod:`slipway.terminal.live`) the lines are followed by the steps under way and those
to come, with their usual durations. In a GitHub workflow groups of lines are folded. Everything
goes to one stream, standard error by default, so that standard output stays free for results.
"""

from __future__ import annotations

import contextlib
import os
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TextIO

from slipway.terminal.durations import Durations
from slipway.terminal.live import Live, Row
from slipway.terminal.text import extent, is_capable, one_line, plain, shown

__all__ = ["Expected", "Progress", "Step", "clock", "seconds", "size"]

#: A pipe is told the usual duration of steps from this one on, in seconds.
_LONG_S: Final = 60.0
#: The columns of a step's label, with the spaces around it.
_BESIDE: Final = 21
#: The weight of the last second in a transfer's rate.
_FRESH: Final = 0.3


def size(count: float) -> str:
    """Format a number of bytes for people, in the powers of 1024 that disk tools use."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError


def seconds(duration_s: float) -> str:
    """Format a duration for people."""
    if duration_s < 60:
        return f"{duration_s:.1f} s"
    return f"{int(duration_s) // 60} min {int(duration_s) % 60:02d} s"


def clock(duration_s: float) -> str:
    """Format a running duration: 0:07, 12:40, 1:02:03."""
    minutes, rest = divmod(int(duration_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """A step to come: its label, its key in the record of durations, and its usual one."""

    label: str
    key: str
    usual_s: float | None


class Step:
    """One step under way; its detail is shown beside its name when it ends.

    Attributes:
        usual_s: Its usual duration here, in seconds; None if unknown.
        measure: Counts the bytes done, if nobody reports them.
    """

    def __init__(self, label: str, *, usual_s: float | None = None) -> None:
        self.label = label
        self.detail = ""
        self.started = time.monotonic()
        self.usual_s = usual_s
        self.measure: Callable[[], int] | None = None
        self.tell: Callable[[str], None] = lambda text: None
        self._done, self._total = 0, 0
        self._begun: tuple[float, int] | None = None
        self._rate, self._looked = 0.0, (self.started, 0)

    def transferred(self, done: int, total: int) -> None:
        """Set the number of bytes done, and the total; a total of 0 is unknown."""
        if self._begun is None:  # bytes left by an interrupted run are no work of this one
            self._begun = self._looked = (time.monotonic(), done)
        self._done, self._total = done, total

    def watch(self, folder: Path, total: int) -> None:
        """Count the bytes of the files downloaded into a folder by another program.

        Args:
            total: The number of bytes to come, 0 if unknown.
        """
        self.transferred(0, total)
        self.measure = lambda: max(self._done, _bytes_in(folder))

    @property
    def transfer(self) -> str:
        """The transferred bytes, and their rate."""
        since, before = self._begun or (self.started, 0)
        took = time.monotonic() - since
        moved = self._total - before
        return (
            f"{size(self._total)}, {size(moved / took)}/s" if took and moved else size(self._total)
        )

    def row(self, now: float) -> Row:
        """Return the step's row at a time of the monotonic clock."""
        took = now - self.started
        if self.measure is not None:
            with contextlib.suppress(OSError):
                self._done = self.measure()
        if self._total:
            return Row(label=self.label, text=self._transfer(now), part=self._done / self._total)
        text = clock(took)
        if self.usual_s is not None:
            late = took > self.usual_s
            text += (
                f", usually {clock(self.usual_s)}" if late else f" of about {clock(self.usual_s)}"
            )
        return Row(label=self.label, text=f"{text}, {self.detail}" if self.detail else text)

    def _transfer(self, now: float) -> str:
        since, before = self._looked
        if now - since >= 1.0:
            latest = max(0, self._done - before) / (now - since)
            self._rate = latest if not self._rate else (1 - _FRESH) * self._rate + _FRESH * latest
            self._looked = (now, self._done)
        (done, unit), (total, same) = size(self._done).split(), size(self._total).split()
        text = f"{done} {unit} of {total} {same}" if unit != same else f"{done} of {total} {same}"
        if self._rate:
            left = clock(max(0, self._total - self._done) / self._rate)
            text += f", {size(self._rate)}/s, {left} left"
        return text


class Progress:
    """Lines on a stream; on a terminal, the steps under way below them.

    Args:
        quiet: Show nothing.
        verbose: Show the lines of :meth:`more`, too.
    """

    def __init__(
        self, stream: TextIO | None = None, *, quiet: bool = False, verbose: bool = False
    ) -> None:
        self.stream = stream if stream is not None else sys.stderr
        self.quiet = quiet
        self.verbose = verbose and not quiet
        self._durations = Durations()
        self.live = not quiet and is_capable(self.stream)
        self._lock = threading.RLock()
        self._steps: list[Step] = []
        self._coming: dict[str, Expected] = {}
        #: The durations of the current group's steps, in seconds, by label.
        self.took: dict[str, float] = {}
        self._view = Live(self.stream, self._rows)

    def line(self, text: str = "") -> None:
        """Print a line; on a terminal a long one is broken between words."""
        if self.quiet:
            return
        with self._lock:
            safe = shown(self._fitted(text), self.stream)
            if not self._view.print(safe):
                self.stream.write(safe + "\n")
                self.stream.flush()

    def more(self, text: str) -> None:
        """Print a line if ``verbose``."""
        if self.verbose:
            self.line(f"    {text}")

    def note(self, label: str, text: str) -> None:
        """Print a step's line for something done in no time, such as a find in the cache."""
        self._coming.pop(label, None)
        room = max(12, extent(self.stream).columns - _BESIDE - 1)
        first, *rest = (textwrap.wrap(plain(text), room) if self.live else [text]) or [""]
        lines = [f"  {label:<18} {first}".rstrip(), *(" " * _BESIDE + each for each in rest)]
        self.line("\n".join(lines))

    @contextmanager
    def step(self, label: str) -> Iterator[Step]:
        """Show a step while the block runs, then its line: label, detail, time."""
        expected = self._coming.get(label)
        step = Step(label, usual_s=expected.usual_s if expected else None)
        step.tell = self.more
        self._begin(step)
        outcome = "failed"
        try:
            yield step
            outcome = ""
        except KeyboardInterrupt:
            outcome = "interrupted"
            raise
        finally:
            took_s = time.monotonic() - step.started
            self._end(step, self._columns(step.label, outcome or step.detail, seconds(took_s)))
        if expected and step.detail != "from the cache":
            self._durations.add(expected.key, took_s)

    @contextmanager
    def expecting(self, steps: Sequence[Expected], durations: Durations) -> Iterator[None]:
        """Announce the steps to come while the block runs, and record the duration of each."""
        before = self._coming, self._durations
        self._coming, self._durations = {each.label: each for each in steps}, durations
        try:
            yield
        finally:
            self._coming, self._durations = before

    @contextmanager
    def group(self, title: str) -> Iterator[None]:
        """Print a title above the lines of the block.

        In a GitHub workflow they are folded under it.
        """
        self.took.clear()
        folded = bool(os.environ.get("GITHUB_ACTIONS")) and not self.quiet
        if not folded:
            self.line(title)
            yield
            return
        # The runner reads %0A as a line feed: a per cent sign of others is none of its escapes.
        self._command(f"::group::{one_line(title).replace('%', '%25')}")
        try:
            yield
        finally:
            self._command("::endgroup::")

    def _command(self, line: str) -> None:
        """Write a command to the workflow's runner; foreign text in it must be escaped."""
        with self._lock:
            self.stream.write(line + "\n")
            self.stream.flush()

    def _begin(self, step: Step) -> None:
        with self._lock:
            self._steps.append(step)
            if self.live:
                self._view.start()
        if not self.live and step.usual_s is not None and step.usual_s >= _LONG_S:
            self.line(f"  {step.label:<18} begins; it usually takes {seconds(step.usual_s)} here")

    def _end(self, step: Step, line: str) -> None:
        with self._lock:
            self._steps.remove(step)
            self.took[step.label] = self.took.get(step.label, 0.0) + time.monotonic() - step.started
            self._coming.pop(step.label, None)
            if not self._steps:
                self._view.stop()
            self.line(line)

    def _rows(self) -> list[Row]:
        """Return the rows of steps under way and to come.

        Takes no lock: the drawing thread has another.
        """
        now = time.monotonic()
        steps, coming = list(self._steps), dict(self._coming)
        under_way = {step.label for step in steps}
        waiting = [each for label, each in coming.items() if label not in under_way]
        return [*(step.row(now) for step in steps), *map(_to_come, waiting)]

    def _columns(self, label: str, detail: str, took: str) -> str:
        """Format a finished step's line.

        On a narrow terminal its detail has less room; the time is always in its first line.
        """
        room = max(12, min(44, extent(self.stream).columns - 33)) if self.live else 44
        if not self.live or len(detail) <= room:
            return f"  {label:<18} {detail:<{room}} {took:>10}".rstrip()
        first, *rest = textwrap.wrap(plain(detail), room) or [""]
        lines = [f"  {label:<18} {first:<{room}} {took:>10}"]
        lines += [" " * _BESIDE + each for each in rest]
        return "\n".join(lines)

    def _fitted(self, text: str) -> str:
        """Break the lines of a text between words to fit the terminal; a pipe gets it as it is."""
        columns = extent(self.stream).columns - 1
        if not self.live or all(len(line) <= columns for line in text.split("\n")):
            return text
        return "\n".join(_broken(line, columns) for line in text.split("\n"))


def _bytes_in(folder: Path) -> int:
    """Return the bytes of a folder's files; files that come and go meanwhile may count or not."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        return sum(entry.stat(follow_symlinks=False).st_size for entry in entries)
    return 0


def _broken(line: str, columns: int) -> str:
    """Break a line into several, the later ones indented.

    A word without a space, such as a path, stays whole.
    """
    if len(line) <= columns:
        return line
    indent = " " * (len(line) - len(line.lstrip()))
    wrapped = textwrap.wrap(
        line.strip(),
        columns,
        initial_indent=indent,
        subsequent_indent=f"{indent}  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(wrapped)


def _to_come(expected: Expected) -> Row:
    about = "to come" if expected.usual_s is None else f"to come, about {clock(expected.usual_s)}"
    return Row(label=expected.label, text=about, waiting=True)
