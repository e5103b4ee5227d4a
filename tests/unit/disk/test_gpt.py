"""The partitions of a disk, as sfdisk wrote them."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.disk.gpt import Partition, partitions
from slipway.errors import BuildError
from slipway.host import process

MIB = 1 << 20


def test_partitions_are_found_in_the_order_of_their_places(tmp_path: Path) -> None:
    disk = tmp_path / "disk.raw"
    with disk.open("wb") as file:
        file.truncate(16 * MIB)
    layout = (
        b'label: gpt\n2 : start=2048, size=4096, name="first"\n'
        b'1 : start=8192, size=2048, name="zw\xc3\xb6lf"\n'
    )
    process.run(["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", disk], input=layout)
    assert partitions(disk) == [
        Partition("first", 1 * MIB, 2 * MIB),
        Partition("zwölf", 4 * MIB, 1 * MIB),
    ]


@pytest.mark.parametrize("size", [0, 600, 4096])
def test_a_disk_without_a_table_is_refused(size: int, tmp_path: Path) -> None:
    disk = tmp_path / "disk.raw"
    disk.write_bytes(bytes(size))
    with pytest.raises(BuildError, match="no GUID partition table"):
        partitions(disk)
