"""A store in a directory: for one machine, or for a web server serving the files.

An object is the file of its key. Invariants: a file is written below ``.tmp/`` and flushed. Only
then it is linked (which fails if the name exists) or renamed to its place. A writer holds a lock on
its temporary file, and the next writer removes unlocked ones. So a killed process leaves nothing
for longer. No link below the directory is followed (:mod:`slipway.stores._folder`). The file system
must have hard links and flock.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Final

from slipway.errors import StoreError
from slipway.stores import (
    MAX_READ,
    AlreadyExists,
    Blob,
    Conflict,
    NotFound,
    Status,
    TooLarge,
    check_key,
)
from slipway.stores._folder import Folder, new_file, sweep

__all__ = ["DirectoryStore", "open_url"]

_CHUNK: Final = 1 << 20
_HINTS: Final = {
    errno.EACCES: "its owner can allow you to write there",
    errno.EDQUOT: "free some space, or raise the quota",
    errno.EMLINK: "the store needs a file system with hard links",
    errno.ENOSPC: "free some space there",
    errno.ENOTSUP: "the store needs a file system with hard links",
    errno.EPERM: "the store needs a file system with hard links",
    errno.EROFS: "mount it read-write, or give another directory",
}


def open_url(url: str) -> DirectoryStore:
    """Open the store of ``directory://PATH`` or of a plain path."""
    return DirectoryStore(Path(url.removeprefix("directory://")).expanduser())


class DirectoryStore:
    """See :class:`slipway.stores.Store`. The version of an object is the SHA-256 of its content."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()
        self.url = str(self.directory)
        self._folder = Folder(self.directory)
        self._swept = False

    def create(self, key: str, data: bytes) -> bool:
        """See :meth:`slipway.stores.Store.create`."""
        return self._create(key, (data,), hashlib.sha256(data).hexdigest(), len(data))

    def create_file(self, key: str, path: Path, *, sha256: str) -> bool:
        """See :meth:`slipway.stores.Store.create_file`.

        An existing object is compared by hash, and nothing is copied.
        """
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            return self._create(key, iter(lambda: file.read(_CHUNK), b""), sha256, size)

    def swap(self, key: str, data: bytes, *, etag: str | None) -> str:
        """See :meth:`slipway.stores.Store.swap`."""
        check_key(key)
        with self._reported(key), self._temporary() as (file, temporaries, name):
            file.write(data)
            _finish(file, 0o644)
            with self._folder.locked():
                try:
                    found = self.read(key).etag
                except NotFound:
                    found = None
                if found != etag:
                    raise Conflict(
                        f"{key} was changed by another writer"
                        if found
                        else f"{key} is not there any more"
                    )
                with self._folder.parent(key, make=True) as (parent, target):
                    os.replace(name, target, src_dir_fd=temporaries, dst_dir_fd=parent)
                    os.fsync(parent)
        return hashlib.sha256(data).hexdigest()

    def read(self, key: str, *, limit: int = MAX_READ) -> Blob:
        """See :meth:`slipway.stores.Store.read`."""
        check_key(key)
        with self._reported(key), self._folder.file(key) as (file, status):
            # No writer of a store lets a file grow; one that grows anyway is read a byte further.
            data = b"" if status.st_size > limit else file.read(status.st_size + 1)
        if max(status.st_size, len(data)) > limit:
            raise TooLarge(f"{key} in {self.url} is larger than {limit} bytes")
        return Blob(data=data, etag=hashlib.sha256(data).hexdigest())

    def read_range(self, key: str, start: int, length: int) -> bytes:
        """See :meth:`slipway.stores.Store.read_range`."""
        check_key(key)
        with self._reported(key), self._folder.file(key) as (file, status):
            file.seek(start)
            return file.read(max(0, min(length, status.st_size - start)))

    def list(self, prefix: str = "") -> Iterator[Status]:
        """See :meth:`slipway.stores.Store.list`; links, pipes and other non-files are left out."""
        try:
            with self._reported(prefix):
                found = self._folder.walk(prefix)
        except NotFound:
            return
        yield from found

    def stat(self, key: str) -> Status | None:
        """See :meth:`slipway.stores.Store.stat`."""
        check_key(key)
        try:
            with self._reported(key):
                status = self._folder.status(key)
        except NotFound:
            return None
        return Status(key=key, size=status.st_size, modified=status.st_mtime)

    def delete(self, key: str) -> None:
        """See :meth:`slipway.stores.Store.delete`; directories left empty go too."""
        check_key(key)
        with self._reported(key):
            self._folder.remove(key)

    def renew(self, key: str) -> None:
        """See :meth:`slipway.stores.Store.renew`."""
        check_key(key)
        with self._reported(key), self._folder.file(key) as (file, _):
            os.utime(file.fileno())

    def now(self) -> float:
        """See :meth:`slipway.stores.Store.now`: the file system's clock, possibly another
        machine's.
        """
        with self._reported(""), self._temporary() as (file, _temporaries, _name):
            return os.fstat(file.fileno()).st_mtime

    def sweep(self, before: float) -> int:
        """See :meth:`slipway.stores.Store.sweep`.

        Later uploads are removed too if their writers are gone.
        """
        with self._reported(""), self._folder.locked() as temporaries:
            return sweep(temporaries)

    def _create(self, key: str, chunks: Iterable[bytes], sha256: str, size: int) -> bool:
        check_key(key)
        if self.stat(key) is not None:
            # nothing is written here, so nothing else would clean up
            with contextlib.suppress(OSError, StoreError):
                self._sweep_once()
            return self._compare(key, sha256, size)
        with self._reported(key), self._temporary() as (file, temporaries, name):
            digest = hashlib.sha256()
            for chunk in chunks:
                digest.update(chunk)
                file.write(chunk)
            if digest.hexdigest() != sha256:
                raise StoreError(
                    f"the new content of {key} has the SHA-256 {digest.hexdigest()}, "
                    f"expected {sha256}"
                )
            _finish(file, 0o444)
            try:
                self._link(temporaries, name, key)
            except FileExistsError:
                return self._compare(key, sha256, size)
        return True

    def _compare(self, key: str, sha256: str, size: int) -> bool:
        """Return False if the existing object is identical; it is read only if its size is right.

        Raises:
            AlreadyExists: The existing object has other content.
        """
        with self._reported(key), self._folder.file(key) as (file, status):
            same = status.st_size == size and _sha256(file, size) == sha256
        if not same:
            raise AlreadyExists(
                f"{key} exists already with another content",
                hint="what is published is never replaced",
            )
        return False

    def _link(self, temporaries: int, name: str, key: str) -> None:
        """Give a file its name, which must be free.

        Folders are made, even if another process removes them meanwhile.
        """
        for attempt in range(10):
            try:
                with self._folder.parent(key, make=True) as (parent, target):
                    os.link(
                        name,
                        target,
                        src_dir_fd=temporaries,
                        dst_dir_fd=parent,
                        follow_symlinks=False,
                    )
                    os.fsync(parent)
            except FileNotFoundError:
                if attempt == 9:
                    raise
            else:
                return

    def _sweep_once(self) -> None:
        """Remove the remains of killed writers, the first time only."""
        if not self._swept:
            with self._folder.locked() as locked:
                sweep(locked)
            self._swept = True

    @contextlib.contextmanager
    def _temporary(self) -> Iterator[tuple[IO[bytes], int, str]]:
        """Hold a locked file below ``.tmp/``; remove it after the block unless it was renamed.

        Yields:
            The file, the descriptor of its folder and its name there.
        """
        with contextlib.ExitStack() as stack:
            self._sweep_once()
            with self._folder.locked() as locked:
                descriptor, name = new_file(locked)
                temporaries = os.dup(locked)
            stack.callback(os.close, temporaries)
            stack.callback(_unlink, temporaries, name)
            yield stack.enter_context(os.fdopen(descriptor, "wb")), temporaries, name

    @contextlib.contextmanager
    def _reported(self, key: str) -> Iterator[None]:
        """Turn errors of the file system into errors of the store."""
        try:
            yield
        except FileNotFoundError as error:
            raise NotFound(f"there is no {key} in {self.url}") from error
        except OSError as error:
            hint = _HINTS.get(error.errno or 0)
            raise StoreError(
                f"{key} in {self.url}: {os.strerror(error.errno or errno.EIO)}", hint=hint
            ) from error


def _finish(file: IO[bytes], mode: int) -> None:
    """Set a file's mode and write it to disk, before it gets its name."""
    file.flush()
    os.fchmod(file.fileno(), mode)
    os.fsync(file.fileno())


def _sha256(file: IO[bytes], size: int) -> str:
    """Hash the first ``size`` bytes of a file, ignoring bytes added meanwhile."""
    digest = hashlib.sha256()
    while size > 0 and (data := file.read(min(size, _CHUNK))):
        digest.update(data)
        size -= len(data)
    return digest.hexdigest()


def _unlink(temporaries: int, name: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=temporaries)
