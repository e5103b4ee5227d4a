"""What a job of a GitHub workflow shows as its summary: tables in Markdown.

What goes in: headings of our own, and cells of anybody's. What comes out: a table at the end of
the file that GITHUB_STEP_SUMMARY names; nothing where it names none. Invariant: whatever a cell
holds is shown as it is, and is neither Markdown nor HTML, nor the end of its cell.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from slipway.terminal.text import one_line

__all__ = ["add_table", "cell"]


def cell(value: object) -> str:
    """Return a value as a code span in a table (CommonMark 6.1, GFM 4.10).

    What would end either is written out.
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
