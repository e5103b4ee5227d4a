"""A look at the source tree runs nothing of what is in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway import process
from slipway.records.git import git_state

NAMES = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}


def git(folder: Path, *words: str) -> None:
    process.run(["git", "-C", folder, *words], env=NAMES)


def repository(folder: Path) -> Path:
    folder.mkdir(parents=True)
    git(folder, "init", "-q")
    (folder / "file").write_text("one\n")
    git(folder, "add", "--all")
    git(folder, "commit", "-q", "-m", "first")
    return folder


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A program that leaves a trace beside itself."""
    path = tmp_path / "program"
    path.write_text(f"#!/bin/sh\ntouch {tmp_path}/trace\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("place", [".", "appliances/web"])
def test_no_program_of_a_repositorys_configuration_is_started(tmp_path: Path, program: Path, place: str) -> None:
    root = repository(tmp_path / "root")
    if place != ".":
        repository(root / place)
        git(root, "add", "--all")
        git(root, "commit", "-q", "-m", "a repository in a folder")
    git(root / place, "config", "core.fsmonitor", str(program))
    (root / place / "file").write_text("two\n")
    process.run(["git", "-C", root, "status", "--porcelain"])
    assert (tmp_path / "trace").exists(), "git alone starts it"
    (tmp_path / "trace").unlink()
    state = git_state(root)
    assert state.commit
    assert state.dirty
    assert not (tmp_path / "trace").exists()
