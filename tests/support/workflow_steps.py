"""The workflows' own commands, parsed from their YAML and run as GitHub does.

On another day, if that is wanted.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

__all__ = ["ROOT", "load", "make_project", "run_job", "shell", "steps"]

ROOT = Path(__file__).parents[2]


def load(path: Path) -> dict[str, Any]:
    """Read a workflow."""
    document: dict[str, Any] = yaml.safe_load(path.read_text())
    return document


def steps(workflow: str, job: str) -> list[dict[str, Any]]:
    """List the steps of a job."""
    found: list[dict[str, Any]] = load(ROOT / f".github/workflows/{workflow}.yml")["jobs"][job][
        "steps"
    ]
    return found


def make_project(folder: Path) -> Path:
    """Make a checkout as far as the workflows can tell: ./run, and an appliance."""
    run = folder / "run"
    run.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m slipway --search-root {folder} "$@"\n')
    run.chmod(0o755)
    (folder / "templates").symlink_to(ROOT / "templates")
    shell(folder, "./run new my-thing", {})
    return folder


def shell(
    project: Path, script: str, variables: Mapping[str, str], *, day: float = 0, status: int = 0
) -> str:
    """Run a step as GitHub does (bash -e), in an environment that has what the workflow gives it,
    so many days from now.

    Returns what it printed, or its error where another status than 0 is wanted.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SLIPWAY_", "AWS_"))
    }
    environment = {
        **kept,
        "PYTHONPATH": str(ROOT / "src"),
        "SLIPWAY_CACHE": str(project / "cache"),
        **variables,
    }
    environment.setdefault("SLIPWAY_KEYS", str(project / "no-keys"))
    for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"):
        environment[name] = str(project / name)
    if day:
        environment["PYTHONPATH"] = f"{_clock(project, day)}:{environment['PYTHONPATH']}"
    argv = ["bash", "-e", "-c", script]
    done = subprocess.run(
        argv, cwd=project, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == status, f"day {day}: {script}\n{done.stdout}{done.stderr}"
    return done.stderr if status else done.stdout


#: A command that signs starts itself again without variables that it does not know, LD_PRELOAD
#: among them.
_AGAIN = """\
import os, sys
if "LD_PRELOAD" not in os.environ:
    os.execvp("faketime", ["faketime", "-f", "+{day}d", sys.executable, *sys.orig_argv[1:]])
"""


def _clock(project: Path, day: float) -> Path:
    """Make a folder for PYTHONPATH that gives every Python another day."""
    folder = project / "clock"
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(_AGAIN.format(day=day))
    return folder


def run_job(
    project: Path, workflow: str, job: str, variables: Mapping[str, str], *, day: float = 0
) -> None:
    """Run a job's steps, each with those of the variables that the workflow gives it."""
    for_all = load(ROOT / f".github/workflows/{workflow}.yml")["jobs"][job].get("env", {})
    for step in steps(workflow, job):
        if "run" in step and not step["run"].startswith(".ci/"):
            given = {**for_all, **step.get("env", {})}
            shell(
                project,
                step["run"],
                {name: value for name, value in variables.items() if name in given},
                day=day,
            )
