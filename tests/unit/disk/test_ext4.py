"""Inode times in a file system that mke2fs made."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from slipway.cache import sha256_of
from slipway.disk.ext4 import normalise
from slipway.disk.files import Ext4
from slipway.errors import BuildError
from slipway.host.process import run

pytestmark = pytest.mark.integration

EPOCH = 1_750_000_000
OFFSET = 1 << 20


def make_disk(
    directory: Path, name: str, accessed: int = EPOCH, modified: int = EPOCH - 1000
) -> Path:
    """A disk file with an ext4 file system at OFFSET that holds a few files and enough inodes for
    several groups.
    """
    tree = directory / f"tree-{name}"
    (tree / "sub").mkdir(parents=True)
    (tree / "old").write_text("before the epoch")
    (tree / "sub/new").write_text("after it")
    (tree / "link").symlink_to("old")
    os.utime(tree / "old", (accessed, modified))
    disk = directory / f"{name}.raw"
    with disk.open("wb") as file:
        file.truncate(OFFSET + (300 << 20))
    features = (
        "has_journal,extent,huge_file,flex_bg,metadata_csum,64bit,dir_nlink,extra_isize,"
        "^metadata_csum_seed,^orphan_file"
    )
    identity = "hash_seed=0f0e0d0c-0b0a-4908-8706-050403020100"
    options = f"{identity},root_owner=0:0,lazy_itable_init=1,nodiscard,offset={OFFSET}"
    argv = [
        "mke2fs",
        "-q",
        "-F",
        "-t",
        "ext4",
        "-O",
        features,
        "-U",
        "00112233-4455-4677-8899-aabbccddeeff",
        "-E",
        options,
    ]
    run([*argv, "-d", tree, disk, "290m"], env={"E2FSPROGS_FAKE_TIME": str(EPOCH)})
    return disk


def statistics(disk: Path, path: str) -> str:
    """What debugfs says of a file."""
    return run(["debugfs", "-R", f"stat {path}", f"{disk}?offset={OFFSET}"]).stdout.decode()


def test_times_are_clamped_to_the_epoch_and_the_file_system_stays_consistent(
    tmp_path: Path,
) -> None:
    disk = make_disk(tmp_path, "a")
    assert normalise(disk, offset=OFFSET, epoch=EPOCH) > 10

    for path, time in (("old", EPOCH - 1000), ("sub/new", EPOCH), ("link", EPOCH)):
        shown = statistics(disk, path)
        for kind in ("ctime", "atime", "mtime", "crtime"):
            assert f"{kind}: 0x{time:08x}:00000000" in shown, (path, shown)
    check = run(["e2fsck", "-f", "-n", f"{disk}?offset={OFFSET}"], check=False)
    assert (check.returncode, check.stdout.decode().count("checksum")) == (0, 0)


def test_attributes_are_in_one_order_whatever_the_trees_own_file_system_has(tmp_path: Path) -> None:
    """Btrfs names them in another order than tmpfs, and mke2fs writes them as they come."""
    values = {"user.a": b"1", "user.bb": b"22222", "user.c": b""}  # as many as fit into an inode
    (tmp_path / "value").mkdir()
    made = []
    for name, order in (("one", list(values)), ("two", list(values)[::-1])):
        disk = make_disk(tmp_path, name)
        for attribute in order:
            (tmp_path / "value/x").write_bytes(values[attribute])
            command = f"ea_set -f {tmp_path / 'value/x'} sub/new {attribute}"
            run(
                ["debugfs", "-w", "-R", command, f"{disk}?offset={OFFSET}"],
                env={"E2FSPROGS_FAKE_TIME": str(EPOCH)},
            )
        before = sha256_of(disk)
        normalise(disk, offset=OFFSET, epoch=EPOCH)
        made.append((before, sha256_of(disk)))
        with Ext4(disk, offset=OFFSET) as system:
            assert (
                next(file for file in system.files() if file.path == b"sub/new").attributes
                == values
            )
        check = run(["e2fsck", "-f", "-n", f"{disk}?offset={OFFSET}"], check=False)
        assert (check.returncode, check.stdout.decode().count("checksum")) == (0, 0)
    assert made[0][0] != made[1][0]
    assert made[0][1] == made[1][1]


def test_a_time_after_2038_is_one_after_the_epoch(tmp_path: Path) -> None:
    disk = make_disk(tmp_path, "a", modified=2**31 + 1000)
    normalise(disk, offset=OFFSET, epoch=EPOCH)
    assert f"mtime: 0x{EPOCH:08x}:00000000" in statistics(disk, "old")


def test_two_disks_of_one_tree_read_at_different_times_become_the_same(tmp_path: Path) -> None:
    disks = make_disk(tmp_path, "a", EPOCH - 5), make_disk(tmp_path, "b", EPOCH + 5)
    assert sha256_of(disks[0]) != sha256_of(disks[1])
    for disk in disks:
        normalise(disk, offset=OFFSET, epoch=EPOCH)
    assert sha256_of(disks[0]) == sha256_of(disks[1])


def super_blocks(data: bytes) -> list[int]:
    """The positions of a super block and its backups: the magic number stands before the
    identity.
    """
    identity = bytes.fromhex("00112233445546778899aabbccddeeff")
    found, at = [], data.find(identity, OFFSET)
    while at >= 0:
        if data[at - 48 : at - 46] == b"\x53\xef":
            found.append(at - 104)
        at = data.find(identity, at + 1)
    return found


def test_the_count_of_writes_is_forgotten_in_every_super_block(tmp_path: Path) -> None:
    one, other = make_disk(tmp_path, "one"), make_disk(tmp_path, "other")
    data = bytearray(other.read_bytes())
    places = super_blocks(bytes(data))
    assert len(places) > 3
    for at in places:
        data[at + 0x178 : at + 0x180] = (4711).to_bytes(8, "little")
    other.write_bytes(data)
    for disk in (one, other):
        normalise(disk, offset=OFFSET, epoch=EPOCH)
    assert sha256_of(one) == sha256_of(other)
    check = run(["e2fsck", "-f", "-n", f"{one}?offset={OFFSET}"], check=False)
    assert (check.returncode, check.stdout.decode().count("checksum")) == (0, 0)


def test_what_is_no_such_file_system_is_refused(tmp_path: Path) -> None:
    disk = tmp_path / "disk.raw"
    disk.write_bytes(bytes(4 << 20))
    with pytest.raises(BuildError) as raised:
        normalise(disk, offset=OFFSET, epoch=EPOCH)
    assert str(raised.value) == (
        "error: the disk holds no ext4 file system of the expected kind\n"
        "  hint: mke2fs did not follow mke2fs.conf"
    )
