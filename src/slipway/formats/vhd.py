"""A raw disk -> a fixed VHD, for Azure and older Hyper-V: the disk's bytes and a footer of 512.

The format is Microsoft's "Virtual Hard Disk Image Format Specification", 1.0. Azure accepts only
fixed disks with a size in whole MiB. The file is not enlarged to the virtual size, because every
byte is stored: Azure sets the new disk's size, and the root file system grows to it.
"""

from __future__ import annotations

import struct
from concurrent.futures import Future
from pathlib import Path
from typing import Final

from slipway.formats import Artifact, Description, Format
from slipway.formats._image import Form, derived_uuid, export_image
from slipway.formats.raw import chunks, write_sparse

__all__ = ["Vhd", "check_footer", "footer", "geometry"]

_MIB: Final = 1 << 20
FOOTER_SIZE: Final = 512
#: cookie, features, version, data offset, time, application, its version, host, original and
#: current size, cylinders, heads, sectors, type, checksum, unique id, saved state
_FOOTER: Final = struct.Struct(">8sIIQI4sI4sQQHBBII16sB427x")
_CHECKSUM_AT: Final = 64
_FIXED: Final = 2


class Vhd(Format):
    """The disk as it is, in a size for Azure."""

    name = "vhd"
    suffix = ".vhd"
    tools = ("qemu-img",)

    def export(
        self,
        raw: Path,
        output: Path,
        *,
        virtual_size: int,
        log: Path,
        about: Description | None = None,
    ) -> Artifact:
        """See :class:`~slipway.formats.Format`; the size is the disk's own, filled up to a whole
        MiB.
        """
        size = -(-raw.stat().st_size // _MIB) * _MIB

        def make(image: Path, raw_sha256: Future[str]) -> None:
            with image.open("wb") as file:
                for chunk in chunks(raw):
                    write_sparse(file, bytes(chunk))
                file.truncate(size)
                file.seek(size)
                file.write(footer(size, derived_uuid("vhd", raw_sha256.result()).bytes))
            check_footer(image)

        return export_image(
            raw,
            output,
            make,
            Form(name=self.name, compression=None, reads="vpc"),
            virtual_size=max(virtual_size, size),
            log=log,
        )


def geometry(size: int) -> tuple[int, int, int]:
    """Return cylinders, heads and sectors for a size in bytes (the specification's appendix)."""
    total = min(size // 512, 65535 * 16 * 255)
    if total >= 65535 * 16 * 63:
        sectors, heads, tracks = 255, 16, total // 255
    else:
        sectors, tracks = 17, total // 17
        heads = max(4, (tracks + 1023) // 1024)
        if tracks >= heads * 1024 or heads > 16:
            sectors, heads, tracks = 31, 16, total // 31
        if tracks >= heads * 1024:
            sectors, heads, tracks = 63, 16, total // 63
    return tracks // heads, heads, sectors


def footer(size: int, unique_id: bytes) -> bytes:
    """Return the footer of a fixed disk of a size in bytes.

    Its creator is Hyper-V ("win "): readers trust the size then, and not the geometry, which cannot
    express it. The time is the format's beginning, so the same disk has the same footer.
    """
    fields = [
        b"conectix",
        2,
        0x10000,
        0xFFFFFFFFFFFFFFFF,
        0,
        b"win ",
        0xA0000,
        b"Wi2k",
        size,
        size,
        *geometry(size),
        _FIXED,
    ]
    unchecked = _FOOTER.pack(*fields, 0, unique_id, 0)
    return _FOOTER.pack(*fields, _checksum(unchecked), unique_id, 0)


def _checksum(content: bytes) -> int:
    """Return the one's complement of the sum of all bytes except the checksum's own."""
    return ~(sum(content) - sum(content[_CHECKSUM_AT : _CHECKSUM_AT + 4])) & 0xFFFFFFFF


def check_footer(image: Path) -> None:
    """Check the footer of a fixed VHD against its size; most readers do not.

    Raises:
        ValueError: The footer does not fit the file, or its checksum is wrong.
    """
    size = image.stat().st_size - FOOTER_SIZE
    with image.open("rb") as file:
        file.seek(size)
        content = file.read()
    fields = _FOOTER.unpack(content)
    if (
        fields[0] != b"conectix"
        or fields[13] != _FIXED
        or fields[8:10] != (size, size)
        or size % _MIB
    ):
        raise ValueError(f"{image} is not a fixed VHD of {size} bytes")
    if fields[14] != _checksum(content):
        raise ValueError(f"the footer of {image} has a wrong checksum")
