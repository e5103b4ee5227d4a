"""A raw image's root file system -> its files, with the package and the size of each.

An ext4 is read in place in the disk. A read-only root is unpacked into a private namespace by
unsquashfs(1). This module runs as a program there, because the files there have owners of their
own.

Invariants: nothing is mounted, and both ways give the same items for the same files.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from slipway.disk.files import ROOT_OFFSET, Ext4, File

__all__ = ["NOBODY", "Item", "contents", "differences", "files_of", "look", "main"]

#: The owner of files that came from no package.
NOBODY = "(made by the build)"
_LISTS = b"var/lib/dpkg/info/"
_CHUNK = 1 << 20
#: What a file's content is read by.
Reader = Callable[[File], Iterable[bytes]]


@dataclass(frozen=True, slots=True)
class Item:
    """One path of a tree.

    ``kind`` is a letter as in ls(1). ``content`` is a SHA-256, a link's target or a device's
    number. Sizes are bytes; ``compressed`` is the file's size alone at zstd's level 3. ``package``
    is the file's package. ``links`` counts the names of a file; ``attributes`` are the extended
    ones.
    """

    kind: str
    mode: int
    owner: str
    mtime: int
    size: int
    compressed: int
    content: str
    package: str
    links: int = 1
    attributes: str = ""


def is_squashfs(raw: Path) -> bool:
    """Return True if a disk's root is read-only.

    The magic number is SQUASHFS_MAGIC (Linux, fs/squashfs/squashfs_fs.h).
    """
    with raw.open("rb") as disk:
        disk.seek(ROOT_OFFSET)
        return disk.read(4) == b"hsqs"


def contents(raw: Path) -> dict[str, Item]:
    """Return the files of a disk's root partition by path.

    A file with several names takes space under the first.

    Raises:
        BuildError: The file system cannot be read.
    """
    if is_squashfs(raw):
        return _unpacked(raw)
    with Ext4(raw, offset=ROOT_OFFSET) as system:
        return dict(look(list(system.files()), system.content))


def _unpacked(raw: Path) -> dict[str, Item]:
    from slipway.host.namespace import MOUNT, Namespace

    tree = MOUNT / "tree"
    with Namespace(memory_mib=2 * raw.stat().st_size // 2**20) as namespace:
        namespace.seal()
        namespace.run(["mkdir", tree])
        command: list[str | Path] = [
            "unsquashfs",
            "-quiet",
            "-no-progress",
            "-force",
            "-offset",
            str(ROOT_OFFSET),
            "-dest",
            tree,
            raw,
        ]
        namespace.run(command, what="reading the file system")
        source = str(Path(__file__).parents[2])
        argv: list[str | Path] = [sys.executable, "-I", "-c", _START, source, tree]
        answer = namespace.run(argv, what="looking at the files")
    return {path: Item(*fields) for path, *fields in map(json.loads, answer.stdout.splitlines())}


#: The program: a checkout's modules may be nowhere that Python looks.
_START = (
    "import sys; sys.path.insert(0, sys.argv[1]); from slipway.disk.contents import main; "
    "main(sys.argv[2])"
)


def differences(first: Mapping[str, Item], second: Mapping[str, Item]) -> list[str]:
    """Return the paths that differ between two disks, each with the differing properties."""
    found = []
    compared = ("kind", "mode", "owner", "mtime", "size", "content", "links", "attributes")
    for path in sorted(first.keys() | second.keys()):
        one, other = first.get(path), second.get(path)
        if one is None or other is None:
            found.append(f"{path}: only in the {'first' if one else 'second'}")
        elif one != other:
            names = [name for name in compared if getattr(one, name) != getattr(other, name)]
            found.append(f"{path}: {', '.join(names) or 'package'}")
    return found


def _packages(files: Sequence[File], read: Reader) -> dict[str, str]:
    """Return the package of each path, from dpkg's lists, under the files' real names."""
    owners = {}
    real: dict[str, str] = {}
    links = {
        os.fsdecode(file.path)
        for file in files
        if stat.S_ISLNK(file.mode) and b"/" not in file.path
    }
    for listing in files:
        if not (
            listing.path.startswith(_LISTS)
            and listing.path.endswith(b".list")
            and stat.S_ISREG(listing.mode)
        ):
            continue
        package = os.fsdecode(listing.path[len(_LISTS) :]).removesuffix(".list").partition(":")[0]
        for path in b"".join(read(listing)).decode(errors="surrogateescape").splitlines():
            folder, _, name = path.rpartition("/")
            if folder not in real:
                # Debian's root has links to /usr: /lib/udev is in the list, and /usr/lib/udev on
                # the disk.
                merged = folder.split("/")[1:2] and folder.split("/")[1] in links
                real[folder] = f"/usr{folder}" if merged else folder
            owners[f"{real[folder]}/{name}"] = package
    return owners


def _owner(path: str, owners: Mapping[str, str]) -> str:
    """Return the origin of a file: its package, the package of its Python source, or nobody."""
    folder, _, name = path.rpartition("/")
    if path in owners:
        return owners[path]
    if folder.endswith("/__pycache__"):
        return owners.get(
            f"{folder.removesuffix('/__pycache__')}/{name.partition('.')[0]}.py", NOBODY
        )
    return "(initramfs)" if path.startswith("/boot/initrd.img-") else NOBODY


def look(files: Sequence[File], read: Reader) -> Iterator[tuple[str, Item]]:
    """Yield every path of a tree but its root, in the files' order."""
    import zstandard

    compressor = zstandard.ZstdCompressor(level=3)
    owners = _packages(files, read)
    known: dict[int, tuple[str, int]] = {}
    for file in files:
        if not file.path:
            continue
        kind = stat.filemode(file.mode)[0]
        content, compressed, size = "", 0, 0
        if kind == "-" and file.inode in known:
            content, _ = known[file.inode]
        elif kind == "-":
            digest, stream, size = hashlib.sha256(), compressor.compressobj(), file.size
            for block in read(file):
                digest.update(block)
                compressed += len(stream.compress(block))
            compressed += len(stream.flush())
            content = digest.hexdigest()
            known[file.inode] = content, compressed
        elif kind == "l":
            content = os.fsdecode(file.target)
        elif kind in "bc":
            content = f"{file.device[0]}:{file.device[1]}"
        path = f"/{os.fsdecode(file.path)}"
        yield (
            path,
            Item(
                kind,
                stat.S_IMODE(file.mode),
                f"{file.uid}:{file.gid}",
                0 if kind == "l" else file.mtime,
                size,
                compressed,
                content,
                _owner(path, owners),
                file.links if kind == "-" else 1,
                ", ".join(
                    f"{name}={value.hex()}" for name, value in sorted(file.attributes.items())
                ),
            ),
        )


def files_of(tree: Path) -> Iterator[File]:
    """Yield every path below a folder, a folder before its contents."""
    for folder, folders, files in os.walk(tree):
        folders.sort()
        for name in sorted((*folders, *files)):
            path = Path(folder, name)
            status = path.lstat()
            yield File(
                path=os.fsencode(path.relative_to(tree)),
                inode=status.st_ino,
                mode=status.st_mode,
                uid=status.st_uid,
                gid=status.st_gid,
                mtime=int(status.st_mtime),
                size=status.st_size,
                links=status.st_nlink,
                target=os.fsencode(path.readlink()) if stat.S_ISLNK(status.st_mode) else b"",
                device=(os.major(status.st_rdev), os.minor(status.st_rdev)),
                attributes={
                    name: os.getxattr(path, name, follow_symlinks=False)
                    for name in os.listxattr(path, follow_symlinks=False)
                },
            )


def read_below(tree: Path) -> Reader:
    """Return a reader for the files of a folder."""

    def read(file: File) -> Iterator[bytes]:
        with (tree / os.fsdecode(file.path)).open("rb") as stream:
            while block := stream.read(_CHUNK):
                yield block

    return read


def main(folder: str) -> None:
    """Print each path below a folder as a JSON list, with the folder as this process' root."""
    import zstandard  # noqa: F401 - before the root changes

    os.chroot(folder)
    root = Path("/")
    for path, item in look(list(files_of(root)), read_below(root)):
        fields = [getattr(item, name) for name in Item.__slots__]
        sys.stdout.write(json.dumps([path, *fields]) + "\n")
