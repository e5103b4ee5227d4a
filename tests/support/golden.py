"""Golden texts: whole messages of ours, with a gap where a dependency speaks.

``<…>`` in a golden text stands for the words of a library or of Python itself, on one line.
They change between versions; what stands around them is ours and is compared to the letter.
"""

from __future__ import annotations

import difflib
import re

import pytest

__all__ = ["GAP", "require_golden"]

GAP = "<…>"


def require_golden(text: str, golden: str) -> None:
    """Fail, with a comparison line by line, unless a text is the golden one."""
    pattern = r"[^\n]+".join(re.escape(part) for part in golden.split(GAP))
    if re.fullmatch(pattern, text) is None:
        lines = difflib.ndiff(golden.splitlines(), text.splitlines())
        pytest.fail("\n".join(["- golden, + said:", *lines]))
