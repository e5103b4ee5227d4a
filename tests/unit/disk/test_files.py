"""Files are read out of an ext4 file system as they were put in."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from example_tree import write_odd_disk, write_tree_disk
from slipway.disk.files import ROOT_OFFSET, Ext4, File
from slipway.errors import BuildError
from slipway.host import process


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_tree_disk(tmp_path_factory.mktemp("made"))


@pytest.fixture
def system(made: tuple[Path, Path]) -> Iterator[Ext4]:
    with Ext4(made[0], offset=ROOT_OFFSET) as opened:
        yield opened


def files(system: Ext4) -> dict[str, File]:
    return {os.fsdecode(file.path): file for file in system.files()}


def test_every_file_is_found_as_it_was(made: tuple[Path, Path], system: Ext4) -> None:
    found = files(system)
    tree = made[1]
    expected = {path.relative_to(tree).as_posix(): path.lstat() for path in tree.rglob("*")}
    assert found.keys() == {"", "lost+found", *expected}
    for name, status in expected.items():
        file = found[name]
        assert (file.mode, file.uid, file.gid, file.mtime) == (
            status.st_mode,
            status.st_uid,
            status.st_gid,
            int(status.st_mtime),
        ), name
        if not stat.S_ISDIR(file.mode):
            assert (file.size, file.links) == (status.st_size, status.st_nlink), name
        if stat.S_ISLNK(file.mode):
            assert os.fsdecode(file.target) == str((tree / name).readlink())
        if stat.S_ISREG(file.mode):
            assert b"".join(system.content(file)) == (tree / name).read_bytes(), name
    assert found["big"].inode == found["many/second-name"].inode
    assert found["tool"].attributes == {"user.note": b"a value with \xff and \0 in it"}
    assert found["many"].attributes == {"user.large": bytes(range(256)) * 3}


def test_a_folder_comes_before_what_is_in_it_and_siblings_in_their_order(system: Ext4) -> None:
    names = list(files(system))
    assert names[0] == ""
    assert names.index("many") < names.index("many/a-file-with-a-long-name-0000")
    top = [name for name in names[1:] if "/" not in name]
    assert top == sorted(top, key=os.fsencode)
    assert [name for name in names if name.startswith("many/")] == sorted(
        name for name in names if name.startswith("many/")
    )


def changed(disk: Path, tmp_path: Path, place: int, content: bytes) -> Path:
    """The disk with other bytes in its super block."""
    other = tmp_path / "other.raw"
    process.run(["cp", "--sparse=always", disk, other])
    with other.open("r+b") as file:
        file.seek(ROOT_OFFSET + 1024 + place)
        file.write(content)
    return other


@pytest.mark.parametrize(
    ("place", "content", "problem"),
    [
        (0x38, b"\0\0", "it is not ext4"),
        (0x3A, b"\0\0", "it is not clean, or has features that are not read here (0x0)"),
        (
            0x60,
            b"\xc2\x82\x00\x00",
            "it is not clean, or has features that are not read here (0x8000)",
        ),
        (0x10, b"\x01\x00\x00\x00", "it has"),
    ],
)
def test_what_is_not_understood_is_an_error(
    made: tuple[Path, Path], tmp_path: Path, place: int, content: bytes, problem: str
) -> None:
    disk = changed(made[0], tmp_path, place, content)
    with pytest.raises(BuildError) as caught, Ext4(disk, offset=ROOT_OFFSET) as opened:
        files(opened)
    assert str(caught.value).startswith(
        f"error: the root file system of {disk} cannot be read: {problem}"
    )


def test_a_disk_that_ends_too_early_is_an_error(made: tuple[Path, Path], tmp_path: Path) -> None:
    short = tmp_path / "short.raw"
    with made[0].open("rb") as file:
        short.write_bytes(file.read(ROOT_OFFSET + 1500))
    with pytest.raises(BuildError) as caught:
        Ext4(short, offset=ROOT_OFFSET)
    assert (
        caught.value.message
        == f"the root file system of {short} cannot be read: the disk ends too early"
    )


def test_blocks_that_were_never_written_are_zeros_and_owners_have_32_bits(tmp_path: Path) -> None:
    write_odd_disk(tmp_path / "disk.raw")
    with Ext4(tmp_path / "disk.raw", offset=ROOT_OFFSET) as system:
        odd = files(system)["odd"]
        assert b"".join(system.content(odd)) == bytes(12288)
    assert (odd.uid, odd.gid) == (100_000, 200_000)
