"""The user's own folders for the memories of stores.

Input: a store, and a folder. Output: the store's name, and the folder, made if missing. Invariant:
nobody else can write there.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from slipway.errors import HostError
from slipway.settings import STATE
from slipway.stores import Store

__all__ = ["client_folder", "place_of", "private_folder", "require_private"]


def client_folder(memory: Path, store: Store, channel: str, root: bytes) -> Path:
    """Return the folder for the metadata of a channel that a user's client accepted.

    Another trusted root is another channel.

    Raises:
        HostError: Others can write there, or the folder cannot be made.
    """
    name = hashlib.sha256(
        b"\0".join((place_of(store).encode(), channel.encode(), root))
    ).hexdigest()[:16]
    try:
        for folder in (memory.parent, memory, memory / name):
            private_folder(folder)
    except OSError as error:
        raise HostError(
            f"what was seen of channels cannot be kept in {memory}: {error.strerror}",
            hint=f"name a folder that lasts: {STATE}",
        ) from error
    return memory / name


def place_of(store: Store) -> str:
    """Return the name of a store in its memories: two paths of a folder are one store."""
    return store.url if "://" in store.url else os.path.realpath(store.url)


def private_folder(folder: Path) -> Path:
    """Return a folder of the user's own, made if missing.

    Raises:
        HostError: Others own it or can write to it.
    """
    for each in (*reversed(folder.parents), folder):
        # The mode is for new folders only: an existing one above is its owner's choice.
        if not each.exists():
            each.mkdir(exist_ok=True, mode=0o700)
    return require_private(folder)


def require_private(path: Path) -> Path:
    """Refuse a file or folder that others own or can write.

    Raises:
        HostError: Others own it or can write it.
        FileNotFoundError: It does not exist.
    """
    status = path.stat()
    if status.st_uid != os.geteuid():
        raise HostError(
            f"{path} belongs to another user", hint=f"name a folder of your own: {STATE}"
        )
    if status.st_mode & 0o022:
        raise HostError(
            f"{path} can be written by others",
            hint=f"run: chmod go-w {path}; whoever could write it could hide what was seen",
        )
    return path
