"""What a program writes to a terminal -> what stands there: the few sequences that Slipway uses.

What goes in: text, in pieces. What comes out: the lines of the screen. Invariant: whatever is not
known here, hides the cursor or runs over the right edge is an error, so a test sees it.
"""

from __future__ import annotations

import fcntl
import os
import re
import struct
import termios
import threading
from dataclasses import dataclass, field
from typing import Self, TextIO

__all__ = ["Screen", "Terminal"]

_SEQUENCE = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])")


@dataclass
class Screen:
    """A terminal that scrolls without end; ``seen`` are all of its states."""

    columns: int
    lines: list[str] = field(default_factory=lambda: [""])
    seen: list[str] = field(default_factory=list)
    row: int = 0
    column: int = 0

    @property
    def text(self) -> str:
        """What stands there."""
        return "\n".join(line.rstrip() for line in self.lines).rstrip("\n")

    def feed(self, text: str) -> None:
        """Take what was written."""
        at = 0
        while at < len(text):
            found = _SEQUENCE.match(text, at)
            if found:
                self._obey(found[1], found[2])
                at = found.end()
                continue
            self._put(text[at])
            at += 1
        self.seen.append(self.text)

    def _put(self, character: str) -> None:
        if character == "\r":
            self.column = 0
        elif character == "\n":
            self.row += 1
            if self.row == len(self.lines):
                self.lines.append("")
        else:
            assert character >= " " and character != "\x7f", f"a control character: {character!a}"
            assert self.column < self.columns, f"a line is broken: {self.lines[self.row]}"
            line = self.lines[self.row].ljust(self.column)
            self.lines[self.row] = line[: self.column] + character + line[self.column + 1 :]
            self.column += 1

    def _obey(self, words: str, what: str) -> None:
        if what == "m":
            return
        if what == "A":
            self.row = max(0, self.row - int(words or 1))
        elif what == "K" and words == "2":
            self.lines[self.row] = ""
        else:
            raise AssertionError(f"an unknown sequence: {words}{what}")


class Terminal:
    """A context manager: ``stream`` is a terminal, and ``screen`` what stands on it."""

    def __init__(self, columns: int = 80, lines: int = 24) -> None:
        self.screen = Screen(columns)
        self.raw = ""
        self._master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.stream: TextIO = os.fdopen(slave, "w", encoding="utf-8", errors="backslashreplace")
        self._reader = threading.Thread(target=self._read)

    def __enter__(self) -> Self:
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.close()
        self._reader.join()
        os.close(self._master)
        self.screen.feed(self.raw)

    def _read(self) -> None:
        pieces = b""
        while True:
            try:
                data = os.read(self._master, 1 << 16)
            except OSError:  # nobody has the other end any more
                break
            if not data:
                break
            pieces += data
        self.raw = pieces.decode()
