"""A disk whose root file system has one of everything that archives know."""

from __future__ import annotations

import os
from pathlib import Path

from slipway.disk.files import ROOT_OFFSET
from slipway.host import process

__all__ = ["write_odd_disk", "write_tree_disk"]

FEATURES = (
    "has_journal,extent,huge_file,flex_bg,metadata_csum,64bit,dir_nlink,extra_isize,"
    "^metadata_csum_seed,^orphan_file"
)


def write_tree_disk(directory: Path, *, size_mib: int = 80) -> tuple[Path, Path]:
    """Make a tree and a disk with it at the place of the root partition.

    Returns both, the disk first.
    """
    tree, disk = directory / "tree", directory / "tree.raw"
    (tree / "many").mkdir(parents=True)
    for number in range(600):  # so many that their folder has an index
        (tree / f"many/a-file-with-a-long-name-{number:04}").write_text(
            str(number) if number % 3 else ""
        )
    (tree / "big").write_bytes(b"".join(b"%9d\n" % number for number in range(300_000)))
    with (tree / "sparse").open("wb") as file:
        for place in range(0, 40 << 20, 3 << 20):  # more extents than fit into an inode
            file.seek(place)
            file.write(b"data at %d" % place)
        file.truncate((40 << 20) + 5)
    os.link(tree / "big", tree / "many/second-name")
    (tree / "short-link").symlink_to("big")
    (tree / "long-link").symlink_to("many/" + "x" * 100)
    (tree / "grüße").write_text("a name that is not ASCII")
    os.mkfifo(tree / "pipe", 0o640)
    (tree / "tool").write_text("#!/bin/sh\n")
    (tree / "tool").chmod(0o4755)
    os.setxattr(tree / "tool", "user.note", b"a value with \xff and \0 in it")
    os.setxattr(tree / "many", "user.large", bytes(range(256)) * 3)
    for path in (tree, *tree.rglob("*")):
        os.utime(path, (1_700_000_000, 1_700_000_000), follow_symlinks=False)
    with disk.open("wb") as image:
        image.truncate(ROOT_OFFSET + (size_mib << 20) + (1 << 20))
    argv = [
        "mke2fs",
        "-q",
        "-F",
        "-t",
        "ext4",
        "-b",
        "4096",
        "-I",
        "256",
        "-O",
        FEATURES,
        "-E",
        f"nodiscard,offset={ROOT_OFFSET}",
    ]
    process.run([*argv, "-d", tree, disk, f"{size_mib}m"])
    return disk, tree


def write_odd_disk(disk: Path) -> None:
    """Make a disk with a file ``odd`` of 12 KiB that was set aside and never written, of user
    100000 and group 200000.

    What its blocks hold is not zeros.
    """
    with disk.open("wb") as image:
        image.seek(ROOT_OFFSET)
        image.write(b"old!" * (2 << 20))
    argv = [
        "mke2fs",
        "-q",
        "-F",
        "-t",
        "ext4",
        "-b",
        "4096",
        "-I",
        "256",
        "-O",
        f"{FEATURES},^has_journal",
    ]
    process.run([*argv, "-E", f"nodiscard,offset={ROOT_OFFSET}", disk, "8m"])
    commands = (
        "write /dev/null odd\nfallocate odd 0 2\nset_inode_field odd size 12288\n"
        "set_inode_field odd uid 100000\nset_inode_field odd gid 200000\n"
    )
    process.run(
        ["debugfs", "-w", "-f", "-", f"{disk}?offset={ROOT_OFFSET}"], input=commands.encode()
    )
