"""The rules of the house (CONTRIBUTING.md), as tests."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections.abc import Collection
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

from slipway.boot.trial import SCAN
from slipway.development.suite import python_scripts
from slipway.spec.library import Library

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src/slipway"
MODULES = sorted(SOURCE.rglob("*.py"))
#: Programs that run elsewhere (in the guest, in a namespace, under a time limit) and speak through
#: their output.
PROGRAMS = {"disk/hygiene.py", "host/accelerator.py"}
#: What is sent into a namespace or a guest, where there is nothing of slipway but itself.
SENT = {"builders/_secrets.py", "builders/_box.py", "boot/slipway_check.py"}
#: From the bottom to the top: a module imports from its own layer and those before it. A room is in
#: one layer, but for its modules that have a name of their own here.
LAYERS = (
    ("errors", "host", "terminal.text", "__init__"),
    ("addresses", "cache", "whole", "settings", "terminal", "rendering"),
    ("tools", "commandline", "seeds.iso9660"),
    ("spec",),
    ("packages",),
    ("plan",),
    ("builders", "disk", "formats"),
    ("boot",),
    ("records",),
    ("seeds",),
    ("stores", "channels"),
    ("catalog",),
    ("job",),
    ("outputs",),
    ("pipeline", "workflows.indexing"),
    ("workflows",),
    ("workflows.overview", "development"),
    ("bench",),
    ("commands",),
    ("commandline.program",),
    ("__main__",),
)


def name_of(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


@cache
def parsed(path: Path) -> ast.Module:
    """A module's syntax tree, to look at and not to change."""
    return ast.parse(path.read_text())


def dotted(name: ast.expr) -> str:
    """A name as it is written; of what is no name, only what follows a dot."""
    if isinstance(name, ast.Attribute):
        return f"{dotted(name.value)}.{name.attr}"
    return name.id if isinstance(name, ast.Name) else ""


def layer(module: str) -> int:
    """The number of the layer that a dotted name below slipway belongs to."""
    first, _, rest = module.partition(".")
    names = (f"{first}.{rest.partition('.')[0]}", first)
    return next(number for name in names for number, layer in enumerate(LAYERS) if name in layer)


def imports(path: Path) -> set[str]:
    """Dotted names below slipway that a module imports when it is loaded or when it runs (not for
    types alone).
    """
    found = set()
    tree = parsed(path)
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if (
            isinstance(node, ast.ImportFrom)
            and node.module
            and node.module.split(".")[0] == "slipway"
        ):
            room = node.module.partition(".")[2]
            for alias in node.names:
                name = f"{room}.{alias.name}".removeprefix(".")
                if (SOURCE / f"{name.replace('.', '/')}.py").exists():
                    found.add(name)
                elif room or not alias.name.startswith("__"):
                    found.add(room or name)
    return found


def tracked() -> list[Path]:
    """The files that are in git, or would be."""
    done = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        capture_output=True,
        check=True,
        text=True,
    )
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_one_way(path: Path) -> None:
    here = layer(name_of(path).removesuffix(".py").replace("/", "."))
    wrong = {found for found in imports(path) if layer(found) > here}
    assert not wrong, f"{name_of(path)} imports from a later layer: {sorted(wrong)}"


def test_a_client_imports_nothing_of_a_publishers() -> None:
    """Downloading needs no keys, and no code that signs."""
    seen: set[str] = set()
    left = {"channels.client"}
    while left:
        seen |= left
        files = [SOURCE / f"{name.replace('.', '/')}.py" for name in left]
        left = {
            found
            for file in files
            if file.exists()
            for found in imports(file)
            if found.startswith("channels.")
        } - seen
    publishers = ("keys", "commit", "lists", "memory", "moves", "publish", "session")
    assert not seen & {f"channels.{name}" for name in publishers}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_says_what_it_is_and_stays_readable(path: Path) -> None:
    text = path.read_text()
    tree = parsed(path)
    assert ast.get_docstring(tree), "no docstring"
    assigned = [node.targets for node in tree.body if isinstance(node, ast.Assign)]
    assigned += [[node.target] for node in tree.body if isinstance(node, ast.AnnAssign)]
    assert "__all__" in {dotted(target) for targets in assigned for target in targets}
    assert len(text.splitlines()) <= 500, "over 500 lines: a design question"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.end_lineno:
            documented = node.body[0].end_lineno if ast.get_docstring(node) else node.lineno
            assert node.end_lineno - (documented or node.lineno) <= 62, (
                f"{node.name} is long: a design question"
            )
    assert path.stem not in ("utils", "helpers", "common")


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_only_process_starts_processes_and_nothing_prints_or_exits(path: Path) -> None:
    calls = {dotted(node.func) for node in ast.walk(parsed(path)) if isinstance(node, ast.Call)}
    assert not calls & {"os.system", "os.popen", "os.fork", "os.posix_spawn", "sys.exit", "exit"}
    if name_of(path) not in PROGRAMS and not name_of(path).startswith("commands/"):
        assert "print" not in calls
    if name_of(path) not in {"host/process.py", *SENT}:
        assert not {name for name in calls if name.startswith("subprocess.")}


def starts_slipway(function: ast.AST, helpers: Collection[str] = ()) -> bool:
    """Whether a function starts Python with all of Slipway (``-m slipway`` or ``-m invoke``),
    itself or by a helper.
    """
    for node in ast.walk(function):
        if isinstance(node, ast.List | ast.Tuple):
            words = [each.value if isinstance(each, ast.Constant) else None for each in node.elts]
            if any(
                option == "-m" and module in ("slipway", "invoke")
                for option, module in pairwise(words)
            ):
                return True
        elif isinstance(node, ast.Call) and dotted(node.func) in helpers:
            return True
    return False


def test_columns_complexity_and_parameters_are_measured_everywhere() -> None:
    """Ruff measures them (pyproject.toml); here it is seen that nothing escapes it."""
    ruff = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]
    rules = ruff["lint"]
    assert ruff["line-length"] == 100
    assert rules["mccabe"]["max-complexity"] == 10
    assert rules["pylint"]["max-args"] == 6
    assert {"E", "C901", "D401", "PLR0913"} <= set(rules["select"])
    measured = {"E", "E5", "E501", "C", "C9", "C90", "C901", "PL", "PLR", "PLR0913"}
    assert measured.isdisjoint(rules["ignore"])
    ignored = [each for each in rules["per-file-ignores"].items() if each[1] != ["D401"]]
    assert ignored == [("tests/**", ["D401", "PLR0913"])]
    assert not any(path.startswith("src") for path in rules["per-file-ignores"])
    assert ruff["extend-exclude"] == ["build"]
    assert "format" not in ruff
    silent = re.compile(r"# (?:noqa(?!: [A-Z])|noqa:.*(?:E501|C901|PLR0913)|ruff: noqa|fmt: off)")
    scripts = set(python_scripts(ROOT))
    for path in tracked():
        if path.suffix != ".py" and path not in scripts:
            if "bad_specs" not in path.parts and not path.is_symlink():
                assert not path.read_bytes()[:80].startswith(b"#!/usr/bin/python"), path
        elif path.name != "test_house.py":
            assert silent.findall(path.read_text(errors="replace")) == [], path


def test_a_test_of_a_unit_does_not_start_all_of_slipway() -> None:
    """It takes half a second each.

    Such a test has the mark of those that run with it (CONTRIBUTING.md).
    """
    slow = []
    for path in sorted((ROOT / "tests/unit").rglob("*.py")):
        if '"-m"' not in path.read_text():
            continue
        functions = [node for node in parsed(path).body if isinstance(node, ast.FunctionDef)]
        helpers = {
            each.name
            for each in functions
            if not each.name.startswith("test_") and starts_slipway(each)
        }
        for each in functions:
            marked = any(dotted(mark) == "pytest.mark.integration" for mark in each.decorator_list)
            if each.name.startswith("test_") and not marked and starts_slipway(each, helpers):
                slow.append(f"{path.relative_to(ROOT)}::{each.name}")
    assert slow == []


def test_no_appliance_is_named_outside_of_its_folder() -> None:
    names = [folder.name for folder in (ROOT / "appliances").iterdir() if folder.is_dir()]
    pattern = re.compile(rf"appliances/({'|'.join(names)})\b|[\"']({'|'.join(names)})[\"']")
    for path in tracked():
        first = path.relative_to(ROOT).parts[0]
        if first in ("src", "templates", ".github", "tests") or path.name == "tasks.py":
            assert pattern.findall(path.read_text(errors="replace")) == [], path


def test_no_mirror_is_named_and_no_path_of_a_machine() -> None:
    mirror = re.compile(
        r"\b(?:deb|security|ftp[.a-z]*|archive)\."
        + r"(?:debian|ubuntu)\.(?:org|com)\b|/"
        + r"work/[a-z]+/"
    )
    for path in tracked():
        if path.suffix not in (".asc", ".json"):
            assert mirror.findall(path.read_text(errors="replace")) == [], path


def test_the_committed_schemas_are_what_the_code_says() -> None:
    from slipway.records.manifest import manifest_schema
    from slipway.spec.model import json_schema

    assert (ROOT / "docs/appliance.schema.json").read_text() == json_schema()
    assert (ROOT / "docs/manifest.schema.json").read_bytes() == manifest_schema()


def test_every_test_that_a_promise_names_is_there() -> None:
    named = re.findall(
        r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs/concepts/trust.md").read_text()
    )
    assert len(named) > 50
    for path, name in named:
        functions = {
            node.name for node in ast.walk(parsed(ROOT / path)) if isinstance(node, ast.FunctionDef)
        }
        assert name in functions, f"docs/concepts/trust.md: there is no {name} in {path}"


def test_every_block_that_a_page_tells_to_type_is_typed_by_a_test_or_says_why_not() -> None:
    from pages import blocks, is_console, pages

    unmarked = [
        f"{block.page}:{block.line}: write it as a console block, or <!-- example: why --> above it"
        for path in pages()
        for block in blocks(path)
        if is_console(block)
        and not block.mark
        and (block.language != "console" or not block.text.startswith("$ "))
    ]
    assert unmarked == []


@pytest.mark.parametrize("name", Library(ROOT).names())
def test_each_promise_names_the_check_that_observes_it(name: str) -> None:
    appliance = Library(ROOT).load(name)
    checks = {
        check.name if check.place == "guest" else f"{check.place}/{check.name}"
        for check in appliance.checks
    }
    own = {
        str(path.relative_to(appliance.folder / "checks"))
        for path in (appliance.folder / "checks").glob("**/*.*")
    }
    _, _, section = (
        (appliance.folder / "README.md").read_text().partition("\n## What it promises\n")
    )
    rows = [
        line.strip("| ").rsplit(" | ", 1) for line in section.splitlines() if line.startswith("| ")
    ][1:]
    assert rows, f"appliances/{name}/README.md has no list of promises"
    named: set[str] = set()
    for promise, observers in rows:
        found = re.findall(r"`([^`]+)`", observers)
        assert promise.endswith(".") and found, promise
        named |= set(found)
    assert named - checks - {SCAN} == set(), "no such check"
    assert {check for check in own if not check.startswith("broken")} - named == set(), (
        "a check that observes no promise"
    )


@pytest.mark.parametrize("name", Library(ROOT).names())
def test_each_appliance_says_how_it_begins_is_backed_up_and_updated(name: str) -> None:
    """README.md promises it of every one."""
    text = (ROOT / "appliances" / name / "README.md").read_text()
    missing = [what for what in ("first boot", "back up", "update") if what not in text.lower()]
    assert missing == [], f"appliances/{name}/README.md"
