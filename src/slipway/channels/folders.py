"""Find builds made elsewhere in a folder, and check their appliances.

Input: a folder as other jobs left it. Output: the builds in it.

Invariants: Links are not followed. If a folder is for one appliance, a build of another is refused,
and so is the whole folder.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from slipway.errors import BuildError, UsageError
from slipway.records.release import SUMS, read_release

__all__ = ["builds_below", "require_build_of"]


def builds_below(folder: Path, only: str = "") -> list[Path]:
    """Find the folders of finished builds.

    Args:
        only: The appliance of all builds. Or a pattern with one ``*`` for the names of the folders
            directly below, such as ``build-*``: ``*`` is the only appliance allowed in such a
            folder.

    Raises:
        BuildError: There is no build, or one of another appliance, or one with links, pipes or
            devices.
        UsageError: ``only`` is neither an appliance nor a pattern.
    """
    if not folder.is_dir():
        raise BuildError(
            f"there is no folder {folder}",
            hint="--folder needs the output of builds: the folder build, or what CI downloaded",
        )
    found = sorted(_walk(folder))
    if not found:
        raise BuildError(
            f"there is no finished build below {folder}", hint="run: invoke build --all"
        )
    if only.count("*") > 1 or "/" in only:
        raise UsageError(
            f'"{only}" is neither an appliance nor the name of folders',
            hint="for example: --only 'build-*'",
        )
    for path in found:
        if only:
            require_build_of(path, _appliance(folder, path, only))
        else:
            _require_files(path)
    return found


def require_build_of(path: Path, wanted: str | None) -> None:
    """Refuse a build of another appliance, or one with links, pipes or devices.

    Raises:
        BuildError: The build is of another appliance, has something else than files, or is missing.
    """
    _require_files(path)
    appliance = read_release(path).manifest.appliance
    if appliance != wanted:
        raise BuildError(
            f"{path} has a build of {appliance}, and is for {wanted or 'nothing'}",
            hint="the build is not the requested one, and nothing is published",
        )


def _walk(folder: Path) -> Iterator[Path]:
    """Yield the folders with a SHA256SUMS, at any depth; an unreadable folder has none."""
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        with contextlib.suppress(OSError), os.scandir(here) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(here / entry.name)
                elif entry.name == SUMS:
                    yield here


def _appliance(folder: Path, path: Path, only: str) -> str | None:
    """Return the appliance a build's folder is for, or None."""
    if "*" not in only:
        return only
    before, after = only.split("*")
    parts = path.relative_to(folder).parts
    match = re.fullmatch(f"{re.escape(before)}(.+){re.escape(after)}", parts[0]) if parts else None
    return match[1] if match else None


def _require_files(path: Path) -> None:
    """Refuse links, pipes and devices in a build: they only look like its files."""
    for each in sorted(path.iterdir()) if path.is_dir() else ():
        mode = each.lstat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise BuildError(
                f"{each} is not a file", hint="a build consists of files: build it again"
            )
