"""The state of the source tree: its commit, and whether anything differs from it.

What goes in: the folder with ``appliances/`` in it, and the folders below it used for an image.
What comes out: a commit, and whether the files are the commit's.

Invariants: files are compared with the commit's own blobs, byte by byte. So nothing in an index, an
exclude list or a configuration hides a change. No program named by a repository is started.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from slipway.errors import BuildError, HostError
from slipway.host import process

__all__ = ["GitState", "git_state", "why_unknown"]

#: Without the programs that a repository's configuration names, and without locks that get in the
#: way of a commit.
_OPTIONS: Final[tuple[str, ...]] = (
    "--no-optional-locks",
    "-c",
    "core.fsmonitor=false",
    "-c",
    "core.hooksPath=/dev/null",
)
#: The objects that are here, as they are: nothing is fetched, and none stands for another.
_ENVIRONMENT: Final = {
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
}
#: What Python leaves beside its modules; no image is made from it.
_CACHE: Final = "__pycache__"
_CHUNK: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class GitState:
    """The state of a source tree.

    ``commit`` is in hexadecimal digits; None without a repository or a commit. ``dirty`` is True
    for changed tracked files, for files outside the commit, and for another repository inside.
    """

    commit: str | None
    dirty: bool


def git_state(root: Path, used: Sequence[Path] = ()) -> GitState:
    """Return the state of a directory's repository.

    Without git, or outside a repository, it is unknown and counts as dirty: the files' commit
    cannot be told.

    Args:
        used: Folders for images: files ignored by git count there, too. Folders elsewhere are left
            out.
    """
    unknown = GitState(commit=None, dirty=True)
    try:
        commit = _git(root, "rev-parse", "--verify", "-q", "HEAD^{commit}")[0].strip()
        committed = _committed(_git(root, "ls-tree", "-r", "-z", commit))
        found = {
            name
            for name in _git(root, "ls-files", "--cached", "-z")
            if os.path.lexists(root / name)
        }
        found |= set(_git(root, "ls-files", "--others", "--exclude-standard", "-z"))
    except (HostError, BuildError):
        return unknown
    for folder in used:
        found.update(_names(root, folder.absolute()))
    return GitState(commit=commit, dirty=not _same(root, committed, found))


def why_unknown(root: Path) -> str | None:
    """Return a text if git refuses a repository because of its owner; None otherwise."""
    for folder in (root.absolute(), *root.absolute().parents):
        try:
            owner = (folder / ".git").lstat().st_uid
        except OSError:
            continue
        if owner == os.geteuid() and folder.stat().st_uid == owner:
            return None
        command = f"git config --global --add safe.directory {folder}"
        return f"unknown: this checkout is another user's; if you trust it: {command}"
    return None


def _git(root: Path, *words: str) -> list[str]:
    """Return the items of git's output."""
    # Root by sudo(8) may look into what its user owns, as git lets it.
    invoker = (
        {"SUDO_UID": os.environ["SUDO_UID"]}
        if os.geteuid() == 0 and "SUDO_UID" in os.environ
        else {}
    )
    argv: list[str | Path] = ["git", *_OPTIONS, "-C", root, *words]
    said = process.run(
        argv, what=f"git {words[0]}", env=_ENVIRONMENT | invoker, timeout_s=120
    ).stdout
    return [os.fsdecode(item) for item in said.split(b"\0") if item]


def _committed(listing: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return a commit's files by name, each with its mode and its object."""
    found = {}
    for entry in listing:
        about, _, name = entry.partition("\t")
        mode, _kind, identity = about.split()
        found[name] = (mode, identity)
    return found


def _names(root: Path, folder: Path) -> Iterator[str]:
    """Yield the files in a folder, by name from the root; none if the folder is elsewhere."""
    top = next(
        (top for top in (root.absolute(), root.resolve()) if folder.is_relative_to(top)), None
    )
    if top is None:
        return
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name != _CACHE]
        links = [name for name in folders if Path(place, name).is_symlink()]
        for name in (*files, *links):
            yield Path(place, name).relative_to(top).as_posix()


def _same(root: Path, committed: dict[str, tuple[str, str]], found: set[str]) -> bool:
    # A repository in a folder is none of these: it has a configuration of its own, so nobody looks
    # into it.
    return found <= committed.keys() and all(
        _is(root / name, *about) for name, about in committed.items()
    )


def _is(path: Path, mode: str, identity: str) -> bool:
    """Return True if a file is a commit's: its kind, its executable bit, and its content."""
    try:
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            link = os.fsencode(path.readlink())
            return mode == "120000" and _started(len(link), identity, link).hexdigest() == identity
        if not stat.S_ISREG(status.st_mode) or mode != (
            "100755" if status.st_mode & stat.S_IXUSR else "100644"
        ):
            return False
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            return _is_blob(file, status.st_size, identity)
    except OSError:
        return False


def _is_blob(file: IO[bytes], size: int, identity: str) -> bool:
    """Return True if a file has an object's content, or the content behind its Git LFS pointer.

    Git LFS keeps the pointer in the commit
    (https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md).
    """
    digest, whole = _started(size, identity), hashlib.sha256()
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
        whole.update(chunk)
    if digest.hexdigest() == identity:
        return True
    pointer = (
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{whole.hexdigest()}\nsize {size}\n"
    ).encode()
    return _started(len(pointer), identity, pointer).hexdigest() == identity


def _started(size: int, identity: str, content: bytes = b"") -> hashlib._Hash:
    """Return the begun hash of an object of this size as git makes it.

    It is SHA-1 or SHA-256, by the length of the known identity.
    """
    begun = b"blob %d\0" % size + content
    return (
        hashlib.sha256(begun) if len(identity) == 64 else hashlib.sha1(begun, usedforsecurity=False)
    )
