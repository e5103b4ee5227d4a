"""The output of tasks, and their questions.

What goes in: rows, and questions. What comes out: columns on standard output, and yes or an error.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from slipway.errors import as_called
from slipway.terminal.text import extent, one_line

__all__ = ["confirm", "say", "show", "until_ctrl_c", "warn", "would"]

#: With fewer columns to it, the last column of a listing stands below its row, indented.
_LEAST: Final = 20
_BELOW: Final = 4


def show(rows: Iterable[Mapping[str, Any]], *, columns: Sequence[str] = ()) -> None:
    """Print a listing under headings, in columns as wide as their content.

    A column is left out if it is empty in every row. On a narrow terminal the last column is broken
    between words, or stands below its row. A pipe gets one line for each row.
    """
    found = [
        {name: "" if cell is None else one_line(cell) for name, cell in row.items()} for row in rows
    ]
    wanted = list(columns) or (list(found[0]) if found else [])
    names = [name for name in wanted if any(row[name] for row in found)]
    cells = [[name.upper() for name in names], *([row[name] for name in names] for row in found)]
    if not found:
        return
    widths = [max(len(row[at]) for row in cells) for at in range(len(names))]
    room = _room(sum(width + 2 for width in widths[:-1]))
    for *before, last in cells:
        start = "".join(f"{text:<{width}}  " for text, width in zip(before, widths, strict=False))
        if len(last) <= room:
            print(f"{start}{last}".rstrip())
            continue
        beside = room >= _LEAST
        indent = len(start) if beside else _BELOW
        lines = textwrap.wrap(last, room if beside else extent(sys.stdout).columns - 1 - _BELOW)
        first = lines.pop(0) if beside else ""
        print(f"{start}{first}".rstrip())
        for each in lines:
            print(" " * indent + each)


def _room(before: int) -> int:
    """Return the number of columns left for the last one; a pipe has no end."""
    if not sys.stdout.isatty():
        return sys.maxsize
    return max(0, extent(sys.stdout).columns - 1 - before)


def say(text: str) -> None:
    """Print text with its commands as the user can type them."""
    print(as_called(text), flush=True)


def warn(line: str) -> None:
    """Print a warning to standard error."""
    print(as_called(f"warning: {line}"), file=sys.stderr, flush=True)


def confirm(deed: str, yes: bool) -> None:
    """Ask a person to go on, unless already told ``yes``.

    Args:
        deed: The change to come, with from and to.

    Raises:
        Declined: The answer is no, Ctrl-C or Ctrl-D.
        UsageError: There is no terminal to ask on.
    """
    from slipway.commandline.invocation import Terminated
    from slipway.errors import Declined, UsageError

    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(
            f"cannot ask without a terminal: {deed}?", hint="pass --yes; to preview: --dry-run"
        )
    try:
        answer = input(f"{one_line(deed)}? [y/N] ")
    except (EOFError, KeyboardInterrupt) as error:
        print()
        if isinstance(error, Terminated):
            raise
        raise Declined from error
    if answer.strip().lower() not in ("y", "yes"):
        raise Declined


@contextmanager
def until_ctrl_c(said: str = "") -> Iterator[None]:
    """Let Ctrl-C end the block alone; SIGTERM and SIGHUP end the task.

    Args:
        said: A line for standard output after Ctrl-C.
    """
    from slipway.commandline.invocation import Terminated

    try:
        yield
    except Terminated:
        raise
    except KeyboardInterrupt:
        if said:
            print(said, flush=True)


def would(lines: Iterable[str]) -> None:
    """Print the changes of a dry run."""
    for line in lines:
        print(one_line(f"would {line}"))
