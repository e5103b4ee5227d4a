"""What developers and CI run: style, types and shell scripts, then the tests.

What goes in: the root of a checkout. What comes out: the tools' own output, and a
:class:`BuildError` that names what failed. All tools are those of the Python that runs this; their
settings are in pyproject.toml.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from slipway.development import dependencies
from slipway.errors import BuildError, UsageError
from slipway.host import process

__all__ = ["KINDS", "Selection", "lint", "select", "test"]

#: The folders of tests/ that hold tests, in the order in which they are run.
KINDS: Final = ("unit", "integration", "ceph", "vm")
#: The kinds that need an object store, by the store's name.
STORES: Final = ("ceph",)
#: pytest's exit status when it had nothing to run.
_NO_TESTS: Final = 5
#: How many tests run at once, by their kind, on two cores: much of their time is waiting, for a
#: disk, a program's start or a limit. Machines without KVM want a core each.
_WORKERS: Final = {"unit": 4, "integration": 3, "vm": 2}
#: How long pytest may take to find all tests, in seconds.
_COLLECTING_S: Final = 300


def _run(what: str, argv: Sequence[str | Path], root: Path, failed: list[str]) -> int:
    """Run a tool with its output on ours and return its exit status.

    Its name goes to ``failed`` if it fails.
    """
    sys.stdout.flush()
    color = {"FORCE_COLOR": "1"} if sys.stdout.isatty() else {}
    ended = process.run(
        argv,
        cwd=root,
        env={"CI": "true", **color},
        stdout=sys.stdout.buffer,
        check=False,
        timeout_s=5400,
    )
    if ended.returncode and not (ended.returncode == _NO_TESTS and "-k" in argv):
        failed.append(what)
    return ended.returncode


def shell_scripts(root: Path) -> list[Path]:
    """The POSIX shell scripts of the project.

    Templates of scripts are not (the rendered ones are checked in a test).
    """
    folders = [root / "appliances", root / "templates", root / "src"]
    scripts = (root / "run", *sorted((root / ".ci").iterdir()), root / "tests/ceph/rgw.sh")
    return [*scripts, *sorted(path for folder in folders for path in folder.rglob("*.sh"))]


def python_scripts(root: Path) -> list[Path]:
    """The programs in Python whose names do not say so, which no tool finds by itself."""
    files = (
        path
        for folder in ("appliances", "templates")
        for path in sorted((root / folder).rglob("*"))
        if not path.suffix and path.is_file() and not path.is_symlink()
    )
    return [path for path in files if _interpreter(path).startswith(b"#!/usr/bin/python3")]


def _interpreter(path: Path) -> bytes:
    """Return the first line of a file, as far as one of a script is long."""
    with path.open("rb") as file:
        return file.readline(80)


@contextlib.contextmanager
def _tests_compiled(root: Path) -> Iterator[None]:
    """Let pytest compile the tests beside the block: in a fresh clone each worker would, at the
    same time.

    What is wrong with them is said when they run.
    """
    argv: list[str | Path] = [sys.executable, "-m", "pytest", "--collect-only", "-q", "tests"]
    with process.spawn(argv, cwd=root) as collecting:
        yield
        with contextlib.suppress(subprocess.TimeoutExpired):
            collecting.wait(_COLLECTING_S)


def lint(root: Path) -> None:
    """Check that the lock of dependencies is up to date, style, types and shell scripts.

    Raises:
        BuildError: Something failed; the tools have said what.
    """
    dependencies.require_agreement(root)
    failed: list[str] = []
    python = [sys.executable, "-m"]
    everything: list[str | Path] = [".", *python_scripts(root)]
    _run("ruff check", [*python, "ruff", "check", *everything], root, failed)
    _run("ruff format", [*python, "ruff", "format", "--check", *everything], root, failed)
    with _tests_compiled(root):
        _run("mypy", [*python, "mypy"], root, failed)
    _run("shellcheck", ["shellcheck", "-s", "sh", *shell_scripts(root)], root, failed)
    if failed:
        raise BuildError(
            f"failed: {', '.join(failed)}",
            hint="most of ruff's findings are mended by: ruff check --fix; ruff format",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What a call of the test task is about.

    Args:
        lint: Check style, types and shell scripts first.
        kinds: The folders of tests/, in their order.
        nightly: Run the tests with the mark ``nightly`` as well.
        keyword: Only tests or fresh machines whose names have it.
        fresh: Run the README's commands on fresh machines, and nothing else.
    """

    lint: bool = False
    kinds: tuple[str, ...] = ()
    nightly: bool = False
    keyword: str = ""
    fresh: bool = False


def select(options: Collection[str], *, store: str = "", keyword: str = "") -> Selection:
    """Return what the test task runs.

    Args:
        options: The flags that were given: all, unit, integration, vm, fresh.
        store: The object store that was asked for.
        keyword: An expression of pytest's -k; a part of a name with ``fresh``.

    Raises:
        UsageError: The options contradict each other, or there is no such store.
    """
    if store not in ("", *STORES):
        raise UsageError(
            f'there are no tests with the store "{store}"', hint=f"there is: {', '.join(STORES)}"
        )
    named = [kind for kind in KINDS if kind in (*options, store)]
    if "fresh" in options:
        others = [f"--{option}" for option in options if option != "fresh"] + (
            [f"--store {store}"] if store else []
        )
        if others:
            raise UsageError(
                f"--fresh cannot go with {', '.join(others)}",
                hint="it runs the unit and integration tests itself",
            )
        return Selection(fresh=True, keyword=keyword)
    return Selection(
        lint=not named and not keyword,
        kinds=tuple(named) or KINDS,
        nightly="all" in options or bool(keyword),
        keyword=keyword,
    )


def test(root: Path, selection: Selection) -> None:
    """Run kinds of tests, each in a run of its own.

    Raises:
        UsageError: No test matches the keyword.
        BuildError: One failed.
    """
    failed: list[str] = []
    outcomes = {
        kind: _run(f"{kind} tests", _pytest(root, kind, selection), root, failed)
        for kind in selection.kinds
    }
    if selection.keyword and set(outcomes.values()) == {_NO_TESTS}:
        raise UsageError(f'no test matches "{selection.keyword}"', hint="pytest --help explains -k")
    if failed:
        raise BuildError(f"failed: {', '.join(failed)}")


def _pytest(root: Path, kind: str, selection: Selection) -> list[str | Path]:
    """The command that runs a kind of tests."""
    # Tests of a unit that take long have the mark of those that they run with.
    folders, marks = [root / "tests" / kind], []
    if kind == "unit":
        marks.append("not integration")
    elif kind == "integration":
        folders.append(root / "tests/unit")
        marks.append("integration")
    if not selection.nightly:
        marks.append("not nightly")
    argv: list[str | Path] = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        *(folder for folder in folders if folder.is_dir()),
    ]
    # Tests of one file share what they build.
    if kind in _WORKERS and not selection.keyword:
        argv += ["-n", str(_WORKERS[kind]), "--dist", "loadgroup" if kind == "unit" else "loadfile"]
    if selection.keyword:
        argv += ["-k", selection.keyword]
    return [*argv, "-m", " and ".join(marks)] if marks else argv
