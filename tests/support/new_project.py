"""A root of its own with one new appliance, my-thing, whose tasks run as a person runs them: by the
command line, in processes of their own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

__all__ = ["command", "environment", "invoke", "leftovers", "make_project", "release"]

ROOT = Path(__file__).parents[2]


def make_project(root: Path) -> Path:
    """Make an empty folder such a root, with a cache of its own, and return it."""
    (root / "templates").symlink_to(ROOT / "templates")
    (root / "tmp").mkdir()
    invoke(root, "new", "my-thing")
    return root


def command(root: Path, *words: str) -> list[str]:
    """The command line of a task."""
    return [sys.executable, "-m", "invoke", "--search-root", str(ROOT), *words, "--root", str(root)]


def environment(root: Path) -> dict[str, str]:
    """This process's environment with a cache below the root, and with temporary files there too,
    by which one knows the processes.
    """
    mine = {
        "SLIPWAY_CACHE": str(root / "cache"),
        "SLIPWAY_KEYS": str(root / "keys"),
        "TMPDIR": str(root / "tmp"),
    }
    # As on a person's machine: where CI is set, a store has to be named.
    mine |= {"PYTHONPATH": str(ROOT / "src")}
    return {name: value for name, value in os.environ.items() if name != "CI"} | mine


def invoke(
    root: Path, *words: str, expect: int = 0, **more: str
) -> subprocess.CompletedProcess[str]:
    """Run a task, which has to end well, or as is expected."""
    done = subprocess.run(
        command(root, *words),
        env=environment(root) | more,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == expect, done.stdout + done.stderr
    return done


def release(root: Path) -> Path:
    """The folder of the newest release."""
    plan = json.loads((root / "build/my-thing/plan.json").read_text())
    return root / "build/my-thing" / str(plan["release"])


def leftovers(root: Path) -> list[str]:
    """Processes that were started for this root, whatever they do, and mounts and temporary files
    there.
    """
    found = [
        line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(root) in line
    ]
    found += [path.name for path in (root / "tmp").iterdir()]
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            started_with = (entry / "environ").read_bytes().split(b"\0")
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state not in "ZX" and f"TMPDIR={root / 'tmp'}".encode() in started_with:
            found.append(words)
    return found
