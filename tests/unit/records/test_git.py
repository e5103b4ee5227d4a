"""A look at the source tree runs nothing of what is in it, and believes no configuration about what
differs.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from slipway.host import process
from slipway.records.git import GitState, git_state, why_unknown

NAMES = {
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@b",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@b",
}


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
def test_no_program_of_a_repositorys_configuration_is_started(
    tmp_path: Path, program: Path, place: str
) -> None:
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


def hidden_by_the_configuration(root: Path) -> None:
    git(root, "config", "status.showUntrackedFiles", "no")
    (root / "appliances/web/files/new").write_text("new\n")


def hidden_by_a_global_list(root: Path) -> None:
    (root.parent / "ignored").write_text("*.bak\nbuild/\n")
    git(root, "config", "core.excludesFile", str(root.parent / "ignored"))
    (root / "appliances/web/files/motd.bak").write_text("old\n")


def hidden_by_the_repositorys_list(root: Path) -> None:
    (root / ".gitignore").write_text("build/\n__pycache__/\n")
    git(root, "add", "--all")
    git(root, "commit", "-q", "-m", "ignored")
    (root / "appliances/web/files/build").mkdir()
    (root / "appliances/web/files/build/app").write_text("binary\n")


def hidden_by_a_private_list(root: Path) -> None:
    (root / ".git/info").mkdir(exist_ok=True)
    (root / ".git/info/exclude").write_text("link\n")
    (root / "appliances/web/files/link").symlink_to("/etc")


def assumed_unchanged(root: Path) -> None:
    git(root, "update-index", "--assume-unchanged", "appliances/web/files/motd")
    (root / "appliances/web/files/motd").write_text("two\n")


def skipped_in_the_work_tree(root: Path) -> None:
    git(root, "update-index", "--skip-worktree", "appliances/web/files/motd")
    (root / "appliances/web/files/motd").write_text("two\n")


def skipped_and_missing(root: Path) -> None:
    git(root, "update-index", "--skip-worktree", "appliances/web/files/motd")
    (root / "appliances/web/files/motd").unlink()


def unchanged_by_its_times(root: Path) -> None:
    file = root / "appliances/web/files/motd"
    status = file.stat()
    git(root, "config", "core.trustctime", "false")
    file.write_text("two\n")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def executable_where_modes_do_not_count(root: Path) -> None:
    git(root, "config", "core.fileMode", "false")
    (root / "appliances/web/files/motd").chmod(0o755)


def lines_of_windows(root: Path) -> None:
    git(root, "config", "core.autocrlf", "true")
    (root / "appliances/web/files/motd").write_bytes(b"one\r\n")


def cleaned_by_a_filter(root: Path) -> None:
    git(root, "config", "filter.same.clean", "printf 'one\\n'")
    (root / ".git/info").mkdir(exist_ok=True)
    (root / ".git/info/attributes").write_text("motd filter=same\n")
    (root / "appliances/web/files/motd").write_text("anything\n")


def another_repository_inside(root: Path) -> None:
    repository(root / "appliances/web/files/vendor")


def added_and_not_committed(root: Path) -> None:
    (root / "docs").mkdir()
    (root / "docs/page").write_text("page\n")
    git(root, "add", "--all")


HIDDEN = (
    hidden_by_the_configuration,
    hidden_by_a_global_list,
    hidden_by_the_repositorys_list,
    hidden_by_a_private_list,
    assumed_unchanged,
    skipped_in_the_work_tree,
    skipped_and_missing,
    unchanged_by_its_times,
    executable_where_modes_do_not_count,
    lines_of_windows,
    cleaned_by_a_filter,
    another_repository_inside,
    added_and_not_committed,
)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with an appliance of one file, and what a build leaves beside it."""
    root = repository(tmp_path / "root")
    (root / "appliances/web/files").mkdir(parents=True)
    (root / "appliances/web/files/motd").write_text("one\n")
    (root / "appliances/web/files/name").symlink_to("motd")
    (root / ".gitignore").write_text("/build/\n")
    git(root, "add", "--all")
    git(root, "commit", "-q", "-m", "an appliance")
    (root / "build").mkdir()
    (root / "build/disk").write_text("made\n")
    (root / "appliances/web/__pycache__").mkdir()
    (root / "appliances/web/__pycache__/check.pyc").write_text("left by Python\n")
    (root / ".git/info/exclude").write_text("__pycache__\n")
    return root


@pytest.mark.parametrize("hide", HIDDEN)
def test_what_an_image_contains_is_the_commits_whatever_git_does_not_show(
    checkout: Path, hide: Callable[[Path], None]
) -> None:
    used = (checkout / "appliances/web", Path("/usr/lib/python3"))
    assert not git_state(checkout, used).dirty
    hide(checkout)
    assert git_state(checkout, used).dirty


def test_what_git_lfs_keeps_is_the_commits(checkout: Path) -> None:
    content = b"a large file\n" * 1000
    file = checkout / "appliances/web/files/large"
    pointer = (
        "version https://git-lfs.github.com/spec/v1\n"
        f"oid sha256:{hashlib.sha256(content).hexdigest()}\nsize {len(content)}\n"
    )
    file.write_text(pointer)
    git(checkout, "add", "--all")
    git(checkout, "commit", "-q", "-m", "a pointer")
    file.write_bytes(content)
    assert not git_state(checkout, (checkout / "appliances",)).dirty
    file.write_bytes(content + b"more\n")
    assert git_state(checkout, (checkout / "appliances",)).dirty


def test_a_repository_of_sha256_is_one_too(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    git(root, "init", "-q", "--object-format=sha256")
    (root / "file").write_text("one\n")
    git(root, "add", "--all")
    git(root, "commit", "-q", "-m", "first")
    state = git_state(root, (root,))
    assert state.commit
    assert len(state.commit) == 64


def test_of_another_users_checkout_the_commit_is_unknown_and_that_is_said(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SUDO_UID", raising=False)
    monkeypatch.setenv("HOME", str(checkout.parent))
    assert why_unknown(checkout) is None
    if os.geteuid():
        pytest.skip("giving files away wants root")
    for path in (checkout, checkout / ".git"):
        os.chown(path, 12345, 12345)
    assert git_state(checkout) == GitState(commit=None, dirty=True)
    command = f"git config --global --add safe.directory {checkout}"
    assert (
        why_unknown(checkout / "appliances")
        == f"unknown: this checkout is another user's; if you trust it: {command}"
    )
    monkeypatch.setenv("SUDO_UID", "12345")
    assert git_state(checkout).commit
