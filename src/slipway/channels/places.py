"""The folders of a user's own, in which is kept what was seen of stores.

What goes in: a store, and a folder. What comes out: a name for the one, and the other, made where
there is none. Invariant: nobody else can write there.
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
    """Where a user's client keeps what it accepted of a channel.

    Another trusted root is another channel.

    Raises:
        HostError: Others can write there, or it cannot be made.
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
    """The one name of a store that its memories go by: two paths of a folder are one store."""
    return store.url if "://" in store.url else os.path.realpath(store.url)


def private_folder(folder: Path) -> Path:
    """A folder of the user's own, made where there is none.

    Raises:
        HostError: Others can write to it.
    """
    for each in (*reversed(folder.parents), folder):
        # Only what is made here: a folder above that others can write is its owner's choice.
        if not each.exists():
            each.mkdir(exist_ok=True, mode=0o700)
    return require_private(folder)


def require_private(path: Path) -> Path:
    """Refuse a file or folder that others own or can write.

    Raises:
        HostError: They can.
        FileNotFoundError: There is none.
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
