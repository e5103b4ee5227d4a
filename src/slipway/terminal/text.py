"""Text of others -> harmless text for a terminal, a workflow's log or a job's summary.

What goes in: the output of commands, with texts of specs, packages, metadata and guests in it. What
comes out: the same without control characters. In a GitHub workflow no line is a command to the
runner. In the job's summary the text is a Markdown code block. Invariants: plain text comes out as
it went in, and cleaning is idempotent.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import sys
import traceback
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, TextIO

from slipway.errors import UserError

__all__ = [
    "Screen",
    "aside",
    "extent",
    "is_capable",
    "one_line",
    "over_it",
    "plain",
    "report",
    "screened",
    "shown",
]

#: Control characters, invisible ones (bidi overrides, zero width), halves of pairs, separators of
#: lines.
_ESCAPED: Final = {"Cc", "Cf", "Cs", "Zl", "Zp"}
#: Commands to the runner: ``::name::`` at the start of a line, the older ``##[name]`` anywhere.
_COMMAND: Final = re.compile(r"^(\s*):(?=:)|##(?=\[|vso\[)", re.MULTILINE)

#: How the drawers on the terminal stand aside for a line of standard output.
_OVER_IT: Final[list[Callable[[], AbstractContextManager[None]]]] = []


def is_capable(stream: TextIO) -> bool:
    """Return True for a terminal with lines that can be overwritten."""
    return stream.isatty() and os.environ.get("TERM", "dumb") not in ("", "dumb", "unknown")


def extent(stream: TextIO) -> os.terminal_size:
    """Return the columns and lines of a terminal.

    If they are unknown, take them as shells do.
    """
    with contextlib.suppress(OSError, ValueError):
        found = os.get_terminal_size(stream.fileno())
        if found.columns and found.lines:
            return found
    return shutil.get_terminal_size()


@contextlib.contextmanager
def over_it(standing_aside: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
    """Register a drawer on the terminal for the block; it stands aside for standard output."""
    _OVER_IT.append(standing_aside)
    try:
        yield
    finally:
        _OVER_IT.remove(standing_aside)


@contextlib.contextmanager
def aside() -> Iterator[None]:
    """Hold the terminal for a line, a question or a shell while the block runs."""
    with contextlib.ExitStack() as stack:
        for standing_aside in list(_OVER_IT):
            stack.enter_context(standing_aside())
        yield


def plain(text: str) -> str:
    """Write out the control characters of a text (``\\x1b``); line feeds and tabs stay."""
    return text if text.isprintable() else "".join(_visible(each) for each in text)


def one_line(text: object) -> str:
    """Write out control characters as :func:`plain` does, and line feeds and tabs too."""
    return plain(str(text)).replace("\n", "\\n").replace("\t", "\\t")


def shown(text: str, stream: TextIO) -> str:
    """Make whole lines safe for a stream."""
    text = plain(text)
    if os.environ.get("GITHUB_ACTIONS"):
        text = _COMMAND.sub(
            lambda found: f"{found[1]}\\:" if found[1] is not None else "#\\#", text
        )
    if _is_summary(stream):
        # Nothing in an indented code block is Markdown or HTML, and no text ends it (CommonMark
        # 4.4).
        text = "".join(f"    {line}" for line in text.splitlines(keepends=True))
    return text


def _visible(character: str) -> str:
    if character in "\n\t" or unicodedata.category(character) not in _ESCAPED:
        return character
    return character.encode("unicode_escape").decode()


def _is_summary(stream: TextIO) -> bool:
    """Return True for a stream into the file of the GitHub job's summary."""
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    try:
        return bool(path) and os.path.samestat(Path(path or "").stat(), os.fstat(stream.fileno()))
    except (OSError, ValueError):
        return False


class Screen(io.TextIOBase):
    """A stream in front of another one; it passes on whole lines, as :func:`shown`."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self._line = ""
        self._begun = False

    def write(self, text: str) -> int:
        """Take text, and pass on the whole lines."""
        lines, feed, self._line = (self._line + text).rpartition("\n")
        if feed:
            self._pass_on(lines + feed)
        return len(text)

    def flush(self) -> None:
        """Pass on the rest."""
        rest, self._line = self._line, ""
        if rest:
            self._pass_on(rest)
        self.stream.flush()

    def _pass_on(self, text: str) -> None:
        if not self._begun and _is_summary(self.stream):
            self.stream.write("\n")  # a code block cannot follow a paragraph without an empty line
        self._begun = True
        with aside() if self.stream.isatty() else contextlib.nullcontext():
            self.stream.write(shown(text, self.stream))

    def fileno(self) -> int:
        """Return the other stream's descriptor."""
        return self.stream.fileno()

    def isatty(self) -> bool:
        """Return True if the other stream is a terminal."""
        return self.stream.isatty()

    def writable(self) -> bool:
        """Return True."""
        return True

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextlib.contextmanager
def screened() -> Iterator[None]:
    """Keep a :class:`Screen` in front of standard output while the block runs."""
    before = sys.stdout
    screen = Screen(before)
    sys.stdout = screen
    try:
        yield
        screen.flush()
    except BaseException as error:
        with contextlib.suppress(OSError, ValueError):
            if isinstance(error, UserError) and _is_summary(before):
                screen.write(f"{error}\n")  # standard error is not in the summary
            screen.flush()
        raise
    finally:
        sys.stdout = before


def report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Show the traceback of a bug, as ``sys.excepthook``: its message may hold text of others."""
    text = "".join(traceback.format_exception(kind, error, trace))
    sys.stderr.write(shown(text, sys.stderr))
