"""The words of pages and docstrings: short sentences, with few relatives (CONTRIBUTING.md,
Documentation).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pages import ROOT, pages

#: In 1,000 words.
_MOST = 18
_RELATIVES = {"that", "which", "what", "who", "where"}
#: Words of the code (json), numbers of one run, and what decisions said when they were made.
_OTHERS = ("docs/reference/json.md", "docs/performance.md", "docs/adr/")
SOURCE = ROOT / "src/slipway"
#: The folders of the source, and the modules beside them.
ROOMS = sorted({path.relative_to(SOURCE).parts[0] for path in SOURCE.rglob("*.py")})
PAGES = [path for path in pages() if not path.relative_to(ROOT).as_posix().startswith(_OTHERS)]


def relatives(text: str) -> float:
    """Return how many relatives a page has in 1,000 words of its prose."""
    prose = re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
    prose = re.sub(r"`[^`\n]*`|<!--.*?-->", " ", prose)
    words = re.findall(r"[a-z][a-z'-]*", prose.lower())
    return 1000 * sum(word in _RELATIVES for word in words) / max(len(words), 1)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_page_has_few_relatives(path: Path) -> None:
    assert relatives(path.read_text(encoding="utf-8")) <= _MOST


def docstrings(room: Path) -> Iterator[str]:
    """Yield the docstrings of a module, or of all modules of a folder."""
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for path in sorted(room.rglob("*.py")) if room.is_dir() else [room]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, documented) and (text := ast.get_docstring(node)):
                yield text


@pytest.mark.parametrize("room", ROOMS)
def test_docstrings_have_few_relatives(room: str) -> None:
    text = "\n".join(docstrings(SOURCE / room))
    # A module beside the folders has few words, of which one weighs much.
    assert relatives(text) <= (_MOST if (SOURCE / room).is_dir() else 2 * _MOST)


def test_relatives_are_counted_in_prose_alone() -> None:
    text = (
        "One that two.\n```console\n$ what which who\n```\n<!-- example: where -->\n"
        "`that` three `which` four.\n"
    )
    assert relatives(text) == 1000 / 5
