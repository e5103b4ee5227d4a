"""A raw disk -> a stream-optimised VMDK for VMware and VirtualBox, alone or inside an OVA.

The format is VMware's "Virtual Disk Format 5.0", "Stream-Optimized Compressed Sparse Extents":
grains of 64 KiB, then grain tables, the grain directory and a footer. Each grain is deflated (RFC
1951 in zlib's wrapping) behind a marker with its sector. Grains of zeros are left out. Several
processors deflate; grains are written in their order.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, Final

from slipway.formats import Artifact, Description, Format
from slipway.formats._image import Form, blocks, export_image

__all__ = ["Vmdk", "write"]

_SECTOR: Final = 512
_GRAIN: Final = 65536
_TABLE: Final = 512  # entries in a grain table
_LEVEL: Final = 6
_DESCRIPTOR_SECTORS: Final = 20
_OVERHEAD: Final = 128
_AT_END: Final = 0xFFFFFFFFFFFFFFFF
#: magic, version, flags, capacity, grain size, descriptor at, its size, entries in a table,
#: redundant directory, directory, overhead, unclean shutdown, four characters that a transfer as
#: text would damage, compression
_HEADER: Final = struct.Struct("<4sIIQQQQIQQQB4sH433x")
_FLAGS: Final = 0x30001  # the four characters are there; compressed grains; markers
_END_OF_STREAM, _GRAIN_TABLE, _GRAIN_DIRECTORY, _FOOTER = range(4)


class Vmdk(Format):
    """The disk in its virtual size, compressed."""

    name = "vmdk"
    suffix = ".vmdk"
    tools = ("qemu-img", "zlib")
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
                write(raw, file, virtual_size=virtual_size, content_id=raw_sha256)

        return export_image(
            raw,
            output,
            make,
            Form(name=self.name, compression="deflate"),
            virtual_size=virtual_size,
            log=log,
        )


def write(raw: Path, file: IO[bytes], *, virtual_size: int, content_id: Future[str]) -> None:
    """Write the image from the file's position on.

    Args:
        file: At a whole number of sectors.
        virtual_size: Bytes, a multiple of 64 KiB.
        content_id: The SHA-256 of the raw disk; its beginning identifies the disk. It is needed
            only after all else is written.
    """
    capacity, start = virtual_size // _SECTOR, file.tell()
    file.write(_header(capacity, _AT_END).ljust(_OVERHEAD * _SECTOR, b"\0"))
    tables: dict[int, list[int]] = {}
    for number, packed in _deflated(raw):
        table = tables.setdefault(number // _TABLE, [0] * _TABLE)
        table[number % _TABLE] = (file.tell() - start) // _SECTOR
        file.write(struct.pack("<QI", number * _GRAIN // _SECTOR, len(packed)) + packed)
        _pad(file)
    directory = [0] * -(-virtual_size // (_GRAIN * _TABLE))
    for number, table in sorted(tables.items()):
        directory[number] = _marked(file, start, _GRAIN_TABLE, struct.pack(f"<{_TABLE}I", *table))
    directory_at = _marked(
        file, start, _GRAIN_DIRECTORY, struct.pack(f"<{len(directory)}I", *directory)
    )
    _marked(file, start, _FOOTER, _header(capacity, directory_at))
    file.write(bytes(_SECTOR))  # the marker of the stream's end
    file.seek(start + _SECTOR)
    file.write(_descriptor(capacity, content_id.result()))


def _header(capacity: int, directory_at: int) -> bytes:
    fields = (
        b"KDMV",
        3,
        _FLAGS,
        capacity,
        _GRAIN // _SECTOR,
        1,
        _DESCRIPTOR_SECTORS,
        _TABLE,
        0,
        directory_at,
        _OVERHEAD,
    )
    return _HEADER.pack(*fields, 0, b"\n \r\n", 1)


def _descriptor(capacity: int, raw_sha256: str) -> bytes:
    """Return the text descriptor.

    The extent's name is the same in every image: it is read by its place and not by its name.
    """
    cylinders = min(capacity // (255 * 63), 65535)
    return (
        "# Disk DescriptorFile\nversion=1\n"
        f"CID={raw_sha256[:8]}\nparentCID=ffffffff\n"
        'createType="streamOptimized"\n\n# Extent description\n'
        f'RW {capacity} SPARSE "disk.vmdk"\n\n# The Disk Data Base\n#DDB\n\n'
        f'ddb.adapterType = "lsilogic"\nddb.geometry.cylinders = "{cylinders}"\n'
        'ddb.geometry.heads = "255"\n'
        f'ddb.geometry.sectors = "63"\nddb.longContentID = "{raw_sha256[:32]}"\n'
        'ddb.virtualHWVersion = "13"\n'
    ).encode()


def _deflated(raw: Path) -> Iterator[tuple[int, bytes]]:
    """Yield number and deflated content of the grains with more than zeros, in order."""
    workers = len(os.sched_getaffinity(0))
    waiting: deque[tuple[int, Future[bytes]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for number, grain in blocks(raw, _GRAIN):
            waiting.append((number, pool.submit(zlib.compress, grain, _LEVEL)))
            if len(waiting) > 8 * workers:
                first, packed = waiting.popleft()
                yield first, packed.result()
        for first, packed in waiting:
            yield first, packed.result()


def _marked(file: IO[bytes], start: int, kind: int, content: bytes) -> int:
    """Write a marker and its content.

    Returns:
        The content's sector, counted from the image's start.
    """
    sectors = -(-len(content) // _SECTOR)
    file.write(struct.pack("<QII", sectors, 0, kind).ljust(_SECTOR, b"\0"))
    place = (file.tell() - start) // _SECTOR
    file.write(content)
    _pad(file)
    return place


def _pad(file: IO[bytes]) -> None:
    file.write(bytes(-file.tell() % _SECTOR))
