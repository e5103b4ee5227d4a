"""A disk's GUID partition table -> its partitions.

Format: UEFI Specification 2.10, section 5.3 (header in sector 1; entries of 128 bytes or more;
names in UTF-16LE).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from slipway.errors import BuildError

__all__ = ["Partition", "partitions"]

_SECTOR: Final = 512


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition; ``offset`` and ``size`` are bytes."""

    name: str
    offset: int
    size: int


def partitions(disk: Path) -> list[Partition]:
    """Return the partitions of a disk with sectors of 512 bytes, in the order of their places.

    Raises:
        BuildError: The disk has no GUID partition table.
    """
    with disk.open("rb") as file:
        file.seek(_SECTOR)
        header = file.read(92)
        if len(header) < 92 or header[:8] != b"EFI PART":
            raise BuildError(f"{disk} has no GUID partition table")
        first, count, size = struct.unpack_from("<QII", header, 72)
        file.seek(first * _SECTOR)
        table = file.read(count * size)
    found = []
    for at in range(0, len(table) - 127, size):
        begin, end = struct.unpack_from("<QQ", table, at + 32)
        if any(table[at : at + 16]):
            name = table[at + 56 : at + 128].decode("utf-16le").rstrip("\0")
            found.append(Partition(name, begin * _SECTOR, (end + 1 - begin) * _SECTOR))
    return sorted(found, key=lambda partition: partition.offset)
