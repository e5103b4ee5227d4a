"""docs/reference/ says what the code says: settings, variables, exit codes, commands, keys of a
spec and formats.
"""

from __future__ import annotations

import ast
import re
import signal
from pathlib import Path

import pytest

from reference_pages import PAGES, REMEDY
from slipway import formats
from slipway.errors import (
    BuildError,
    HostError,
    SpecError,
    StoreError,
    UsageError,
    UserError,
    VerificationError,
)
from slipway.settings import KEYS

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs/reference"
#: From a process of Slipway to one that it starts.
INTERNAL = {"SLIPWAY_HANDOVER", "SLIPWAY_OVERLAY", "SLIPWAY_PYTHON", "SLIPWAY_RUN"}
#: Python's and pip's own, and those of the work on Slipway itself.
OTHERS = {"PATH", "PYTHONDONTWRITEBYTECODE", "SUDO_UID", "TZ", "TMPDIR"}


def rows(page: str, title: str) -> list[list[str]]:
    """Return the cells of a section's first table, without its heading."""
    _, heading, rest = (FOLDER / page).read_text().partition(f"# {title}\n")
    assert heading, f"{page} has no section {title}"
    section = rest.partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[1:]]


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def is_environment(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Attribute)
        and node.attr == "environ"
        and isinstance(node.value, ast.Name)
        and node.value.id == "os"
    )


def variables() -> set[str]:
    """Return the variables that the code asks the environment for, and all that begin with
    SLIPWAY_.
    """
    found = set()
    for path in (ROOT / "src/slipway").rglob("*.py"):
        if "boot" in path.parts:  # these tell checks
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            asked = None
            if isinstance(node, ast.Subscript) and is_environment(node.value):
                asked = node.slice
            elif (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and is_environment(node.func.value)
                and node.args
            ):
                asked = node.args[0]
            if isinstance(asked, ast.Constant) and isinstance(asked.value, str):
                found.add(asked.value)
            if (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and re.fullmatch(r"SLIPWAY_[A-Z_]+[A-Z]", node.value)
            ):
                found.add(node.value)
    return found


def test_every_setting_is_there_with_its_variable() -> None:
    told = {
        names(key)[0]: names(variable)[0]
        for key, variable, *_ in rows("settings.md", "slipway.toml")
    }
    assert told == {key: f"SLIPWAY_{key.upper()}" for key in KEYS}


def test_every_variable_is_there_and_no_other() -> None:
    tables = (("slipway.toml", 1), ("Other variables", 0))
    told = {
        name
        for title, column in tables
        for row in rows("settings.md", title)
        for name in names(row[column])
    }
    read = variables() | {f"SLIPWAY_{key.upper()}" for key in KEYS}
    assert told - {"SLIPWAY_SECRET_NAME", "CI"} == read - INTERNAL - OTHERS
    assert "SLIPWAY_SECRET_" in (ROOT / "src/slipway/builders/_tree.py").read_text()
    assert "${CI-}" in (ROOT / "run").read_text()


def test_every_exit_code_is_there_and_no_other() -> None:
    codes = {
        error.exit_code
        for error in (
            UserError,
            UsageError,
            SpecError,
            HostError,
            BuildError,
            StoreError,
            VerificationError,
        )
    }
    signals = {
        128 + number for number in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE, signal.SIGTERM)
    }
    assert {int(row[0]) for row in rows("exit-codes.md", "Exit codes")} == {0, 1} | codes | signals


@pytest.mark.parametrize("page", PAGES)
def test_a_page_that_is_made_from_the_code_is_up_to_date(page: str) -> None:
    same = (FOLDER / page).read_text() == PAGES[page]()
    assert same, REMEDY


def test_every_format_is_there_with_its_files_and_what_it_brings_along() -> None:
    told = {
        names(row[0])[0]: row for row in rows("formats.md", "Formats: one disk for every platform")
    }
    assert set(told) == set(formats.names())
    for name, row in told.items():
        form = formats.load(name)
        assert names(row[1])[0] == form.suffix
        assert all(needed in " ".join(row[1:]) for needed in form.needs), name


def test_every_part_of_the_picture_of_the_house_is_there() -> None:
    section = (
        (ROOT / "docs/concepts/architecture.md")
        .read_text()
        .partition("\n## The house\n")[2]
        .partition("\n## ")[0]
    )
    picture, _, table = section.partition("\n| part |")
    drawn = [name for label in re.findall(r"\[([a-z, ]+)\]", picture) for name in label.split(", ")]
    told = [
        name.removesuffix(".py").rstrip("/")
        for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
        for name in names(row)
    ]
    assert len(drawn) > 20
    assert len(told) > 10
    source = ROOT / "src/slipway"
    assert [
        name
        for name in drawn + told
        if not (source / name).is_dir() and not (source / f"{name}.py").is_file()
    ] == []


def test_every_decision_has_its_status_its_date_and_its_alternatives() -> None:
    index = (ROOT / "docs/adr/README.md").read_text()
    for path in sorted((ROOT / "docs/adr").glob("0*.md")):
        title, _, status, *rest = path.read_text().splitlines()
        number, _, decision = title.removeprefix("# ").partition(". ")
        found = re.fullmatch(r"Status: (\w+), (\d{4}-\d\d-\d\d)", status)
        assert found, path.name
        assert "## Alternatives" in rest, path.name
        assert f"| {number} | [{decision}]({path.name}) | {found[1]} | {found[2]} |\n" in index, (
            f"docs/adr/README.md lacks {path.name}"
        )
