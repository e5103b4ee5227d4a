"""The state of the source tree: which commit, and whether anything differs from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from slipway import process
from slipway.errors import BuildError, HostError

__all__ = ["GitState", "git_state"]

#: Without optional locks, so that a look does not get in the way of a commit that is under way; and without the programs
#: that a repository's configuration names.
_OPTIONS: Final[tuple[str, ...]] = ("--no-optional-locks", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null")


@dataclass(frozen=True, slots=True, kw_only=True)
class GitState:
    """``commit`` in hexadecimal digits, None where there is no repository or no commit yet; ``dirty`` whether tracked
    files differ from it, files are there that it does not have, or another repository is."""

    commit: str | None
    dirty: bool


def git_state(root: Path) -> GitState:
    """The state of the repository that a directory is in. Without git, or outside a repository, it is unknown, which
    counts as dirty: nobody can say from which commit the files came."""
    unknown = GitState(commit=None, dirty=True)
    try:
        commit = process.run(["git", *_OPTIONS, "-C", root, "rev-parse", "--verify", "-q", "HEAD"], check=False, timeout_s=60)
        if commit.returncode:
            return unknown
        # A repository in a folder has a configuration of its own, so nobody looks into it: that it is there is enough.
        listed = process.run(["git", *_OPTIONS, "-C", root, "ls-files", "--stage", "-z", "--", root], what="git ls-files", timeout_s=60)
        inside = any(entry.startswith(b"160000 ") for entry in listed.stdout.split(b"\0"))
        words: tuple[str | Path, ...] = ("status", "--porcelain=v1", "-z", "--ignore-submodules=dirty", "--", root)
        status = process.run(["git", *_OPTIONS, "-C", root, *words], what="git status", timeout_s=120)
    except (HostError, BuildError):
        return unknown
    return GitState(commit=commit.stdout.decode().strip(), dirty=inside or bool(status.stdout))
