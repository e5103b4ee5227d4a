"""The archive of the root file system, unpacked by tar."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import tarfile
from pathlib import Path

import pytest

from example_tree import write_odd_disk, write_tree_disk
from slipway.errors import BuildError
from slipway.formats import Artifact, load
from slipway.host import process


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_tree_disk(tmp_path_factory.mktemp("made"))


def export(disk: Path, output: Path) -> Artifact:
    return load("rootfs").export(disk, output, virtual_size=1 << 30, log=output.with_suffix(".log"))


def test_tar_unpacks_the_same_tree(made: tuple[Path, Path], tmp_path: Path) -> None:
    disk, tree = made
    artifact = export(disk, tmp_path / "out.tar.zst")
    assert artifact.uncompressed_sha256 == hashlib.sha256(disk.read_bytes()).hexdigest()
    assert artifact.sha256 == hashlib.sha256((tmp_path / "out.tar.zst").read_bytes()).hexdigest()
    (tmp_path / "back").mkdir()
    unpack: list[str | Path] = [
        "tar",
        "--zstd",
        "--xattrs",
        "--xattrs-include=*",
        "-xpf",
        tmp_path / "out.tar.zst",
        "-C",
        tmp_path / "back",
    ]
    process.run(unpack)
    back = {path.relative_to(tmp_path / "back"): path for path in (tmp_path / "back").rglob("*")}
    assert back.keys() - {Path("lost+found")} == {
        path.relative_to(tree) for path in tree.rglob("*")
    }
    for path in tree.rglob("*"):
        copy = back[path.relative_to(tree)]
        assert copy.lstat().st_mode == path.lstat().st_mode
        assert int(copy.lstat().st_mtime) == int(path.lstat().st_mtime)
        if path.is_symlink():
            assert copy.readlink() == path.readlink()
        elif stat.S_ISREG(path.lstat().st_mode):
            assert copy.read_bytes() == path.read_bytes()
            names = os.listxattr(path)
            assert {name: os.getxattr(copy, name) for name in os.listxattr(copy)} == {
                name: os.getxattr(path, name) for name in names
            }
    assert back[Path("big")].samefile(back[Path("many/second-name")])


def test_it_is_the_same_twice_and_its_names_are_plain(
    made: tuple[Path, Path], tmp_path: Path
) -> None:
    assert export(made[0], tmp_path / "a").sha256 == export(made[0], tmp_path / "b").sha256
    content = process.run(["zstd", "-dc", tmp_path / "a"]).stdout
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        members = archive.getmembers()
    assert members[0].name == "."
    assert [member.name for member in members[1:]] == [
        member.name for member in members[1:] if not member.name.startswith((".", "/"))
    ]


def test_a_disk_without_a_root_file_system_is_an_error_and_leaves_nothing(
    disk: Path, tmp_path: Path
) -> None:
    with disk.open("ab") as file:
        file.truncate(100 << 20)
    with pytest.raises(BuildError, match="it is not ext4"):
        export(disk, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_owners_are_those_of_the_file_system(tmp_path: Path) -> None:
    write_odd_disk(tmp_path / "disk.raw")
    export(tmp_path / "disk.raw", tmp_path / "x")
    content = process.run(["zstd", "-dc", tmp_path / "x"]).stdout
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        odd = archive.getmember("odd")
        found = archive.extractfile(odd)
        assert found and found.read() == bytes(12288)
    assert (odd.uid, odd.gid) == (100_000, 200_000)
