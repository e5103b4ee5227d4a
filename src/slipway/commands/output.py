"""What tasks print, and what they ask.

What goes in: rows, and questions. What comes out: columns on standard output, and yes or an error.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from slipway.errors import as_called
from slipway.terminal import one_line

__all__ = ["confirm", "say", "show", "warn", "would"]


def show(rows: Iterable[Mapping[str, Any]], *, columns: Sequence[str] = ()) -> None:
    """Print a listing in columns as wide as what stands in them."""
    found = list(rows)
    names = list(columns) or (list(found[0]) if found else [])
    cells = [[one_line(row[name]) for name in names] for row in found]
    widths = [max((len(row[at]) for row in cells), default=0) for at in range(len(names))]
    for cell in cells:
        print(
            "  ".join(f"{text:<{width}}" for text, width in zip(cell, widths, strict=True)).rstrip()
        )


def say(text: str) -> None:
    """Print text with its commands as they can be typed."""
    print(as_called(text), flush=True)


def warn(line: str) -> None:
    """Print a warning to standard error."""
    print(as_called(f"warning: {line}"), file=sys.stderr, flush=True)


def confirm(deed: str, yes: bool) -> None:
    """Go on only if a person says so, or said so.

    Args:
        deed: What is going to be done, with from and to.

    Raises:
        Declined: The answer is no, Ctrl-C or Ctrl-D.
        UsageError: There is no terminal to ask on.
    """
    from slipway.errors import Declined, UsageError

    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(
            f"no terminal to ask on: {deed}?", hint="pass --yes; to look first: --dry-run"
        )
    try:
        answer = input(f"{one_line(deed)}? [y/N] ")
    except (EOFError, KeyboardInterrupt) as error:
        print()
        raise Declined from error
    if answer.strip().lower() not in ("y", "yes"):
        raise Declined


def would(lines: Iterable[str]) -> None:
    """Print what a dry run would do."""
    for line in lines:
        print(one_line(f"would {line}"))
