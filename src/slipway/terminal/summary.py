"""The summary of a job in a GitHub workflow: tables in Markdown.

Takes our own headings, and cells with anybody's text. Adds a table to the file named by
GITHUB_STEP_SUMMARY; does nothing if that is unset. Invariant: a cell is shown as it is. Its text is
neither Markdown nor HTML, nor the end of the cell.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from slipway.terminal.text import one_line

__all__ = ["add_table", "cell"]


def cell(value: object) -> str:
    """Return a value as a code span in a table (CommonMark 6.1, GFM 4.10).

    Characters that would end either are written out.
    """
    text = one_line(value).replace("`", "\\x60").replace("|", "\\x7c").strip()
    return f"`{text}`" if text else ""


def add_table(title: str, headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Add a table to the job's summary.

    Args:
        title: Our own words, as the headings are.

    Raises:
        OSError: The file cannot be written.
    """
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    found = list(rows)
    if not path or not found:
        return
    lines = [f"### {title}", "", _row(headings), _row(["-"] * len(headings))]
    lines += [_row([cell(each) for each in row]) for row in found]
    with Path(path).open("a", encoding="utf-8") as summary:
        summary.write("\n".join(["", *lines, "", ""]))


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
