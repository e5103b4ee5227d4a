"""Pack a tree of a namespace into an archive, ``.tar.zst``, and unpack it again.

What goes in: a folder in a namespace, and a file.

Invariants: an unpacked tree equals the packed one, with owners, modes, times, links and attributes.
An archive is whole: every program's exit status is checked, and tar left nothing out. :data:`CLEAN`
first removes files that no archive can hold. So a build continues with the same tree as the next
one unpacks.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, Final

from slipway.errors import BuildError, HostError
from slipway.host.namespace import MOUNT, Namespace, overlay_marks

__all__ = ["CLEAN", "clean", "overlay_option", "pack", "unpack"]

#: Sockets belong to ended processes; tar leaves them out.
CLEAN: Final = 'find "$1" -xdev -type s -delete'
_ATTRIBUTES: Final = ("--numeric-owner", "--xattrs", "--xattrs-include=*")


def clean(namespace: Namespace, folder: Path) -> None:
    """Remove from a tree the files that an archive cannot hold."""
    namespace.run(["sh", "-euc", CLEAN, "sh", folder], what="removing sockets")


def pack(namespace: Namespace, folder: Path, file: IO[bytes], *, what: str) -> None:
    """Write the archive of a tree to a file.

    Raises:
        BuildError: A program failed, or left something out.
    """
    said = Path(f"{folder}.said")
    # tar checks the exit status of its compressor. A warning means that a file was left out or
    # changed meanwhile.
    command = (
        'folder=$1; shift; exec tar -C "$folder" --sort=name --sparse "$@" '
        '--use-compress-program="zstd -q -T0 -1" -cf - . 2>"$0"'
    )
    done = namespace.run(
        ["sh", "-euc", command, said, folder, *_ATTRIBUTES], what=what, stdout=file, check=False
    )
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


#: Lays a folder over another, as every stage does, and takes it away again; $1 is the folder, $2
#: the options.
_TRIAL: Final = """\
cd "$1"
mkdir lower upper work point
mount -t overlay slipway point -o "lowerdir=lower,upperdir=upper,workdir=work,$2"
umount point
"""


def overlay_option(namespace: Namespace) -> str:
    """Return the options of every overlay.

    They set how marks are kept, and leave nothing to a kernel's own defaults.

    Raises:
        HostError: The working file system takes no such marks, or cannot be overlaid.
    """
    marks = overlay_marks()
    directory = namespace.path(MOUNT)
    try:
        os.setxattr(directory, f"{marks}.slipway", b"")
        os.removexattr(directory, f"{marks}.slipway")
    except OSError:
        message = (
            f"overlays keep marks in {marks} attributes here, and the file system to "
            "work in takes none"
        )
        raise HostError(message, hint="use Linux 6.6 or newer, or run as root") from None
    options = "redirect_dir=nofollow,metacopy=off,index=off"
    options = f"userxattr,{options}" if marks == "user" else options
    trial = MOUNT / "trial"
    namespace.run(["mkdir", trial])
    tried = namespace.run(["sh", "-euc", _TRIAL, "sh", trial, options], check=False)
    namespace.run(["rm", "-rf", trial])
    if tried.returncode:
        where = (
            f"the file system of {namespace.directory}"
            if namespace.directory
            else "the file system in memory"
        )
        hint = (
            "work in memory: free some, or export SLIPWAY_MEMORY_MIB=...; or have the cache on a "
            "disk of its own: export SLIPWAY_CACHE=..."
        )
        raise HostError(
            f"{where} takes no overlays; in a container, its own files are such a one", hint=hint
        )
    return options
