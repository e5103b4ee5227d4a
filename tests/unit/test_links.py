"""Links between the project's pages lead somewhere, and so does every page that code, tests and
workflows name.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
_LINK = re.compile(r"\[[^\]]*\]\((?![a-z]+:)([^)\s]+)\)")
_HEADING = re.compile(r"#{1,6} +(.+)")
#: A page or a schema as text names it: from the root of the project, and not a part of an address.
_NAMED = re.compile(r"(?<![\w/.-])docs/[\w./-]+\.(?:md|json)\b|(?<![\w/.-])docs/adr/\d{4}\b")


def git(*words: str) -> list[str]:
    """Return what git prints, between zeros."""
    argv = ["git", "-C", str(ROOT), *words]
    return [
        name
        for name in subprocess.run(argv, capture_output=True, check=True, text=True).stdout.split(
            "\0"
        )
        if name
    ]


def pages() -> list[Path]:
    """Return the pages in git, and new ones that would be."""
    names = git("ls-files", "--cached", "--others", "--exclude-standard", "-z", "*.md")
    return [ROOT / name for name in names if (ROOT / name).is_file()]


def prose(text: str) -> Iterator[str]:
    """Yield the lines of a page outside of fenced blocks, with a word in place of code."""
    fenced = False
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced:
            yield re.sub(r"(`+)[^`]+\1", "code", line)


def anchors(path: Path) -> set[str]:
    """Return what a link can name in a page, as GitHub makes it of the headings."""
    found: set[str] = set()
    fenced = False
    for line in path.read_text(encoding="utf-8").splitlines():
        fenced ^= line.startswith("```")
        heading = None if fenced else _HEADING.fullmatch(line)
        if heading:
            found.add(re.sub(r"[^\w\- ]", "", heading[1].lower()).replace(" ", "-"))
    return found


def links(path: Path) -> Iterator[tuple[Path, str]]:
    """Yield the file and the anchor of each relative link of a page."""
    for target in _LINK.findall("\n".join(prose(path.read_text(encoding="utf-8")))):
        name, _, anchor = target.partition("#")
        yield (path.parent / name).resolve() if name else path, anchor


def dead(path: Path) -> list[str]:
    """Return the relative links of a page that lead nowhere."""
    wrong = []
    for target, anchor in links(path):
        if not target.exists():
            wrong.append(f"{path}: there is no {target}")
        elif anchor and anchor not in anchors(target):
            wrong.append(f"{path}: {target} has no heading #{anchor}")
    return wrong


def test_no_relative_link_of_a_page_is_dead() -> None:
    assert len(pages()) > 40
    assert [line for path in pages() for line in dead(path)] == []


def test_a_dead_link_and_a_dead_anchor_are_noticed(tmp_path: Path) -> None:
    (tmp_path / "there.md").write_text("# The `one` heading, here\n```text\n# none\n```\n")
    page = tmp_path / "page.md"
    page.write_text(
        "[a](there.md) [b](there.md#the-one-heading-here) [`c`](https://c.example/x.md) "
        "`[d](no.md)`\n"
        "[the\ne](gone.md), [f](there.md#none)\n```text\n[g](no.md)\n```\n[h](#page)\n"
    )
    assert dead(page) == [
        f"{page}: there is no {tmp_path}/gone.md",
        f"{page}: {tmp_path}/there.md has no heading #none",
        f"{page}: {page} has no heading #page",
    ]


def test_every_page_that_a_file_names_is_there() -> None:
    """What changed long ago keeps its words: only the log of changes may name a page by its old
    place.
    """
    wrong = []
    for name in git(
        "grep",
        "--untracked",
        "--name-only",
        "-z",
        "docs/",
        "--",
        ".",
        ":!CHANGELOG.md",
        f":!*/{Path(__file__).name}",
    ):
        for named in _NAMED.findall((ROOT / name).read_text(encoding="utf-8", errors="replace")):
            if not (ROOT / named).exists() and not list(ROOT.glob(f"{named}-*.md")):
                wrong.append(f"{name}: {named}")
    assert wrong == []


def test_every_page_is_linked_from_another_one() -> None:
    own = {path for path in pages() if path.is_relative_to(ROOT / "docs")}
    linked = {
        target for page in [*own, ROOT / "README.md"] for target, _ in links(page) if target != page
    }
    assert sorted(path.relative_to(ROOT).as_posix() for path in own - linked) == []
