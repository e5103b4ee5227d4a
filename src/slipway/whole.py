"""A check of a folder's files against their SHA-256, without reading them each time.

What goes in: a folder, and the SHA-256 of each file by name. Invariant: a file is believed unread
only if nothing about it has changed since it was read. This includes its inode's change time
(stat(2), ctime), as no program can set that.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from slipway.cache import create_file, sha256_of

__all__ = ["whole"]

#: The record beside the folder: the state and the hash of its files when they were read.
_SEEN: Final = ".seen"


def whole(folder: Path, hashes: Mapping[str, str]) -> bool:
    """Return True if each file exists with its hash."""
    memory = folder.with_name(f"{_SEEN}-{folder.name}")
    seen = _read(memory)
    found: dict[str, list[object]] = {}
    try:
        for name, sha256 in hashes.items():
            like = _like(folder / name)
            known = seen.get(name)
            found[name] = [
                *like,
                known[-1] if known and known[:-1] == like else sha256_of(folder / name),
            ]
            if found[name][-1] != sha256:
                return False
    except OSError:
        return False
    if found != seen:
        with contextlib.suppress(OSError), create_file(memory, mode=0o644) as file:
            file.write(json.dumps(found).encode())
    return True


def _like(path: Path) -> list[object]:
    status = path.lstat()
    return [status.st_ino, status.st_size, status.st_mode, status.st_mtime_ns, status.st_ctime_ns]


def _read(memory: Path) -> dict[str, list[object]]:
    try:
        seen = json.loads(memory.read_bytes())
        return {str(name): list(entry) for name, entry in seen.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}
