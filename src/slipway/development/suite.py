"""The checks of developers and CI: style, types and shell scripts, then the tests.

What goes in: the root of a checkout. What comes out: the tools' own output, and a
:class:`BuildError` with the names of the failed ones. All tools belong to the running Python; their
settings are in pyproject.toml.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from slipway.development import dependencies
from slipway.errors import BuildError, UsageError
from slipway.host import process

__all__ = ["KINDS", "Selection", "lint", "select", "temporary_files", "test"]

#: The folders with tests in tests/, in the order of their runs.
KINDS: Final = ("unit", "integration", "ceph", "vm")
#: The kinds with an object store, by the store's name.
STORES: Final = ("ceph",)
#: pytest's exit status when it had nothing to run.
_NO_TESTS: Final = 5
#: How many tests run at once, by their kind, on two cores: much of their time is waiting, for a
#: disk, a program's start or a limit. Machines without KVM want a core each.
_WORKERS: Final = {"unit": 3, "integration": 3, "vm": 2}
#: Where Linux keeps files in memory (tmpfs): unit tests write many small ones, and some disks make
#: no more than a thousand in a second.
_IN_MEMORY: Final = Path("/dev/shm")
#: What the unit tests may write at once, in bytes.
_ROOM: Final = 2 << 30
#: How long pytest may take to find all tests, in seconds.
_COLLECTING_S: Final = 300


def _run(
    what: str,
    argv: Sequence[str | Path],
    root: Path,
    failed: list[str],
    env: Mapping[str, str] | None = None,
) -> int:
    """Run a tool with its output on ours and return its exit status.

    Its name goes to ``failed`` if it fails.
    """
    sys.stdout.flush()
    color = {"FORCE_COLOR": "1"} if sys.stdout.isatty() else {}
    ended = process.run(
        argv,
        cwd=root,
        env={"CI": "true", **color, **(env or {})},
        stdout=sys.stdout.buffer,
        check=False,
        timeout_s=5400,
    )
    if ended.returncode and not (ended.returncode == _NO_TESTS and "-k" in argv):
        failed.append(what)
    return ended.returncode


def shell_scripts(root: Path) -> list[Path]:
    """Return the POSIX shell scripts of the project.

    Templates of scripts are left out (a test checks the rendered ones).
    """
    folders = [root / "appliances", root / "templates", root / "src"]
    scripts = (root / "run", *sorted((root / ".ci").iterdir()), root / "tests/ceph/rgw.sh")
    return [*scripts, *sorted(path for folder in folders for path in folder.rglob("*.sh"))]


def python_scripts(root: Path) -> list[Path]:
    """Return the Python programs without a suffix, as no tool finds them by itself."""
    files = (
        path
        for folder in ("appliances", "templates")
        for path in sorted((root / folder).rglob("*"))
        if not path.suffix and path.is_file() and not path.is_symlink()
    )
    return [path for path in files if _interpreter(path).startswith(b"#!/usr/bin/python3")]


def _interpreter(path: Path) -> bytes:
    """Return the first line of a file, at most 80 bytes."""
    with path.open("rb") as file:
        return file.readline(80)


@contextlib.contextmanager
def _tests_compiled(root: Path) -> Iterator[None]:
    """Let pytest compile the tests beside the block.

    In a fresh clone each worker would compile them, at the same time. Their errors are shown when
    they run.
    """
    argv: list[str | Path] = [sys.executable, "-m", "pytest", "--collect-only", "-q", "tests"]
    with process.spawn(argv, cwd=root) as collecting:
        yield
        with contextlib.suppress(subprocess.TimeoutExpired):
            collecting.wait(_COLLECTING_S)


def lint(root: Path) -> None:
    """Check style, types and shell scripts, and the lock of dependencies.

    Raises:
        BuildError: A check failed; its tool has printed the findings.
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
            hint="most of ruff's findings are repaired by: ruff check --fix; ruff format",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The content of a call of the test task.

    Args:
        lint: Check style, types and shell scripts first.
        kinds: The folders of tests/, in their order.
        nightly: Run the tests with the mark ``nightly`` as well.
        keyword: Only tests or fresh machines with it in their names.
        fresh: Run the README's commands on fresh machines, and nothing else.
    """

    lint: bool = False
    kinds: tuple[str, ...] = ()
    nightly: bool = False
    keyword: str = ""
    fresh: bool = False


def select(options: Collection[str], *, store: str = "", keyword: str = "") -> Selection:
    """Return the selection for the test task.

    Args:
        options: The given flags: all, unit, integration, vm, fresh.
        store: The object store of the tests, or an empty text.
        keyword: An expression of pytest's -k; a part of a name with ``fresh``.

    Raises:
        UsageError: The options contradict each other, or the store is unknown.
    """
    if store not in ("", *STORES):
        raise UsageError(
            f'there are no tests with the store "{store}"', hint=f"choose from: {', '.join(STORES)}"
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
        BuildError: A kind of tests failed.
    """
    failed: list[str] = []
    outcomes = {}
    for kind in selection.kinds:
        with temporary_files(kind) as env:
            argv = _pytest(root, kind, selection)
            outcomes[kind] = _run(f"{kind} tests", argv, root, failed, env)
    if selection.keyword and set(outcomes.values()) == {_NO_TESTS}:
        raise UsageError(f'no test matches "{selection.keyword}"', hint="pytest --help explains -k")
    if failed:
        raise BuildError(f"failed: {', '.join(failed)}")


@contextlib.contextmanager
def temporary_files(kind: str, memory: Path = _IN_MEMORY) -> Iterator[dict[str, str]]:
    """Have a place for the temporary files of a kind of tests; what is left there is removed.

    Those of unit tests are in ``memory`` if it has room and runs programs (a container's often has
    neither); all others are where this process has its own.

    Yields:
        What to add to the environment of the tests.
    """
    if kind != "unit" or not _fits(memory):
        yield {}
        return
    with tempfile.TemporaryDirectory(dir=memory, prefix="slipway-") as place:
        yield {"TMPDIR": place}


def _fits(memory: Path) -> bool:
    """Return whether unit tests can write to a folder and run what they wrote."""
    try:
        about = os.statvfs(memory)
    except OSError:
        return False
    room = about.f_bavail * about.f_frsize
    return (
        room >= _ROOM and not about.f_flag & os.ST_NOEXEC and os.access(memory, os.W_OK | os.X_OK)
    )


def _pytest(root: Path, kind: str, selection: Selection) -> list[str | Path]:
    """Return the command to run a kind of tests."""
    # Slow unit tests have the mark of the kind they run with.
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
    # Tests of one file share their builds; neighbours among unit tests, what they read.
    if kind in _WORKERS and not selection.keyword:
        argv += ["-n", str(_WORKERS[kind]), "--dist", "worksteal" if kind == "unit" else "loadfile"]
    if selection.keyword:
        argv += ["-k", selection.keyword]
    return [*argv, "-m", " and ".join(marks)] if marks else argv
