"""A tree of a namespace <-> an archive of it, ``.tar.zst``, that holds all that the tree does.

What goes in: a folder in a namespace, and a file. Invariants: a tree that was unpacked is the one that was packed, with
owners, modes, times, links and attributes. An archive is whole: the end of each program is looked at, and tar left nothing
out. :data:`CLEAN` removes before that what no archive can hold, so a build goes on from what the next one finds.
"""

from __future__ import annotations

from pathlib import Path
from typing import IO, Final

from slipway.errors import BuildError
from slipway.namespace import Namespace

__all__ = ["CLEAN", "clean", "pack", "unpack"]

#: Sockets belong to processes that have ended; tar leaves them out.
CLEAN: Final = 'find "$1" -xdev -type s -delete'
_ATTRIBUTES: Final = ("--numeric-owner", "--xattrs", "--xattrs-include=*")


def clean(namespace: Namespace, folder: Path) -> None:
    """Remove from a tree what an archive cannot hold."""
    namespace.run(["sh", "-euc", CLEAN, "sh", folder], what="removing sockets")


def pack(namespace: Namespace, folder: Path, file: IO[bytes], *, what: str) -> None:
    """Write the archive of a tree to a file.

    Raises:
        BuildError: A program failed, or left something out.
    """
    said = Path(f"{folder}.said")
    # tar looks at the end of its compressor; a warning is something that it left out, or that changed meanwhile.
    command = 'folder=$1; shift; exec tar -C "$folder" --sort=name --sparse "$@" --use-compress-program="zstd -q -T0 -1" -cf - . 2>"$0"'
    done = namespace.run(["sh", "-euc", command, said, folder, *_ATTRIBUTES], what=what, stdout=file, check=False)
    words = namespace.path(said).read_text(errors="replace").strip()
    if done.returncode or words:
        lines = "".join(f"\n    {line}" for line in words.splitlines()[-20:])
        raise BuildError(f"{what} failed: exit status {done.returncode}{lines}")


def unpack(namespace: Namespace, archive: Path, folder: Path, *, what: str) -> None:
    """Make a tree from its archive.

    Raises:
        BuildError: The archive is not whole.
    """
    namespace.run(["mkdir", "-p", folder])
    words = ["--use-compress-program=zstd -q", *_ATTRIBUTES]
    with archive.open("rb") as file:
        namespace.run(["tar", "-C", folder, *words, "-xpf", "-"], what=what, stdin=file)
