"""Locks in files (flock(2)); anybody may remove an unlocked file.

What goes in: a path. What comes out: an open file, locked until it is closed.

Invariant: when a lock is taken, its file bears the name. So two processes never hold one lock, even
if a file was removed between them.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO

__all__ = ["own_lock", "take_lock"]


def take_lock(path: Path, how: int, waiting: Callable[[], None] | None = None) -> IO[bytes]:
    """Lock a file, and make it if it is missing.

    Args:
        how: LOCK_EX or LOCK_SH of :mod:`fcntl`.
        waiting: Called before a wait for the lock; without it, nobody waits.

    Raises:
        BlockingIOError: Another process holds the lock, and ``waiting`` is None.
    """
    while True:
        with ExitStack() as opened:
            file = opened.enter_context(path.open("ab"))
            try:
                fcntl.flock(file, how | fcntl.LOCK_NB)
            except BlockingIOError:
                if waiting is None:
                    raise
                waiting()
                fcntl.flock(file, how)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                    opened.pop_all()
                    return file


@contextlib.contextmanager
def own_lock(folder: Path) -> Iterator[Path]:
    """Hold a new lock file for this process."""
    while True:
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".lock", delete=False) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            # somebody took it for one of the dead before it was locked
            if not Path(lock.name).exists():
                continue
            yield Path(lock.name)
            return
