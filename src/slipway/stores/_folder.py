"""Files below a folder writable by others: links are never followed, locks never awaited forever.

What goes in: the folder, named by its user and possibly a link itself, and keys relative to it.
Invariants: each part of a key is opened relative to the one before it with O_NOFOLLOW. So nothing
outside the folder is read, made, changed or removed, even if a link replaces something meanwhile.
Only regular files are opened. The lock and the temporary files are only for those with write access
to the folder. The other folders have the mode of the store's own folder, whatever the umask, so
access is the same everywhere.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

from slipway.errors import StoreError
from slipway.stores import MAX_LISTED, Status, check_key, too_many

__all__ = ["LOCK_PATIENCE_S", "TEMPORARY", "Folder", "new_file", "sweep"]

#: How long a publisher waits for the lock, in seconds; it is held for some milliseconds.
LOCK_PATIENCE_S = 60.0
TEMPORARY: Final = ".tmp"
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: A pipe without a writer does not block, and a terminal does not become ours.
_FILE: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_HINT: Final = "a store has files and folders alone: remove it, then run: invoke verify"
_KINDS: Final = {
    stat.S_IFLNK: "a link",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a folder",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def _strange(key: str, root: Path, mode: int) -> StoreError:
    """Return the error for a key whose entry is not a regular file."""
    kind = _KINDS.get(stat.S_IFMT(mode), "something strange")
    return StoreError(f"{key} in {root} is {kind}, not a file", hint=_HINT)


class Folder:
    """A folder with files by key.

    Methods raise OSError if the file system refuses, and StoreError for links and pipes.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @contextlib.contextmanager
    def parent(self, key: str, *, make: bool = False) -> Iterator[tuple[int, str]]:
        """Open the folder of a key's file; yield its descriptor and the file's name.

        Args:
            make: Make missing folders.
        """
        if make:
            make_readable(self.root)
        descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            *folders, name = key.split("/")
            mode = stat.S_IMODE(os.fstat(descriptor).st_mode) & ~stat.S_ISVTX
            for folder in folders:
                if make:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(folder, dir_fd=descriptor)
                inner = self._into(descriptor, folder, key)
                os.close(descriptor)
                descriptor = inner
                if make:
                    _widen(descriptor, mode)
            yield descriptor, name
        finally:
            os.close(descriptor)

    def _into(self, descriptor: int, folder: str, key: str) -> int:
        try:
            return os.open(folder, _FOLDER, dir_fd=descriptor)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR) and _is_link(folder, descriptor):
                raise StoreError(f"{key} in {self.root} is below a link", hint=_HINT) from error
            raise

    @contextlib.contextmanager
    def file(self, key: str) -> Iterator[tuple[IO[bytes], os.stat_result]]:
        """Open a regular file for reading; yield it and its status.

        Raises:
            StoreError: The entry is not a regular file, but a link or a pipe, for example.
        """
        with self.parent(key) as (parent, name):
            descriptor = self._open(key, parent, name, os.O_RDONLY)
        with os.fdopen(descriptor, "rb") as file:
            yield file, os.fstat(descriptor)

    def _open(self, key: str, parent: int, name: str, flags: int) -> int:
        """Open a regular file.

        Anything else is refused before it is opened, as far as possible.
        """
        with contextlib.suppress(FileNotFoundError):
            self._require_file(key, os.stat(name, dir_fd=parent, follow_symlinks=False))
        descriptor = os.open(name, flags | _FILE, 0o600, dir_fd=parent)
        try:
            self._require_file(key, os.fstat(descriptor))
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _require_file(self, key: str, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            raise _strange(key, self.root, status.st_mode)

    def status(self, key: str) -> os.stat_result:
        """Return a regular file's status.

        Raises:
            StoreError: The entry is not a regular file.
        """
        with self.parent(key) as (parent, name):
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        self._require_file(key, status)
        return status

    def remove(self, key: str) -> None:
        """Remove a file, or a link itself, and the folders left empty.

        A missing file is no error.
        """
        with contextlib.suppress(FileNotFoundError), self.parent(key) as (parent, name):
            os.unlink(name, dir_fd=parent)
        folder = key
        while "/" in folder:
            folder = folder.rpartition("/")[0]
            try:
                with self.parent(folder) as (parent, name):
                    os.rmdir(name, dir_fd=parent)
            except OSError:
                break  # not empty, or gone

    def walk(self, prefix: str) -> list[Status]:
        """List the regular files whose keys begin with ``prefix``, sorted.

        Links, pipes and names unfit as keys are left out.

        Raises:
            StoreError: There are too many entries, or the first folder is below a link.
        """
        found: list[Status] = []
        room = MAX_LISTED
        top = prefix.rpartition("/")[0]
        folders = [check_key(top) if top else ""]
        while folders:
            folder = folders.pop()
            try:
                entries = self._entries(folder, room)
            except (FileNotFoundError, NotADirectoryError):
                continue  # it was removed meanwhile
            room -= len(entries)
            for key, status in entries:
                if not _possible(key):
                    continue
                if stat.S_ISDIR(status.st_mode) and (
                    f"{key}/".startswith(prefix) or prefix.startswith(f"{key}/")
                ):
                    folders.append(key)
                elif stat.S_ISREG(status.st_mode) and key.startswith(prefix):
                    found.append(Status(key=key, size=status.st_size, modified=status.st_mtime))
        return sorted(found, key=lambda status: status.key)

    def _entries(self, folder: str, room: int) -> list[tuple[str, os.stat_result]]:
        """List a folder's entries by key.

        Raises:
            StoreError: There are more than ``room``.
        """
        found: list[tuple[str, os.stat_result]] = []
        with (
            self.parent(f"{folder}/." if folder else ".") as (descriptor, _),
            os.scandir(descriptor) as entries,
        ):
            for entry in entries:
                if len(found) >= room:
                    raise too_many(str(self.root), MAX_LISTED)
                with contextlib.suppress(FileNotFoundError):
                    key = f"{folder}/{entry.name}" if folder else entry.name
                    found.append((key, entry.stat(follow_symlinks=False)))
        return found

    @contextlib.contextmanager
    def locked(self) -> Iterator[int]:
        """Hold the lock, exclusive among all processes; yield the temporary folder's descriptor.

        Raises:
            StoreError: Another process does not release the lock.
        """
        with self._temporaries() as temporaries:
            descriptor = self._open(
                f"{TEMPORARY}/lock", temporaries, "lock", os.O_RDWR | os.O_CREAT
            )
            try:
                _tighten(descriptor, self._shared(0o600, 0o060))
                self._wait(descriptor)
                yield temporaries
            finally:
                os.close(descriptor)

    @contextlib.contextmanager
    def _temporaries(self) -> Iterator[int]:
        make_readable(self.root)
        with self.parent(TEMPORARY) as (parent, name):
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=parent)
            descriptor = self._into(parent, name, TEMPORARY)
        try:
            _tighten(descriptor, self._shared(0o700, 0o070))
            yield descriptor
        finally:
            os.close(descriptor)

    def _shared(self, mode: int, group: int) -> int:
        """Return a mode for the folder's writers: its owner, and its group if it may write."""
        return mode | (group if self.root.stat().st_mode & stat.S_IWGRP else 0)

    def _wait(self, descriptor: int) -> None:
        started, pause = time.monotonic(), 0.001
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                pass
            if time.monotonic() - started > LOCK_PATIENCE_S:
                path = self.root / TEMPORARY / "lock"
                hint = f"see which: fuser -v {path}; end it, then try again"
                raise StoreError(f"{path} is held by another process", hint=hint)
            time.sleep(pause)
            pause = min(pause * 2, 0.1)


def make_readable(folder: Path) -> None:
    """Make a folder and its missing parents, readable by everybody.

    Published files are public, whatever the umask. For a private store, its owner makes the folder
    beforehand.
    """
    if folder.is_dir():
        return
    if not folder.parent.is_dir():
        make_readable(folder.parent)
    with contextlib.suppress(FileExistsError):
        folder.mkdir()
        folder.chmod(0o755)


def new_file(temporaries: int) -> tuple[int, str]:
    """Make a file in the temporary folder, locked by this process until it is closed."""
    name = f"new-{secrets.token_hex(8)}"
    descriptor = os.open(
        name, os.O_RDWR | os.O_CREAT | os.O_EXCL | _FILE, 0o600, dir_fd=temporaries
    )
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor, name


def sweep(temporaries: int) -> int:
    """Remove temporary files whose writers are gone: nobody holds their locks.

    Returns:
        Their number.
    """
    count = 0
    for name in os.listdir(temporaries):
        if not name.startswith("new-"):
            continue
        with contextlib.suppress(OSError):
            descriptor = os.open(name, os.O_RDONLY | _FILE, dir_fd=temporaries)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(name, dir_fd=temporaries)
                count += 1
            finally:
                os.close(descriptor)
    return count


def _tighten(descriptor: int, mode: int) -> None:
    """Set the mode of this user's own file or folder, to take rights away from others."""
    status = os.fstat(descriptor)
    if status.st_uid == os.geteuid() and stat.S_IMODE(status.st_mode) & 0o777 != mode:
        os.fchmod(descriptor, mode)


def _widen(descriptor: int, mode: int) -> None:
    """Give this user's own folder the rights of the store's own folder.

    This also mends a folder left by a killed process.
    """
    status = os.fstat(descriptor)
    if status.st_uid == os.geteuid() and stat.S_IMODE(status.st_mode) & mode != mode:
        os.fchmod(descriptor, stat.S_IMODE(status.st_mode) | mode)


def _is_link(name: str, descriptor: int) -> bool:
    try:
        return stat.S_ISLNK(os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode)
    except OSError:
        return False


def _possible(key: str) -> bool:
    try:
        check_key(key)
    except StoreError:
        return False
    return True
