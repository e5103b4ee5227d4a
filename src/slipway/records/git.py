"""The state of the source tree: which commit, and whether anything differs from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from slipway import process
from slipway.errors import BuildError, HostError

__all__ = ["GitState", "git_state"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GitState:
    """``commit`` in hexadecimal digits, None where there is no repository or no commit yet; ``dirty`` whether tracked
    files differ from it or files are there that it does not have."""

    commit: str | None
    dirty: bool


def git_state(root: Path) -> GitState:
    """The state of the repository that a directory is in. Without git, or outside a repository, it is unknown, which
    counts as dirty: nobody can say from which commit the files came."""
    unknown = GitState(commit=None, dirty=True)
    try:
        # Without optional locks, so that a look does not get in the way of a commit that is under way.
        commit = process.run(["git", "--no-optional-locks", "-C", root, "rev-parse", "--verify", "-q", "HEAD"], check=False, timeout_s=60)
        if commit.returncode:
            return unknown
        status = process.run(
            ["git", "--no-optional-locks", "-C", root, "status", "--porcelain=v1", "-z", "--", root], what="git status", timeout_s=120
        )
    except (HostError, BuildError):
        return unknown
    return GitState(commit=commit.stdout.decode().strip(), dirty=bool(status.stdout))
