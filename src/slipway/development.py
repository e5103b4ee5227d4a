"""What developers and CI run: style, types and shell scripts, then the tests.

What goes in: the root of a checkout. What comes out: the tools' own output, and a :class:`BuildError` that names what
failed. All tools are those of the Python that runs this; their settings are in pyproject.toml.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from slipway import dependencies, process
from slipway.errors import BuildError

__all__ = ["lint", "test"]


def _run(what: str, argv: Sequence[str | Path], root: Path, failed: list[str]) -> None:
    """Run a tool with its output on ours; its name goes to ``failed`` if it fails."""
    sys.stdout.flush()
    color = {"FORCE_COLOR": "1"} if sys.stdout.isatty() else {}
    ended = process.run(argv, cwd=root, env={"CI": "true", **color}, stdout=sys.stdout.buffer, check=False, timeout_s=5400)
    if ended.returncode:
        failed.append(what)


def shell_scripts(root: Path) -> list[Path]:
    """The POSIX shell scripts of the project; templates of scripts are not (the rendered ones are checked in a test)."""
    folders = [root / "appliances", root / "templates", root / "src"]
    scripts = (root / "run", root / ".ci/run", root / "tests/ceph/rgw.sh")
    return [*scripts, *sorted(path for folder in folders for path in folder.rglob("*.sh"))]


def lint(root: Path) -> None:
    """Check that the lock of dependencies is up to date, style, types and shell scripts.

    Raises:
        BuildError: Something failed; the tools have said what.
    """
    dependencies.require_agreement(root)
    failed: list[str] = []
    python = [sys.executable, "-m"]
    _run("ruff check", [*python, "ruff", "check", "."], root, failed)
    _run("ruff format", [*python, "ruff", "format", "--check", "."], root, failed)
    _run("mypy", [*python, "mypy"], root, failed)
    _run("shellcheck", ["shellcheck", "-s", "sh", *shell_scripts(root)], root, failed)
    if failed:
        raise BuildError(f"failed: {', '.join(failed)}", hint="most of ruff's findings are mended by: ruff check --fix; ruff format")


def test(root: Path, kinds: Sequence[str], keyword: str = "") -> None:
    """Run kinds of tests (unit, integration, ceph, vm), each in a run of its own.

    Raises:
        BuildError: One failed.
    """
    failed: list[str] = []
    for kind in kinds:
        if not (root / "tests" / kind).is_dir():
            continue
        argv: list[str | Path] = [sys.executable, "-m", "pytest", "-q", root / "tests" / kind]
        # Two at once: a machine that starts mostly waits. Tests of one file share what they build.
        argv += ["-n", "2", "--dist", "loadfile" if kind == "vm" else "load"] if kind in ("unit", "vm") and not keyword else []
        argv += ["-k", keyword] if keyword else []
        _run(f"{kind} tests", argv, root, failed)
    if failed:
        raise BuildError(f"failed: {', '.join(failed)}")
