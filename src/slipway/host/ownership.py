"""Folders that nobody else can have put anything into.

What goes in: a folder to trust: the cache, or a finished build. What comes out: nothing, or a
:class:`~slipway.errors.HostError` with the place, its owner or its mode, and the command to mend
it.

Invariants: a file's owner can write it. Neither a mode nor a hash beside it tells its writer. So
anything owned or writable by another user is refused, without a look at its content.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import pwd
import stat
from pathlib import Path

from slipway.errors import HostError

__all__ = [
    "make_private",
    "require_own",
    "require_own_folder",
    "require_private",
    "require_writable",
]

_WRITABLE = stat.S_IWGRP | stat.S_IWOTH


def require_private(folder: Path, *, setting: str) -> None:
    """Require a folder and its parents to be this user's or root's, and writable by nobody else.

    Args:
        folder: Made for this user alone if it does not exist.
        setting: The environment variable for another folder, for the hint.

    Raises:
        HostError: Another user owns the folder, can write it, or can put another in its place.
    """
    with contextlib.suppress(OSError):  # where nothing can be written, the first write says so
        make_private(folder)
    hint = f"use a folder of your own: export {setting}=DIRECTORY"
    # The way as it is written, where a link can be exchanged, and the way that it leads.
    ways = dict.fromkeys((*reversed(folder.absolute().parents), folder.absolute()))
    ways |= dict.fromkeys((*reversed(folder.resolve().parents), folder.resolve()))
    for place in ways:
        try:
            status = place.lstat()
        except OSError:
            break
        if place == folder.resolve():
            _require(place, status, hint)
        else:
            _require_way(place, status, hint)
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            require_own(Path(entry.path), entry.stat(follow_symlinks=False))


def make_private(folder: Path) -> None:
    """Make a folder that nobody else can look into, if it does not exist."""
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)


def require_writable(folder: Path) -> None:
    """Refuse an unwritable folder before work starts.

    A missing folder is made later: the nearest existing folder above it counts.

    Raises:
        OSError: Nothing can be made in this folder, or it is no folder.
    """
    there = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
    if not there.is_dir():
        raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(there))
    if not os.access(there, os.W_OK | os.X_OK):
        number = errno.EROFS if os.statvfs(there).f_flag & os.ST_RDONLY else errno.EACCES
        raise OSError(number, os.strerror(number), str(there))


def require_own(path: Path, status: os.stat_result) -> None:
    """Require a file or a folder in a private folder to be this user's.

    Raises:
        HostError: Another user owns it, or can write into the folder.
    """
    writable = stat.S_ISDIR(status.st_mode) and status.st_mode & _WRITABLE
    if status.st_uid != os.geteuid() or writable:
        raise _refused(path, status, f"somebody else may have made it: rm -r {path}")


def require_own_folder(folder: Path) -> None:
    """Require a finished build to be this user's, with all its files, and writable by nobody else.

    The two folders above may be another user's, since a checkout's owner has its code, too. Others
    must not be able to write them.

    Raises:
        HostError: Another user owns or can write some of it.
    """
    for place in (folder.parent.parent, folder.parent):
        status = place.stat()
        if _others_write(status):
            raise _refused(place, status, f"run: chmod go-w {place}")
    hint = (
        f"build it again as this user; if you trust it: cp -r {folder} COPY, chmod -R go-w "
        "COPY, and use that"
    )
    for path in (folder, *folder.iterdir()):
        _require(path, path.lstat(), hint)


def _require(place: Path, status: os.stat_result, hint: str) -> None:
    if status.st_uid != os.geteuid() or (
        status.st_mode & _WRITABLE and not stat.S_ISLNK(status.st_mode)
    ):
        raise _refused(place, status, hint)


def _require_way(place: Path, status: os.stat_result, hint: str) -> None:
    """Refuse a folder above if others can exchange its entries.

    Its entries are safe if others cannot write it. In a sticky folder, others replace
    only their own entries.
    """
    if status.st_uid not in (0, os.geteuid()) or _others_write(status):
        raise _refused(place, status, hint)


def _others_write(status: os.stat_result) -> bool:
    """Return True if others than root and this user can exchange a folder's entries."""
    if stat.S_ISLNK(status.st_mode) or status.st_mode & stat.S_ISVTX:
        return False
    return bool(
        status.st_mode & stat.S_IWOTH
        or (status.st_mode & stat.S_IWGRP and not _only_mine(status.st_gid))
    )


def _only_mine(group: int) -> bool:
    """Return True if a group is root's or this user's own, with nobody else in it.

    Debian makes such a group for each user.
    """
    try:
        me, found = pwd.getpwuid(os.geteuid()), grp.getgrgid(group)
    except KeyError:
        return False
    return (
        found.gr_gid in (0, me.pw_gid)
        and found.gr_name in ("root", me.pw_name)
        and set(found.gr_mem) <= {"root", me.pw_name}
    )


def _refused(place: Path, status: os.stat_result, hint: str) -> HostError:
    try:
        owner = pwd.getpwuid(status.st_uid).pw_name
    except KeyError:
        owner = str(status.st_uid)
    said = f"belongs to {owner}" if status.st_uid != os.geteuid() else "can be written by others"
    return HostError(
        f"{place} {said} (mode {stat.S_IMODE(status.st_mode):04o}), so what is in "
        "it is not believed",
        hint=hint,
    )
