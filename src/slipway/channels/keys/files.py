"""Read and change the files of a channel's keys, and refuse files that others can change.

Input: folders and files. Output: their content, or a refusal with the file and the command to mend
it. A change of several files is written to a journal first (``change.json``, in one piece), then
done file by file. An interrupted change is completed by the same command.

Invariants: Nothing is read if another user owns or can write it. Before the journal is there,
nothing has changed. After it, nothing more is needed but this folder.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import pwd
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from slipway.cache import create_file
from slipway.errors import HostError, UsageError, VerificationError

__all__ = [
    "JOURNAL",
    "SIGNERS",
    "Change",
    "MissingKeys",
    "Secret",
    "carry_out",
    "keys_directory",
    "locked",
    "new_folder",
    "parse_json",
    "read_file",
    "require_folder",
    "require_own",
    "require_whole",
    "roots_in",
    "write",
]

SIGNERS: Final = "signers.json"
JOURNAL: Final = "change.json"


class MissingKeys(HostError):
    """The keys of a channel are not here: the normal case for most channels (exit code 4)."""


@dataclass(frozen=True, slots=True, repr=False)
class Secret:
    """Bytes that no log, error or traceback shows."""

    value: bytes

    def __repr__(self) -> str:
        return "<secret>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Files to write and to remove in a channel's folder.

    Paths are relative to the folder of all keys. ``command`` makes this change, and completes it
    when run again.
    """

    command: str
    private: Mapping[str, Secret]
    public: Mapping[str, bytes]
    signers: Mapping[str, Any] | None
    removed: Sequence[str] = ()


def keys_directory() -> Path:
    """Return the folder of all keys: SLIPWAY_KEYS, or one in the user's configuration (XDG)."""
    set_ = os.environ.get("SLIPWAY_KEYS")
    if set_:
        return Path(set_).expanduser().absolute()
    config = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(config) if config.startswith("/") else Path.home() / ".config") / "slipway/keys"


def require_own(path: Path, *, private: bool = False) -> Path:
    """Refuse a file or folder that another user owns or can write, itself or by a folder above it.

    Args:
        private: Also refuse a file others can read.

    Raises:
        HostError: Another user owns it or can write it, or read it if ``private``.
        FileNotFoundError: It does not exist.
    """
    real = path.resolve(strict=True)
    status = real.stat()
    if status.st_uid != os.geteuid():
        raise HostError(
            f"{path} belongs to another user: {_user(status.st_uid)}",
            hint="keep keys in a folder of your own: --keys DIR, or SLIPWAY_KEYS",
        )
    if private and status.st_mode & 0o077:
        raise HostError(
            f"{path} can be read by others",
            hint=f"run: chmod 600 {path}; and think of replacing it: invoke keys rotate",
        )
    if status.st_mode & 0o022:
        raise HostError(
            f"{path} can be written by others",
            hint=f"run: chmod go-w {path}; then check: invoke keys show",
        )
    for parent in real.parents:
        _require_parent(parent, path)
    return path


def _require_parent(parent: Path, path: Path) -> None:
    """Refuse a folder if somebody else could rename the path to a key in it."""
    status = parent.stat()
    if status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX:
        raise HostError(
            f"{parent} can be written by others, who could replace {path}",
            hint=f"run: chmod go-w {parent}; or keep keys elsewhere: --keys DIR, or SLIPWAY_KEYS",
        )
    if status.st_uid not in (0, os.geteuid()):
        raise HostError(
            f"{parent} belongs to another user, {_user(status.st_uid)}, who could replace {path}",
            hint="keep keys in a folder of your own: --keys DIR, or SLIPWAY_KEYS",
        )


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def require_folder(folder: Path) -> None:
    """Refuse a folder of keys if others can write any part of it, or read a private one.

    Raises:
        HostError: Others can write a part, or read a private one.
        FileNotFoundError: The folder does not exist.
    """
    require_own(folder)
    for path in sorted(folder.iterdir()):
        if path.suffix == ".pem" or path.name == JOURNAL:
            require_own(path, private=True)
        elif path.suffix == ".json":
            require_own(path)


def read_file(path: Path) -> bytes:
    """Read a file that only its owner can change.

    Raises:
        HostError: Others can change the file.
        FileNotFoundError: The file does not exist.
    """
    return require_own(path).read_bytes()


def roots_in(folder: Path) -> tuple[bytes, ...]:
    """Return the root metadata of a channel, the oldest first."""
    numbered = [(path.name.removesuffix(".root.json"), path) for path in folder.glob("*.root.json")]
    known = sorted(
        (int(number), path) for number, path in numbered if number.isascii() and number.isdigit()
    )
    return tuple(path.read_bytes() for _, path in known)


def new_folder(folder: Path) -> None:
    """Make a folder for keys, the user's own and outside of any repository.

    Raises:
        UsageError: The folder is inside a repository.
    """
    if any((parent / ".git").exists() for parent in folder.parents):
        raise UsageError(
            f"{folder} is inside a repository",
            hint="keep keys outside of it: --keys DIR, or SLIPWAY_KEYS",
        )
    for each in (folder.parent, folder):
        each.mkdir(parents=True, exist_ok=True, mode=0o700)
        require_own(each)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a channel's keys."""
    descriptor = os.open(
        folder / ".lock", os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
    )
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def carry_out(folder: Path, change: Change) -> None:
    """Note a change in the journal, then make it."""
    record = {
        "command": change.command,
        "private": {
            name: base64.b64encode(secret.value).decode() for name, secret in change.private.items()
        },
        "public": {
            name: base64.b64encode(content).decode() for name, content in change.public.items()
        },
        "signers": change.signers,
        "removed": list(change.removed),
    }
    write(folder / JOURNAL, (json.dumps(record) + "\n").encode(), 0o600)
    complete(folder)


def complete(folder: Path) -> str | None:
    """Make the change in a folder's journal, if there is one.

    Returns its command.
    """
    try:
        record = parse_json(read_file(folder / JOURNAL), str(folder / JOURNAL))
    except FileNotFoundError:
        return None
    for kind, mode in (("private", 0o600), ("public", 0o644)):
        for name, content in record[kind].items():
            path = folder.parent / name
            if path.parent != folder:
                new_folder(path.parent)
            write(path, base64.b64decode(content), mode)
    if record["signers"] is not None:
        write(folder / SIGNERS, (json.dumps(record["signers"], indent=2) + "\n").encode(), 0o600)
    for name in record["removed"]:
        remove(folder.parent / name)
    remove(folder / JOURNAL)  # last: while it is there, the change is not whole
    return str(record["command"])


def require_whole(folder: Path) -> None:
    """Refuse keys with an interrupted change.

    Raises:
        HostError: The last change was interrupted.
    """
    try:
        record = parse_json(read_file(folder / JOURNAL), str(folder / JOURNAL))
    except FileNotFoundError:
        return
    raise HostError(
        f"a change of the keys in {folder} was interrupted",
        hint=f"complete it, run again: {record['command']}",
    )


def write(path: Path, content: bytes, mode: int) -> None:
    """Write a file in one piece."""
    with create_file(path, mode=mode) as file:
        file.write(content)


def remove(path: Path) -> None:
    """Remove a file, and its folder if that was a root key's and is empty now."""
    path.unlink(missing_ok=True)
    if ".root-" in path.parent.name and path.parent.is_dir() and not any(path.parent.iterdir()):
        path.parent.rmdir()


def parse_json(data: bytes, source: str) -> Any:
    """Parse JSON; an error shows nothing of it.

    Raises:
        VerificationError: The data is not JSON.
    """
    problem = ""
    try:
        return json.loads(data)
    except ValueError as error:
        problem = error.msg if isinstance(error, json.JSONDecodeError) else "not UTF-8"
    del data  # no traceback shows it
    raise VerificationError(f"{source} is not JSON: {problem}")
