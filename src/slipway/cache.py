"""Finished stages, by id: each is made once.

An entry is a folder ``stages/<id>/`` of files. Its file ``entry`` names each with its size and
SHA-256, and is written last. Files are written without a name (O_TMPFILE) and linked into place
when whole. So a killed build leaves either an entry or nothing that looks like one.

An entry is compared with its ``entry``: by size for a plan, by SHA-256 before use. A tampered or
damaged one is dropped and made again, but only by the holder of its lock. Two builds of the same
stage take turns, with a lock file each. An entry found or made within :meth:`Cache.keeping`
survives every prune until the block ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import stat
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from slipway.errors import HostError
from slipway.host import process
from slipway.host.locks import own_lock, take_lock
from slipway.host.ownership import make_private, require_own

__all__ = ["Cache", "Entry", "Usage", "create_file", "place", "sha256_of"]

#: A JSON document and a line with its SHA-256.
_ENTRY = "entry"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A finished stage: its folder, its files with sizes and SHA-256, and its maker's facts."""

    id: str
    folder: Path
    files: Mapping[str, Mapping[str, Any]]
    facts: Mapping[str, Any]

    def file(self, name: str) -> Path:
        """Return the path of one of its files."""
        return self.folder / name


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """One entry as `cache prune` sees it: sizes in bytes, times in seconds since 1970."""

    id: str
    kind: str
    size: int
    used: float


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def create_file(target: Path, *, mode: int = 0o444, lasting: bool = True) -> Iterator[IO[bytes]]:
    """Yield a file to write; it gets its name only when the block ends well.

    If the block fails, the file never existed. An existing file of that name is replaced. On a file
    system without unnamed files, a hidden file beside the target is used; it is removed when the
    block fails.

    Args:
        lasting: Flush it to the disk, so that it is whole after a power cut.

    Raises:
        HostError: No space is left.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    # A random name: processes of two containers may have the same number.
    hidden = target.parent / f".{target.name[:200]}.{secrets.token_hex(8)}"
    try:
        descriptor = os.open(target.parent, os.O_TMPFILE | os.O_RDWR, 0o600)
        named = False
    except OSError:
        descriptor = os.open(hidden, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        named = True
    try:
        with os.fdopen(descriptor, "w+b") as file:
            yield file
            file.flush()
            os.fchmod(file.fileno(), mode)
            if lasting:
                os.fsync(file.fileno())
            if not named:
                _link(file.fileno(), hidden)
        hidden.replace(target)
    except OSError as error:
        if error.errno == 28:
            raise HostError(
                f"no space left in {target.parent}",
                hint="free some space, or run: invoke cache prune",
            ) from error
        raise
    finally:
        hidden.unlink(missing_ok=True)


def _link(descriptor: int, target: Path) -> None:
    """Give an unnamed file a name (open(2), O_TMPFILE).

    os.link follows the link in /proc only through linkat(2), which it calls when given a directory.
    """
    folder = os.open(target.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        os.link(
            f"/proc/self/fd/{descriptor}",
            target.name,
            src_dir_fd=folder,
            dst_dir_fd=folder,
            follow_symlinks=True,
        )
    finally:
        os.close(folder)


def _remove(directory: Path) -> None:
    """Remove a directory.

    A tree made in a user namespace belongs to other users; it is removed as that namespace's root.
    """
    shutil.rmtree(directory, ignore_errors=True)
    if directory.exists():
        process.run(
            [
                "unshare",
                "--user",
                "--map-auto",
                "--map-root-user",
                "rm",
                "-rf",
                "--one-file-system",
                directory,
            ]
        )


def place(source: Path, target: Path) -> None:
    """Link a file that never changes to a second name; copy it across file systems."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        with source.open("rb") as content, create_file(target) as file:
            shutil.copyfileobj(content, file, 1 << 20)


def _read_record(folder: Path) -> dict[str, Any]:
    """Return the content of an entry's ``entry``; its last line is the SHA-256 of the text above.

    Raises:
        ValueError: The text does not have this SHA-256, or is not JSON.
        OSError: The file cannot be read.
    """
    text, _, digest = (folder / _ENTRY).read_text().rstrip("\n").rpartition("\n")
    if hashlib.sha256(text.encode()).hexdigest() != digest:
        raise ValueError(f"{folder / _ENTRY} was altered")
    record: dict[str, Any] = json.loads(text)
    return record


class Cache:
    """The stages below one directory.

    Args:
        directory: Made when it does not exist.
        limit_bytes: The size that :meth:`prune` shrinks it to.
    """

    def __init__(self, directory: Path, *, limit_bytes: int) -> None:
        self.directory = directory
        self.limit_bytes = limit_bytes
        self._guard = threading.Lock()
        self._locked: Counter[str] = Counter()
        self._kept: ExitStack | None = None

    def _folder(self, stage_id: str) -> Path:
        return self.directory / "stages" / stage_id

    def _make(self, folder: Path) -> None:
        """Make one of the folders below the directory, and the directory, for this user alone."""
        make_private(self.directory)
        make_private(folder)

    def find(self, stage_id: str) -> Entry | None:
        """Return an entry if all its files have their recorded sizes, else None.

        This is the cheap look for planning; :meth:`verified` reads the content too.

        Raises:
            HostError: Another user made the entry, or could have: its hashes prove nothing then.
        """
        folder = self._folder(stage_id)
        try:
            for place in (folder.parent, folder, folder / _ENTRY):
                require_own(place, place.lstat())
            record = _read_record(folder)
            for name, known in record["files"].items():
                status = (folder / name).lstat()
                require_own(folder / name, status)
                if not stat.S_ISREG(status.st_mode):
                    return None
                if status.st_size != known["size"]:
                    return None
            return Entry(id=stage_id, folder=folder, files=record["files"], facts=record["facts"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def verified(self, stage_id: str) -> Entry | None:
        """Read an entry's files and return it if their hashes match, else None.

        A bad entry is removed, unless its lock is held elsewhere: then it is being made.
        """
        self._keep(stage_id)
        entry = self._good(stage_id)
        if entry is None:
            with self._lock_at_once(stage_id) as mine:
                if mine:
                    # It may have been finished since.
                    entry = self._good(stage_id)
                    if entry is None:
                        self.drop(stage_id)
        return entry

    def _good(self, stage_id: str) -> Entry | None:
        """Return an entry if the hashes of its files match, else None."""
        entry = self.find(stage_id)
        try:
            if entry and all(
                sha256_of(entry.file(name)) == known["sha256"]
                for name, known in entry.files.items()
            ):
                os.utime(entry.folder / _ENTRY)
                return entry
        except (OSError, ValueError, KeyError):  # the holder of its lock has removed it
            pass
        return None

    @contextlib.contextmanager
    def keeping(self) -> Iterator[None]:
        """Keep every entry found or made within the block from being pruned by any process."""
        if self._kept is not None:
            yield
            return
        with ExitStack() as self._kept:
            try:
                yield
            finally:
                self._kept = None

    def _keep(self, stage_id: str) -> None:
        """Take a shared lock on an entry; pruning needs an exclusive one."""
        with self._guard:
            if self._kept is not None:
                self._kept.enter_context(
                    self._lock(f"{stage_id}.kept", fcntl.LOCK_SH, lambda: None)
                )

    def _lock(self, name: str, how: int, waiting: Callable[[], None] | None = None) -> IO[bytes]:
        self._make(self.directory / "locks")
        return take_lock(self.directory / "locks" / name, how, waiting)

    @contextlib.contextmanager
    def _lock_at_once(self, stage_id: str) -> Iterator[bool]:
        """Hold a stage's lock without waiting for it; yield False if another process has it."""
        with self._guard:
            held = self._locked[stage_id] > 0
        if held:
            yield True
            return
        with ExitStack() as stack:
            try:
                stack.enter_context(self._lock(stage_id, fcntl.LOCK_EX))
                mine = True
            except BlockingIOError:
                mine = False
            yield mine

    def drop(self, stage_id: str) -> None:
        """Remove an entry, its ``entry`` first."""
        folder = self._folder(stage_id)
        (folder / _ENTRY).unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)

    @contextlib.contextmanager
    def locked(self, stage_id: str, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Hold a stage's lock, to be its only maker; ``waiting`` is called once if it is taken."""
        with self._lock(stage_id, fcntl.LOCK_EX, waiting):
            with self._guard:
                self._locked[stage_id] += 1
            try:
                yield
            finally:
                with self._guard:
                    self._locked[stage_id] -= 1

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """Yield a directory to work in, removed after the block.

        The remains of killed builds are removed first.
        """
        below = self.directory / "scratch"
        self._make(below)
        for lock_path in below.glob("*.lock"):
            with contextlib.suppress(OSError), lock_path.open("ab") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(lock_path.with_suffix(""))
                lock_path.unlink(missing_ok=True)
        with own_lock(below) as lock_path:
            directory = lock_path.with_suffix("")
            try:
                directory.mkdir()
                yield directory
            finally:
                _remove(directory)
                lock_path.unlink(missing_ok=True)

    def add(
        self,
        stage_id: str,
        kind: str,
        files: Mapping[str, Callable[[IO[bytes]], None] | tuple[Path, str]],
        facts: Mapping[str, Any] | None = None,
    ) -> Entry:
        """Make an entry of files.

        Args:
            files: By name, either a function to write the content, or a file to move here. The
                latter is in :meth:`scratch` and comes with its SHA-256.
        """
        self._keep(stage_id)
        folder = self._folder(stage_id)
        self.drop(stage_id)
        self._make(folder.parent)
        known = {}
        try:
            make_private(folder)
            require_own(folder, folder.lstat())
            for name, source in files.items():
                if isinstance(source, tuple):
                    made, sha256 = source
                    made.replace(folder / name)
                    (folder / name).chmod(0o444)
                else:
                    with create_file(folder / name) as file:
                        source(file)
                    sha256 = sha256_of(folder / name)
                known[name] = {"size": (folder / name).stat().st_size, "sha256": sha256}
            record = {
                "kind": kind,
                "created": int(time.time()),
                "files": known,
                "facts": dict(facts or {}),
            }
            with create_file(folder / _ENTRY) as file:
                text = json.dumps(record, indent=1, sort_keys=True)
                file.write(f"{text}\n{hashlib.sha256(text.encode()).hexdigest()}\n".encode())
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return Entry(id=stage_id, folder=folder, files=known, facts=dict(facts or {}))

    def usage(self) -> list[Usage]:
        """Return all entries, the longest unused first.

        Incomplete ones, from killed builds, are the very first.
        """
        entries = []
        for folder in (self.directory / "stages").glob("*"):
            try:
                kind, used = _read_record(folder)["kind"], (folder / _ENTRY).stat().st_mtime
            except (OSError, ValueError, KeyError, TypeError):
                kind, used = "incomplete", 0.0
            size = 0
            # somebody else removes it
            with contextlib.suppress(FileNotFoundError), os.scandir(folder) as files:
                for file in files:
                    with contextlib.suppress(FileNotFoundError):
                        size += file.stat(follow_symlinks=False).st_size
            entries.append(Usage(id=folder.name, kind=kind, size=size, used=used))
        return sorted(entries, key=lambda entry: (entry.used, entry.id))

    def prune(self, *, keep_bytes: int | None = None) -> list[Usage]:
        """Remove the longest unused entries until the cache is below the limit; return them.

        Entries being made (their lock is held) or in use (:meth:`keeping`) stay.
        """
        entries = self.usage()
        total = sum(entry.size for entry in entries)
        limit = self.limit_bytes if keep_bytes is None else keep_bytes
        removed = []
        for entry in entries:
            if total <= limit and entry.kind != "incomplete":
                continue
            try:
                with (
                    self._lock(entry.id, fcntl.LOCK_EX),
                    self._lock(f"{entry.id}.kept", fcntl.LOCK_EX),
                ):
                    self.drop(entry.id)
            except BlockingIOError:
                continue
            total -= entry.size
            removed.append(entry)
        self._remove_locks()
        return removed

    def _remove_locks(self) -> None:
        """Remove the lock files of entries gone from the cache, except held ones."""
        for path in sorted((self.directory / "locks").glob("*")):
            if not self._folder(path.name.removesuffix(".kept")).exists():
                with contextlib.suppress(BlockingIOError), self._lock(path.name, fcntl.LOCK_EX):
                    path.unlink()
