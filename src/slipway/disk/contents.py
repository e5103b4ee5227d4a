"""What is in a disk: a raw image's root file system -> its files, by who brought them and what they take.

:func:`contents` copies the file system out with its own tools' debugfs(8) or unsquashfs(1), without mounting it, into a
private namespace, and runs this module there as a program, which sees every file with its owner and mode.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zstandard import ZstdCompressionObj

__all__ = ["NOBODY", "ROOT_OFFSET", "Item", "contents", "differences", "main"]

#: Where the root partition begins, in bytes (templates/disk/layout.sfdisk.j2).
ROOT_OFFSET = 135168 * 512
#: The owner of files that came from no package.
NOBODY = "(made by the build)"


@dataclass(frozen=True, slots=True)
class Item:
    """One path of a tree. ``kind`` is a letter as in ls(1); ``content`` a SHA-256, a link's target or a device's number;
    sizes are bytes, ``compressed`` what zstd's level 3 makes of the file alone; ``package`` is who brought it."""

    kind: str
    mode: int
    owner: str
    mtime: int
    size: int
    compressed: int
    content: str
    package: str


def is_squashfs(raw: Path) -> bool:
    """Whether a disk's root is a read-only one (Linux, fs/squashfs/squashfs_fs.h: SQUASHFS_MAGIC)."""
    with raw.open("rb") as disk:
        disk.seek(ROOT_OFFSET)
        return disk.read(4) == b"hsqs"


def contents(raw: Path) -> dict[str, Item]:
    """The files of a disk's root partition by path. What is twice in one folder is one file with two names (which
    debugfs copies twice), and takes space under the first.

    Raises:
        BuildError: The file system cannot be read.
    """
    from slipway.namespace import MOUNT, Namespace

    tree = MOUNT / "tree"
    with Namespace(memory_mib=2 * raw.stat().st_size // 2**20) as namespace:
        namespace.seal()
        namespace.run(["mkdir", tree])
        if is_squashfs(raw):
            command: list[str | Path] = ["unsquashfs", "-quiet", "-no-progress", "-force", "-offset", str(ROOT_OFFSET), "-dest", tree, raw]
        else:
            command = ["debugfs", "-R", f"rdump / {tree}", f"{raw}?offset={ROOT_OFFSET}"]
        namespace.run(command, what="reading the file system")
        answer = namespace.run([sys.executable, __file__, "--enter", tree], what="looking at the files")
    return {path: Item(*fields) for path, *fields in map(json.loads, answer.stdout.splitlines())}


def differences(first: Mapping[str, Item], second: Mapping[str, Item]) -> list[str]:
    """The paths that differ between two disks, each with what differs."""
    found = []
    for path in sorted(first.keys() | second.keys()):
        one, other = first.get(path), second.get(path)
        if one is None or other is None:
            found.append(f"{path}: only in the {'first' if one else 'second'}")
        elif one != other:
            names = [name for name in ("kind", "mode", "owner", "mtime", "size", "content") if getattr(one, name) != getattr(other, name)]
            found.append(f"{path}: {', '.join(names) or 'package'}")
    return found


def _packages(tree: Path) -> dict[str, str]:
    """The package of each path, from dpkg's lists, under the names that the files really have."""
    owners = {}
    real: dict[str, str] = {}
    for listing in (tree / "var/lib/dpkg/info").glob("*.list"):
        if not stat.S_ISREG(listing.lstat().st_mode):
            continue
        package = listing.name.removesuffix(".list").partition(":")[0]
        for path in listing.read_text(errors="replace").splitlines():
            folder, _, name = path.rpartition("/")
            if folder not in real:
                # Debian's root has links to /usr: /lib/udev is in the list, and /usr/lib/udev on the disk.
                merged = folder.split("/")[1:2] and (tree / folder.split("/")[1]).is_symlink()
                real[folder] = f"/usr{folder}" if merged else folder
            owners[f"{real[folder]}/{name}"] = package
    return owners


def _owner(path: str, owners: Mapping[str, str]) -> str:
    """Who a file came from: its package, that of the module it is compiled from, or nobody."""
    folder, _, name = path.rpartition("/")
    if path in owners:
        return owners[path]
    if folder.endswith("/__pycache__"):
        return owners.get(f"{folder.removesuffix('/__pycache__')}/{name.partition('.')[0]}.py", NOBODY)
    return "(initramfs)" if path.startswith("/boot/initrd.img-") else NOBODY


def _content(path: Path, compressor: ZstdCompressionObj) -> tuple[str, int]:
    """Return the SHA-256 of a file, and how many bytes it takes compressed, a block at a time."""
    digest, compressed = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
            compressed += len(compressor.compress(block))
    return digest.hexdigest(), compressed + len(compressor.flush())


def look(tree: Path) -> Iterator[tuple[str, Item]]:
    """Every path below a directory, sorted."""
    import zstandard

    compressor = zstandard.ZstdCompressor(level=3)
    owners = _packages(tree)
    seen = set()
    for folder, folders, files in os.walk(tree):
        folders.sort()
        for name in sorted((*folders, *files)):
            path = Path(folder, name)
            shown = f"/{path.relative_to(tree)}"
            status = path.lstat()
            kind = stat.filemode(status.st_mode)[0]
            content, compressed, size = "", 0, 0
            if kind == "-":
                content, taken = _content(path, compressor.compressobj())
                if (folder, content) not in seen:
                    seen.add((folder, content))
                    size, compressed = status.st_size, taken
            elif kind == "l":
                content = str(path.readlink())
            elif kind in "bc":
                content = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
            yield (
                shown,
                Item(
                    kind,
                    stat.S_IMODE(status.st_mode),
                    f"{status.st_uid}:{status.st_gid}",
                    0 if kind == "l" else int(status.st_mtime),
                    size,
                    compressed,
                    content,
                    _owner(shown, owners),
                ),
            )


def main(argv: list[str]) -> int:
    """The program: print what is below a directory, a JSON list for each path; with --enter, as this process' root."""
    import zstandard  # noqa: F401 - before the root changes

    tree = Path(argv[-1])
    if argv[0] == "--enter":
        os.chroot(tree)
        tree = Path("/")
    for path, item in look(tree):
        fields = [getattr(item, name) for name in Item.__slots__]
        sys.stdout.write(json.dumps([path, *fields]) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
