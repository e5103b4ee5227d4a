"""Download one object of a store into a file with the signed content, under a free name.

Input: a :class:`Wanted` file of a release, a folder, and the file's name there. Output: its path.
Invariants:

* Nothing existing is replaced, written to or followed. The same content under the name is success.
* Bytes are written only to ``.<name>.<hash>.part``: a regular file of the caller's own with one
  name and mode 0600. Anything else with this name is removed, never opened for writing.
* The whole file is hashed through the open descriptor, before it gets its name and again after.
* An interrupted download resumes. One byte for each range, behind the content, marks the ranges
  already here.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from slipway.channels.layout import target_key
from slipway.errors import HostError, UsageError, VerificationError
from slipway.records.reference import ReleaseRef
from slipway.stores import Store

__all__ = ["Wanted", "download"]

_RANGE: Final = 8 << 20
#: How often a planted file in the place of the unfinished one is removed, before it is an error.
_TRIES: Final = 5
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A file of a release as listed by a channel: its size in bytes, and its SHA-256."""

    ref: ReleaseRef
    file: str
    size: int
    sha256: str

    @property
    def key(self) -> str:
        """Its key in the store."""
        return target_key(self.ref, self.file, self.sha256)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """An open folder and a name in it; every operation goes through the folder's descriptor."""

    folder: int
    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    def beside(self, name: str) -> _Place:
        """Return another name in the same folder."""
        return _Place(folder=self.folder, path=self.path.with_name(name))

    def status(self) -> os.stat_result | None:
        """Return the status of this name, without following a link; None if the name is free."""
        try:
            return os.stat(self.name, dir_fd=self.folder, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def open(self, flags: int) -> int:
        """Open the file with this name, never through a link and never waiting."""
        flags |= os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        return os.open(self.name, flags, 0o600, dir_fd=self.folder)

    def holds(self, descriptor: int) -> bool:
        """Return True if this name means the open file, in the folder and by its whole path."""
        mine = os.fstat(descriptor)
        by_path = os.lstat(self.path) if os.path.lexists(self.path) else None
        return all(
            each is not None and os.path.samestat(each, mine) for each in (self.status(), by_path)
        )

    def remove(self, descriptor: int) -> None:
        """Remove the name if it means the open file."""
        found = self.status()
        if found is not None and os.path.samestat(found, os.fstat(descriptor)):
            os.unlink(self.name, dir_fd=self.folder)


def download(
    store: Store,
    wanted: Wanted,
    directory: Path,
    *,
    name: str = "",
    threads: int = 4,
    progress: Callable[[int], None] = lambda done: None,
) -> Path:
    """Fetch a file in parallel ranges, and resume an interrupted download.

    Args:
        name: The file's name here (default: as in the store).
        progress: Called with the number of bytes already here.

    Raises:
        VerificationError: The store or the folder was tampered with; nothing is kept.
        HostError: The file cannot be written, or something else has its name.
    """
    name = name or wanted.file
    if not _NAME.fullmatch(name):
        raise UsageError(f"a download cannot be called {name!r}")
    path = directory / name
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with _opened(directory) as folder:
            target = _Place(folder=folder, path=path)
            part = target.beside(f".{name}.{wanted.sha256[:16]}.part")
            if _is_there(target, part, wanted):
                return path
            with _unfinished(part) as descriptor:
                # Another run may have finished it while this one waited.
                if not _is_there(target, part, wanted):
                    try:
                        _fill(store, wanted, descriptor, threads, progress)
                        _finish(target, part, descriptor, wanted)
                    except VerificationError:
                        part.remove(descriptor)
                        raise
                part.remove(descriptor)
    except OSError as error:
        hint = "give another folder: --out DIR"
        raise HostError(f"{path} cannot be written: {error.strerror}", hint=hint) from error
    return path


@contextlib.contextmanager
def _opened(directory: Path) -> Iterator[int]:
    """Hold a folder's descriptor open.

    Raises:
        HostError: Other users can replace files in the folder, or made the link to it.
    """
    trusted = {0, os.geteuid()}
    hint = "give a folder that only you can write: --out DIR"
    link = os.lstat(directory)
    if stat.S_ISLNK(link.st_mode) and link.st_uid not in trusted:
        raise HostError(f"{directory} is a link that another user made", hint=hint)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        foreign = status.st_uid not in trusted and os.geteuid() != 0
        if foreign or status.st_mode & (stat.S_IWOTH | stat.S_ISVTX) == stat.S_IWOTH:
            raise HostError(f"other users can replace what is in {directory}", hint=hint)
        yield descriptor
    finally:
        os.close(descriptor)


def _is_there(target: _Place, part: _Place, wanted: Wanted) -> bool:
    """Return True if the file is there already, False if its name is free.

    Raises:
        HostError: Something else has its name.
    """
    found = target.status()
    if found is None:
        return False
    hint = "move it away, or give another folder: --out DIR"
    if not stat.S_ISREG(found.st_mode):
        raise HostError(f"{target.path} exists and is not a regular file", hint=hint)
    if found.st_uid not in (0, os.geteuid()):
        raise HostError(f"{target.path} exists and belongs to another user", hint=hint)
    descriptor = target.open(os.O_RDONLY)
    try:
        same = os.fstat(descriptor).st_size == wanted.size and _sha256(descriptor) == wanted.sha256
        if not (same and target.holds(descriptor)):
            raise HostError(
                f"{target.path} exists with other content, and is left as it is", hint=hint
            )
        # a run killed right after naming the file left both names
        part.remove(descriptor)
    finally:
        os.close(descriptor)
    return True


@contextlib.contextmanager
def _unfinished(part: _Place) -> Iterator[int]:
    """Hold the unfinished file of an earlier run, or a new one, open and locked.

    Raises:
        HostError: Something else has its name, and cannot be removed or comes back.
    """
    descriptor = next(
        (found for found in (_open_part(part) for _ in range(_TRIES)) if found is not None), None
    )
    if descriptor is None:
        raise HostError(
            f"somebody keeps replacing {part.path}",
            hint="give a folder that only you can write: --out DIR",
        )
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _open_part(part: _Place) -> int | None:
    """Open and lock the unfinished file, or create it.

    Returns:
        None if the file changed meanwhile: look again.
    """
    found = part.status()
    if found is not None and not _is_ours(found):
        try:
            os.unlink(part.name, dir_fd=part.folder)
        except OSError as error:
            hint = "remove it, or give another folder: --out DIR"
            raise HostError(
                f"{part.path} is not a download of yours: {error.strerror}", hint=hint
            ) from error
        found = None
    try:
        descriptor = part.open(os.O_RDWR | (os.O_CREAT | os.O_EXCL if found is None else 0))
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOENT, errno.ELOOP):
            return None
        raise
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    now = part.status()
    if (
        now is not None
        and os.path.samestat(now, os.fstat(descriptor))
        and (found is None or _is_ours(now))
    ):
        return descriptor
    os.close(descriptor)
    return None


def _is_ours(status: os.stat_result) -> bool:
    """Return True for a file as this module creates it: nobody else could ever open it."""
    return stat.S_ISREG(status.st_mode) and (
        status.st_uid,
        stat.S_IMODE(status.st_mode),
        status.st_nlink,
    ) == (os.geteuid(), 0o600, 1)


def _fill(
    store: Store, wanted: Wanted, descriptor: int, threads: int, progress: Callable[[int], None]
) -> None:
    """Fetch the missing ranges."""
    starts = range(0, wanted.size, _RANGE)
    size = os.fstat(descriptor).st_size
    if size == wanted.size:
        return  # whole: only its name was missing
    if size != wanted.size + len(starts):
        os.ftruncate(descriptor, 0)
        os.ftruncate(descriptor, wanted.size + len(starts))
    marks = os.pread(descriptor, len(starts), wanted.size)

    def fetch(number: int) -> int:
        length = min(_RANGE, wanted.size - starts[number])
        data = store.read_range(wanted.key, starts[number], length)
        if len(data) != length:
            raise VerificationError(
                f"{wanted.key} ends after {starts[number] + len(data)} bytes, its channel "
                f"says {wanted.size}"
            )
        _write(descriptor, data, starts[number])
        return number

    with ThreadPoolExecutor(threads) as workers:
        missing = [number for number in range(len(starts)) if not marks[number]]
        futures = [workers.submit(fetch, number) for number in missing]
        done = len(starts) - len(missing)
        try:
            for future in as_completed(futures):
                # Marked after the range: a mark too few costs a range, one too many the whole file.
                _write(descriptor, b"\1", wanted.size + future.result())
                done += 1
                progress(min(wanted.size, done * _RANGE))
        finally:
            workers.shutdown(cancel_futures=True)
    os.ftruncate(descriptor, wanted.size)


def _write(descriptor: int, data: bytes, start: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, start)
        data, start = data[written:], start + written


def _finish(target: _Place, part: _Place, descriptor: int, wanted: Wanted) -> None:
    """Give the whole file its name.

    Raises:
        VerificationError: The file differs from the channel's list, or was changed. Its names are
            gone.
        HostError: Something else has its name.
    """
    os.fsync(descriptor)
    found = _sha256(descriptor)
    if found != wanted.sha256:
        raise VerificationError(
            f"{wanted.key} has the SHA-256 {found}, its channel says {wanted.sha256}",
            hint="the store was changed; nothing was kept",
        )
    try:
        _link(descriptor, part, target)
    except FileExistsError:
        if not _is_there(target, part, wanted):
            raise
        return
    umask = os.umask(0o077)
    os.umask(umask)
    with contextlib.suppress(PermissionError):  # a file system without modes
        os.fchmod(descriptor, 0o644 & ~umask)
    os.fsync(target.folder)
    if not target.holds(descriptor) or _sha256(descriptor) != wanted.sha256:
        target.remove(descriptor)
        raise VerificationError(
            f"{target.path} was changed while it got its name",
            hint="give a folder that only you can write: --out DIR",
        )


def _link(descriptor: int, part: _Place, target: _Place) -> None:
    """Give the open file its name, whatever the unfinished name means by now (open(2), O_TMPFILE).

    Raises:
        FileExistsError: The name is taken.
    """
    folder = target.folder
    try:
        os.link(
            f"/proc/self/fd/{descriptor}",
            target.name,
            src_dir_fd=folder,
            dst_dir_fd=folder,
            follow_symlinks=True,
        )
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP):
            raise
        # A file system without hard links. The replaced empty file is our own.
        os.close(target.open(os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        os.rename(part.name, target.name, src_dir_fd=folder, dst_dir_fd=folder)


def _sha256(descriptor: int) -> str:
    with os.fdopen(os.dup(descriptor), "rb") as file:
        file.seek(0)
        return hashlib.file_digest(file, "sha256").hexdigest()
