"""A raw disk -> a dynamic VHDX, for Hyper-V.

The format is Microsoft's [MS-VHDX], 8.0: two headers, two region tables, a log, metadata, the block
allocation table, then blocks of 1 MiB. Blocks of zeros are left out. Everything up to the first
block is computed from the size and the hash of the disk: nothing in it is random.
"""

from __future__ import annotations

import struct
from concurrent.futures import Future
from pathlib import Path
from typing import IO, Final
from uuid import UUID

from google_crc32c import value as crc32c

from slipway.formats import Artifact, Description, Format
from slipway.formats._image import Form, blocks, derived_uuid, export_image

__all__ = ["Vhdx", "check_headers", "write"]

_MIB: Final = 1 << 20
_KIB64: Final = 65536
_SECTOR: Final = 512
_LOG_AT, _METADATA_AT, _TABLE_AT = 1 * _MIB, 2 * _MIB, 3 * _MIB
_HEADERS: Final = (1 * _KIB64, 2 * _KIB64)
_REGIONS: Final = (3 * _KIB64, 4 * _KIB64)
_PRESENT: Final = 6  # PAYLOAD_BLOCK_FULLY_PRESENT
#: A block of sector bitmaps, which only differencing disks have, takes a place in the table after
#: so many blocks.
_RATIO: Final = (1 << 23) * _SECTOR // _MIB
_REGION_TABLE, _REGION_METADATA = (
    UUID("2DC27766-F623-4200-9D64-115E9BFD4A08"),
    UUID("8B7CA206-4790-4B9A-B8FE-575F050F886E"),
)
_FILE_PARAMETERS: Final = UUID("CAA16737-FA36-4D43-B3B6-33F0AA44E76B")
_VIRTUAL_SIZE: Final = UUID("2FA54224-CD1B-4876-B211-5DBED83BF4B8")
_DISK_ID: Final = UUID("BECA12AB-B2E6-4523-93EF-C309E000C746")
_LOGICAL_SECTOR: Final = UUID("8141BF1D-A96F-4709-BA47-F233A8FAAB5F")
_PHYSICAL_SECTOR: Final = UUID("CDA348C7-445D-4471-9CC9-E9885251C556")


class Vhdx(Format):
    """The disk in its virtual size; unused parts take no space."""

    name = "vhdx"
    suffix = ".vhdx"
    tools = ("qemu-img", "python:google-crc32c")
    sized = True

    def export(
        self,
        raw: Path,
        output: Path,
        *,
        virtual_size: int,
        log: Path,
        about: Description | None = None,
    ) -> Artifact:
        """See :class:`~slipway.formats.Format`; enlarging the disk to the virtual size costs no
        space.
        """

        def make(image: Path, raw_sha256: Future[str]) -> None:
            with image.open("wb") as file:
                write(raw, file, virtual_size=virtual_size, raw_sha256=raw_sha256)
            check_headers(image)

        return export_image(
            raw,
            output,
            make,
            Form(name=self.name, compression=None),
            virtual_size=virtual_size,
            log=log,
        )


def write(raw: Path, file: IO[bytes], *, virtual_size: int, raw_sha256: Future[str]) -> None:
    """Write the image of a virtual size in bytes.

    The disk's hash is needed only after its blocks are written.
    """
    count = -(-virtual_size // _MIB)
    entries = [0] * (count + (count - 1) // _RATIO)
    table_size = -(-8 * len(entries) // _MIB) * _MIB
    file.seek(_TABLE_AT + table_size)
    for number, block in blocks(raw, _MIB):
        entries[number + number // _RATIO] = file.tell() | _PRESENT
        file.write(block)
    file.seek(_TABLE_AT)
    file.write(struct.pack(f"<{len(entries)}Q", *entries))
    file.seek(_METADATA_AT)
    file.write(_metadata(virtual_size, derived_uuid("vhdx disk", raw_sha256.result())))
    file.seek(0)
    file.write(_beginning(table_size, raw_sha256.result()))


def _beginning(table_size: int, raw_sha256: str) -> bytes:
    """Return the first MiB: file identifier, headers and region tables."""
    content = bytearray(_MIB)
    content[0:8] = b"vhdxfile"
    creator = "slipway".encode("utf-16-le")
    content[8 : 8 + len(creator)] = creator
    written, data = derived_uuid("vhdx file", raw_sha256), derived_uuid("vhdx data", raw_sha256)
    for sequence, place in enumerate(_HEADERS):
        header = struct.pack(
            "<4sIQ16s16s16sHHIQ",
            b"head",
            0,
            sequence,
            written.bytes_le,
            data.bytes_le,
            bytes(16),
            0,
            1,
            _MIB,
            _LOG_AT,
        )
        content[place : place + 4096] = _checked(header.ljust(4096, b"\0"))
    regions = struct.pack("<4sIII", b"regi", 0, 2, 0)
    for region, at, size in (
        (_REGION_TABLE, _TABLE_AT, table_size),
        (_REGION_METADATA, _METADATA_AT, _MIB),
    ):
        regions += struct.pack("<16sQII", region.bytes_le, at, size, 1)
    for place in _REGIONS:
        content[place : place + _KIB64] = _checked(regions.ljust(_KIB64, b"\0"))
    return bytes(content)


def _metadata(virtual_size: int, disk_id: UUID) -> bytes:
    """Return the metadata region's table, followed by its items.

    Flags: 4 required, 2 of the disk rather than the file.
    """
    items = (
        (_FILE_PARAMETERS, struct.pack("<II", _MIB, 0), 4),
        (_VIRTUAL_SIZE, struct.pack("<Q", virtual_size), 6),
        (_DISK_ID, disk_id.bytes_le, 6),
        (_LOGICAL_SECTOR, struct.pack("<I", _SECTOR), 6),
        (_PHYSICAL_SECTOR, struct.pack("<I", 4096), 6),
    )
    table = struct.pack("<8sHH20x", b"metadata", 0, len(items))
    values = b""
    for item, value, flags in items:
        table += struct.pack("<16sIIII", item.bytes_le, _KIB64 + len(values), len(value), flags, 0)
        values += value
    return table.ljust(_KIB64, b"\0") + values


def _checked(structure: bytes) -> bytes:
    """Return a structure with its CRC-32C at byte 4, computed with zeros there."""
    return structure[:4] + struct.pack("<I", crc32c(structure)) + structure[8:]


def check_headers(image: Path) -> None:
    """Check both headers and both region tables, since most readers look at one of each.

    Raises:
        ValueError: A structure is damaged, or its checksum is wrong.
    """
    with image.open("rb") as file:
        content = file.read(_MIB)
    for signature, places, size in ((b"head", _HEADERS, 4096), (b"regi", _REGIONS, _KIB64)):
        for place in places:
            structure = content[place : place + size]
            unchecked = structure[:4] + bytes(4) + structure[8:]
            if structure[:4] != signature or _checked(unchecked) != structure:
                raise ValueError(f"the structure at byte {place} of {image} is damaged")
