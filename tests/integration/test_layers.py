"""A layer that comes from the cache is the one that was made: nothing is left out, and half of one
is none.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from slipway.builders._layers import clean, pack, unpack
from slipway.errors import BuildError
from slipway.host.namespace import MOUNT, Namespace
from slipway.host.process import find_tool

#: Every kind of file that a script can leave, with what is easily lost on the way.
ODD = """\
import os, socket, stat, sys
os.mkdir("/mnt/made")
os.chdir("/mnt/made")
socket.socket(socket.AF_UNIX).bind("agent.sock")
os.mkfifo("pipe")
os.mknod("whiteout", 0o644 | stat.S_IFCHR, os.makedev(0, 0))
os.symlink("nowhere", "link")
for name in ("file", "old", "new", "-dash", b"\\377", "a\\nb"):
    open(name, "w").write("x")
os.link("file", "other")
if sys.argv[1] == "root":  # of the host: others make no devices, and have 65,536 users
    os.mknod("null", 0o644 | stat.S_IFCHR, os.makedev(1, 3))
    os.chown("file", 1000000, 4000000)
os.chmod("file", 0o4711)
os.setxattr("file", "user.note", b"a note")
capability = bytes.fromhex("0100000200040000000000000000000000000000")
os.setxattr("file", "security.capability", capability)
os.utime("old", ns=(0, -1000_500_000_000))
os.utime("new", ns=(0, 5_000_000_000_123_456_789))
with open("sparse", "wb") as file:
    file.write(bytes(3_000_000))
    file.truncate(3 << 30)
os.mkdir("open")
os.chmod("open", 0o1777)
os.utime("open", ns=(0, 1_700_000_000_500_000_000))
"""
#: All that a disk is made from.
LISTING = """\
import hashlib, os, stat, sys
os.chdir(sys.argv[1])
for folder, folders, files in sorted(os.walk(b".")):
    folders.sort()
    for name in sorted([*folders, *files, b"."]):
        path = os.path.join(folder, name)
        s = os.lstat(path)
        plain = stat.S_ISREG(s.st_mode)
        content = hashlib.sha256(open(path, "rb").read(1 << 22)).hexdigest() if plain else ""
        target = os.readlink(path) if stat.S_ISLNK(s.st_mode) else ""
        names = os.listxattr(path, follow_symlinks=False)
        xattrs = sorted((x, os.getxattr(path, x, follow_symlinks=False)) for x in names)
        links = s.st_nlink if plain else 0
        size = s.st_size if plain else 0
        about = (oct(s.st_mode), s.st_uid, s.st_gid, s.st_rdev, size, links, s.st_mtime_ns)
        print(path, *about, target, content, xattrs)
"""


def listing(namespace: Namespace, folder: str) -> list[str]:
    return namespace.run([sys.executable, "-I", "-c", LISTING, folder]).stdout.decode().splitlines()


@pytest.mark.parametrize("place", ["memory", "disk"])
def test_what_is_unpacked_is_what_the_build_went_on_with(tmp_path: Path, place: str) -> None:
    work = tmp_path / "work"
    work.mkdir()
    with Namespace(memory_mib=64, directory=work if place == "disk" else None) as namespace:
        namespace.run([sys.executable, "-I", "-c", ODD, "root" if os.geteuid() == 0 else "user"])
        clean(namespace, MOUNT / "made")
        made = listing(namespace, "/mnt/made")
        assert len(made) == (15 if os.geteuid() == 0 else 14)
        assert not [line for line in made if "sock" in line]
        archive = tmp_path / "layer.tar.zst"
        with archive.open("wb") as file:
            pack(namespace, MOUNT / "made", file, what="packing")
        unpack(namespace, archive, MOUNT / "again", what="unpacking")
        assert listing(namespace, "/mnt/again") == made


def test_what_tar_leaves_out_is_an_error(tmp_path: Path) -> None:
    with Namespace(memory_mib=64) as namespace, (tmp_path / "layer").open("wb") as file:
        namespace.run([sys.executable, "-I", "-c", ODD, "root" if os.geteuid() == 0 else "user"])
        with pytest.raises(BuildError) as caught:
            pack(namespace, MOUNT / "made", file, what="packing the layer tree")
    assert str(caught.value) == (
        "error: packing the layer tree failed: exit status 0\n    tar: ./agent.sock: socket ignored"
    )


@pytest.mark.parametrize("program", ["tar", "zstd"])
def test_a_program_that_dies_makes_no_layer(tmp_path: Path, program: str) -> None:
    with Namespace(memory_mib=64) as namespace, (tmp_path / "layer").open("wb") as file:
        namespace.run(
            [
                "sh",
                "-euc",
                'mkdir /mnt/made && seq 100000 >/mnt/made/file && cp "$(command -v $0)" /mnt/real',
                program,
            ]
        )
        # One that does half of its work, and then is gone without a word.
        half = b'#!/bin/sh\n/mnt/real "$@" >/mnt/whole\nhead -c 99 /mnt/whole\nkill -9 $$\n'
        namespace.run(["sh", "-euc", "cat >/mnt/half; chmod 755 /mnt/half"], input=half)
        namespace.run(["mount", "--bind", "/mnt/half", find_tool(program)])
        with pytest.raises(BuildError, match=r"^error: packing failed: exit status [1-9-]"):
            pack(namespace, MOUNT / "made", file, what="packing")


def test_half_an_archive_is_no_tree(tmp_path: Path) -> None:
    archive = tmp_path / "layer"
    with Namespace(memory_mib=64) as namespace:
        namespace.run(
            ["sh", "-euc", "mkdir /mnt/made && seq 100000 >/mnt/made/file && seq 9 >/mnt/made/more"]
        )
        with archive.open("wb") as file:
            pack(namespace, MOUNT / "made", file, what="packing")
        content = archive.read_bytes()
        for end in (len(content) // 2, len(content) - 10):
            archive.write_bytes(content[:end])
            with pytest.raises(BuildError, match=r"^error: unpacking failed: exit status 2"):
                unpack(namespace, archive, MOUNT / f"again{end}", what="unpacking")
