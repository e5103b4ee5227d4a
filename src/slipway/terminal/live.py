"""Rows of running steps at the bottom of a terminal, with finished lines scrolling away above.

What goes in: a terminal, and a function for the present rows. What comes out: they are drawn four
times a second, each cut to the terminal's width. Invariants: no row is ever two lines of the
terminal. The cursor is never hidden. The rows are gone after any end. A control character in a row
is written out. Rich draws; it is imported with the first row.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from slipway.terminal.text import extent, one_line, over_it

if TYPE_CHECKING:
    from rich.console import Group
    from rich.live import Live as RichLive

__all__ = ["Live", "Row"]

_PER_SECOND = 4
_FRAMES = "|/-\\"
#: The least width of a terminal, and the columns of a bar there.
_BARS = ((100, 30), (80, 10), (0, 6))


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row: a label and its text; ``part`` of a whole, 0 to 1, is a bar."""

    label: str
    text: str
    part: float | None = None
    waiting: bool = False


class Live:
    """The rows on one stream, between :meth:`start` and :meth:`stop`."""

    def __init__(self, stream: TextIO, rows: Callable[[], Sequence[Row]]) -> None:
        self.stream = stream
        self.rows = rows
        self._turn = 0
        self._rich: RichLive | None = None
        self._aside = contextlib.ExitStack()
        #: The number of nested users of the terminal: a question, and within it a line.
        self._away = 0

    def start(self) -> None:
        """Draw from now on."""
        if self._rich is None:
            self._rich = _rich(self.stream, self._drawn)
            self._aside.enter_context(over_it(self._standing_aside))
            self._rich.start()

    def stop(self) -> None:
        """Take the rows away, and draw no more."""
        rich, self._rich = self._rich, None
        if rich is not None:
            self._aside.close()
            rich.stop()

    def print(self, text: str) -> bool:
        """Write whole lines above the rows; without rows, write nothing and return False."""
        if self._rich is None:
            return False
        from rich.text import Text

        self._rich.console.print(Text(text), soft_wrap=True)
        return True

    @contextlib.contextmanager
    def _standing_aside(self) -> Iterator[None]:
        """Leave the terminal to another user while the block runs."""
        rich = self._rich
        if rich is not None and not self._away:
            rich.stop()
        self._away += 1
        try:
            yield
        finally:
            self._away -= 1
            if rich is not None and rich is self._rich and not self._away:
                # A new one: the old one would erase the text now in the place of its rows.
                self._rich = _rich(self.stream, self._drawn)
                self._rich.start()

    def _drawn(self) -> Group:
        """Return the rows as Rich draws them, no more than the terminal has lines for."""
        from rich.console import Group

        self._turn += 1
        columns, lines = extent(self.stream)
        rows = list(self.rows())[: max(1, lines - 2)]
        return Group(*(self._row(row, columns) for row in rows))

    def _row(self, row: Row, width: int) -> Any:
        from rich.text import Text

        mark = " " if row.waiting else _FRAMES[self._turn % len(_FRAMES)]
        line = Text(
            f"{mark} ", no_wrap=True, overflow="ellipsis", style="dim" if row.waiting else ""
        )
        line.append(one_line(f"{row.label:<18} "), style="" if row.waiting else "bold")
        if row.part is not None:
            bar = next(columns for least, columns in _BARS if width >= least)
            full = int(bar * min(1.0, max(0.0, row.part)))
            line.append("#" * full, style="green")
            line.append("." * (bar - full) + " ", style="dim")
        line.append(one_line(row.text))
        # The last column stays free: some terminals go to the next line when it is written.
        line.truncate(width - 1, overflow="ellipsis")
        return line


def _rich(stream: TextIO, draw: Callable[[], Group]) -> RichLive:
    """Return Rich's live display on a terminal."""
    from rich.console import Console, ConsoleDimensions
    from rich.live import Live as RichLive

    class Terminal(Console):
        """A console of this stream's size. Its cursor stays visible, even after a kill."""

        @property  # type: ignore[misc]
        def size(self) -> ConsoleDimensions:
            return ConsoleDimensions(*extent(stream))

        def show_cursor(self, show: bool = True) -> bool:
            return False

    heeded = {"TERM": os.environ.get("TERM", ""), "NO_COLOR": os.environ.get("NO_COLOR", "")}
    console = Terminal(
        file=stream,
        force_terminal=True,
        markup=False,
        emoji=False,
        highlight=False,
        _environ=heeded,
    )
    return RichLive(
        get_renderable=draw,
        console=console,
        refresh_per_second=_PER_SECOND,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
