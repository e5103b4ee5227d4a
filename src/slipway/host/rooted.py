"""Files below a folder with untrusted content, read and written without following a link out of it.

What goes in: a folder, and paths below it. What comes out: new folders, files and links at exactly
these places, or the content of a file there.

Invariants: no link below the folder is followed. No existing file is replaced. New folders have the
mode 0755, whatever the umask is. Each path is walked one name at a time by descriptors (openat(2)
with O_NOFOLLOW). So a link put in between is not followed either.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import IO

from slipway.errors import UsageError

__all__ = ["create", "make_folders", "make_link", "opened"]

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def create(root: Path, inside: str, *, mode: int = 0o644) -> Iterator[IO[bytes]]:
    """Create a file below a folder, with its parent folders, and hold it open for writing.

    Raises:
        UsageError: A link or a file is in its way, or it exists.
    """
    with _parent(root, inside) as (folder, name):
        try:
            descriptor = os.open(
                name,
                os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC,
                0o600,
                dir_fd=folder,
            )
        except FileExistsError:
            raise _in_the_way(root, inside) from None
        with os.fdopen(descriptor, "wb") as file:
            yield file
            os.fchmod(descriptor, mode)


def make_link(root: Path, inside: str, target: str) -> None:
    """Create a symbolic link below a folder, with its parent folders.

    Raises:
        UsageError: A link or a file is in its way, or it exists.
    """
    with _parent(root, inside) as (folder, name):
        try:
            os.symlink(target, name, dir_fd=folder)
        except FileExistsError:
            raise _in_the_way(root, inside) from None


def make_folders(root: Path, inside: str) -> Path:
    """Create a folder below a folder, with missing folders between them, and return its path.

    Raises:
        UsageError: A link or a file is in its way.
    """
    with _parent(root, f"{inside.rstrip('/')}/x"):
        return root / inside.strip("/")


@contextmanager
def opened(path: Path, depth: int) -> Iterator[int]:
    """Hold a file open for reading, without waiting for a writer if it is a pipe.

    Args:
        depth: The number of last names in the path to check for links; those before are trusted.

    Raises:
        OSError: One of these names is a link, is missing, or cannot be opened.
    """
    *folders, name = path.parts[-depth:]
    descriptor = os.open(path.parents[depth - 1], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for folder in folders:
            inner = os.open(
                folder, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=descriptor
            )
            os.close(descriptor)
            descriptor = inner
        file = os.open(
            name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=descriptor
        )
    finally:
        os.close(descriptor)
    try:
        yield file
    finally:
        os.close(file)


@contextmanager
def _parent(root: Path, inside: str) -> Iterator[tuple[int, str]]:
    """Hold a descriptor of a path's parent folder, made if it is missing, and the path's last
    name.
    """
    *folders, name = PurePosixPath(inside.strip("/")).parts
    if ".." in (*folders, name):
        raise UsageError(f'"{inside}" leaves its folder', hint="write a path without ..")
    root.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for number, folder in enumerate(folders):
            descriptor = _below(descriptor, folder, root, "/".join(folders[: number + 1]))
        yield descriptor, name
    finally:
        os.close(descriptor)


def _below(parent: int, name: str, root: Path, shown: str) -> int:
    """Return the descriptor of a folder in a folder, made if it is missing.

    The parent's descriptor is closed, except after an error.
    """
    made = False
    with suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=parent)
        made = True
    try:
        descriptor = os.open(name, _FOLDER, dir_fd=parent)
    except OSError:
        raise _in_the_way(root, shown) from None
    if made:
        os.fchmod(descriptor, 0o755)
    os.close(parent)
    return descriptor


def _in_the_way(root: Path, inside: str) -> UsageError:
    """Return the error for an existing file at a place."""
    try:
        mode = os.lstat(root / inside.strip("/")).st_mode
        kind = "a link" if stat.S_ISLNK(mode) else "a folder" if stat.S_ISDIR(mode) else "a file"
    except OSError:
        kind = "something"
    hint = "files of an appliance, a mix-in and the base share one tree: remove one of the two"
    return UsageError(
        f"cannot write below {root}: {kind} is in the way at {inside.strip('/')}", hint=hint
    )
