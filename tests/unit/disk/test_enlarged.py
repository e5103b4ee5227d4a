"""A disk that became larger, also a second time: systemd-repart, by the guest's own definitions,
uses the room.

The copy of the partition table is in the middle of such a disk, and at its end there is none
(systemd's issue 37178).
"""

from __future__ import annotations

import types
from pathlib import Path

import jinja2
import pytest

from slipway.disk.gpt import Partition, partitions
from slipway.host import process

ROOT = Path(__file__).parents[3]
MIB = 1 << 20
NAMES = (
    "disk",
    "bios_partition",
    "esp_partition",
    "root_partition",
    "second_root_partition",
    "state_partition",
)
UUIDS = types.SimpleNamespace(
    **{
        f"{name}_uuid": f"00000000-0000-4000-8000-{number:012d}"
        for number, name in enumerate(NAMES, 1)
    }
)
#: Of amd64 (the Discoverable Partitions Specification).
ROOT_TYPE = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709"


def made(disk: Path, *, read_only: bool) -> None:
    """A disk with the partitions of an image."""
    text = (ROOT / "templates/disk/layout.sfdisk.j2").read_text()
    layout = jinja2.Template(text).render(
        read_only=read_only, disk=UUIDS, root_partition_type=ROOT_TYPE
    )
    with disk.open("wb") as file:
        file.truncate(256 * MIB)
    process.run(
        ["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", disk],
        input=layout.replace("@SLOT@", str(32 * 2048)).encode(),
    )


def tables(disk: Path) -> tuple[bytes, bytes]:
    """The beginnings of the table and of what should be its copy."""
    with disk.open("rb") as file:
        file.seek(512)
        first = file.read(8)
        file.seek(-512, 2)
        return first, file.read(8)


@pytest.mark.parametrize(("definitions", "growing"), [("files", "root"), ("read-only", "state")])
def test_a_disk_that_was_enlarged_twice_is_used_to_its_end(
    definitions: str, growing: str, tmp_path: Path
) -> None:
    disk = tmp_path / "disk.raw"
    made(disk, read_only=definitions == "read-only")
    before = partitions(disk)
    for size in (1024 * MIB, 3 * 1024 * MIB):
        with disk.open("r+b") as file:
            file.truncate(size)
        assert tables(disk) == (b"EFI PART", bytes(8)), "its copy is where it was"
        folder = ROOT / "templates/guest" / definitions / "usr/lib/repart.d"
        process.run(["systemd-repart", "--dry-run=no", f"--definitions={folder}", disk])
        assert tables(disk) == (b"EFI PART", b"EFI PART")
        found = partitions(disk)
        assert found[:-1] == before[:-1]
        last: Partition = found[-1]
        assert (last.name, last.offset) == (growing, before[-1].offset)
        assert size - MIB <= last.offset + last.size < size
