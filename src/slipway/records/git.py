"""The state of the source tree: which commit, and whether anything differs from it.

What goes in: the folder that holds ``appliances/``, and the folders below it that an image is made
from. What comes out: a commit, and whether the files are the commit's. Invariants: files are
compared with the commit's own blobs, byte by byte, so nothing in an index, an exclude list or a
configuration hides one; no program that a repository names is started.
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
    """``commit`` in hexadecimal digits, None where there is no repository or no commit yet;
    ``dirty`` whether tracked files differ from it, files are there that it does not have, or
    another repository is.
    """

    commit: str | None
    dirty: bool


def git_state(root: Path, used: Sequence[Path] = ()) -> GitState:
    """The state of the repository that a directory is in. Without git, or outside a repository, it
    is unknown, which counts as dirty: nobody can say from which commit the files came.

    Args:
        used: Folders that images are made from: files that git ignores count there, too. Those
            elsewhere are left out.
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
    """Say that git does not look into a repository because somebody else owns it; None where that
    is not so.
    """
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
    """Return what git lists."""
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
    """A commit's files by name, each with its mode and its object."""
    found = {}
    for entry in listing:
        about, _, name = entry.partition("\t")
        mode, _kind, identity = about.split()
        found[name] = (mode, identity)
    return found


def _names(root: Path, folder: Path) -> Iterator[str]:
    """What is in a folder, by its name from the root; nothing of a folder that is not below it."""
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
    """Return whether a file is a commit's: its kind, whether it can be run, and its content."""
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
    """Return whether a file's content is an object, or what the object stands for.

    Git LFS keeps a pointer in the commit
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
    """Return the hash of an object of that size as git makes it, SHA-1 or SHA-256 by the length of
    what is known.
    """
    begun = b"blob %d\0" % size + content
    return (
        hashlib.sha256(begun) if len(identity) == 64 else hashlib.sha1(begun, usedforsecurity=False)
    )
