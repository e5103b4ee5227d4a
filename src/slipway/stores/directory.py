"""A store in a directory: for one machine, or for a web server that hands the files out.

An object is the file of its key. Invariants: a file is written below ``.tmp/``, flushed, and only then linked (which
fails where the name exists) or renamed to its place; whoever writes holds a lock on its temporary file, and the next
writer removes those that nobody holds, so that a killed process leaves nothing for longer than that. The file system
must have hard links and flock.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Final

from slipway.cache import sha256_of
from slipway.errors import StoreError
from slipway.stores import AlreadyExists, Blob, Conflict, NotFound, Status, check_key

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
    """The store of ``directory://PATH`` or of a plain path."""
    return DirectoryStore(Path(url.removeprefix("directory://")).expanduser())


class DirectoryStore:
    """See :class:`slipway.stores.Store`. The version of an object is the SHA-256 of its content."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()
        self.url = str(self.directory)
        self._swept = False

    def create(self, key: str, data: bytes) -> bool:
        """See :meth:`slipway.stores.Store.create`."""
        return self._create(key, (data,), hashlib.sha256(data).hexdigest())

    def create_file(self, key: str, path: Path, *, sha256: str) -> bool:
        """See :meth:`slipway.stores.Store.create_file`. What exists already is compared by hash, nothing is copied then."""
        with path.open("rb") as file:
            return self._create(key, iter(lambda: file.read(_CHUNK), b""), sha256)

    def swap(self, key: str, data: bytes, *, etag: str | None) -> str:
        """See :meth:`slipway.stores.Store.swap`."""
        target = self._path(key)
        with self._reported(key), self._temporary() as (file, temporary):
            file.write(data)
            _finish(file, 0o644)
            with self._locked():
                try:
                    found = sha256_of(target)
                except FileNotFoundError:
                    found = None
                if found != etag:
                    raise Conflict(f"{key} was changed by somebody else" if found else f"{key} is not there any more")
                target.parent.mkdir(parents=True, exist_ok=True)
                temporary.replace(target)
            _flush_directory(target.parent)
        return hashlib.sha256(data).hexdigest()

    def read(self, key: str) -> Blob:
        """See :meth:`slipway.stores.Store.read`."""
        with self._reported(key):
            data = self._path(key).read_bytes()
        return Blob(data=data, etag=hashlib.sha256(data).hexdigest())

    def read_range(self, key: str, start: int, length: int) -> bytes:
        """See :meth:`slipway.stores.Store.read_range`."""
        with self._reported(key), self._path(key).open("rb") as file:
            file.seek(start)
            return file.read(length)

    def list(self, prefix: str = "") -> Iterator[Status]:
        """See :meth:`slipway.stores.Store.list`."""
        folder, _, _ = prefix.rpartition("/")
        top = self._path(folder) if folder else self.directory
        found = []
        with self._reported(prefix):
            for directory, folders, names in os.walk(top, onerror=_unless_missing):
                here = Path(directory).relative_to(self.directory)
                folders[:] = [name for name in folders if not name.startswith(".")]
                keys = [(here / name).as_posix() for name in names if not name.startswith(".")]
                found += [key for key in keys if key.startswith(prefix)]
        for key in sorted(found):
            status = self.stat(key)
            if status:  # it may have been deleted meanwhile
                yield status

    def stat(self, key: str) -> Status | None:
        """See :meth:`slipway.stores.Store.stat`."""
        try:
            with self._reported(key):
                status = self._path(key).stat()
        except NotFound:
            return None
        return Status(key=key, size=status.st_size, modified=status.st_mtime)

    def delete(self, key: str) -> None:
        """See :meth:`slipway.stores.Store.delete`; directories that became empty go too."""
        path = self._path(key)
        with self._reported(key):
            path.unlink(missing_ok=True)
            for folder in path.relative_to(self.directory).parents[:-1]:
                try:
                    (self.directory / folder).rmdir()
                except OSError:
                    break  # not empty, or gone

    def renew(self, key: str) -> None:
        """See :meth:`slipway.stores.Store.renew`."""
        with self._reported(key):
            os.utime(self._path(key))

    def now(self) -> float:
        """See :meth:`slipway.stores.Store.now`: the file system's clock, which may be another machine's."""
        with self._reported(""), self._temporary() as (file, _):
            return os.fstat(file.fileno()).st_mtime

    def sweep(self, before: float) -> int:
        """See :meth:`slipway.stores.Store.sweep`: also those that began later, if their writers are gone."""
        with self._reported(""), self._locked():
            return _sweep(self.directory / ".tmp")

    def _path(self, key: str) -> Path:
        return self.directory / check_key(key)

    def _create(self, key: str, chunks: Iterable[bytes], sha256: str) -> bool:
        target = self._path(key)
        with self._reported(key):
            if target.exists():
                return self._compare(key, target, sha256)
            digest = hashlib.sha256()
            with self._temporary() as (file, temporary):
                for chunk in chunks:
                    digest.update(chunk)
                    file.write(chunk)
                if digest.hexdigest() != sha256:
                    raise StoreError(f"what was to become {key} has the SHA-256 {digest.hexdigest()}, expected {sha256}")
                _finish(file, 0o444)
                try:
                    _link(temporary, target)
                except FileExistsError:
                    return self._compare(key, target, sha256)
            _flush_directory(target.parent)
        return True

    def _compare(self, key: str, target: Path, sha256: str) -> bool:
        if sha256_of(target) != sha256:
            raise AlreadyExists(f"{key} exists already with another content", hint="what is published is never replaced")
        return False

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Be the only one, of all processes, who swaps or who makes or removes temporary files."""
        folder = self.directory / ".tmp"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @contextlib.contextmanager
    def _temporary(self) -> Iterator[tuple[IO[bytes], Path]]:
        """A locked file below ``.tmp/`` that is gone after the block, unless it was renamed."""
        with self._locked():
            if not self._swept:
                _sweep(self.directory / ".tmp")
                self._swept = True
            descriptor, name = tempfile.mkstemp(dir=self.directory / ".tmp", prefix="new-")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file, Path(name)
        finally:
            Path(name).unlink(missing_ok=True)

    @contextlib.contextmanager
    def _reported(self, key: str) -> Iterator[None]:
        """Errors of the file system as errors of the store."""
        try:
            yield
        except FileNotFoundError as error:
            raise NotFound(f"there is no {key} in {self.url}") from error
        except OSError as error:
            hint = _HINTS.get(error.errno or 0)
            raise StoreError(f"{key} in {self.url}: {os.strerror(error.errno or errno.EIO)}", hint=hint) from error


def _unless_missing(error: OSError) -> None:
    """What os.walk does with a folder that it cannot read: it is no error only if it does not exist."""
    if not isinstance(error, FileNotFoundError):
        raise error


def _finish(file: IO[bytes], mode: int) -> None:
    """Bring everything to the disk, before the file gets its name."""
    file.flush()
    os.fchmod(file.fileno(), mode)
    os.fsync(file.fileno())


def _link(source: Path, target: Path) -> None:
    """Give a file its name, which must be free; folders are made, also when somebody removes them at that moment."""
    for attempt in range(10):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, target)
        except FileNotFoundError:
            if attempt == 9:
                raise
        else:
            return


def _flush_directory(folder: Path) -> None:
    """Bring a new name to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sweep(folder: Path) -> int:
    """Remove the temporary files whose writers are gone: nobody holds their locks; returns how many."""
    count = 0
    for path in folder.glob("new-*"):
        with contextlib.suppress(OSError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
            count += 1
    return count
