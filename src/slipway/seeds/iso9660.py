"""A few small files -> an ISO 9660 image, and back.

What goes in: a volume's name, and contents by file name. What comes out: the image's bytes.

Invariants: equal files give equal bytes, at any time and on any machine.
``templates/catalog/www/seed.js`` writes the same bytes in a browser.

Numbers in brackets are sections of ECMA-119 (4th edition), the text of ISO 9660. Names of files in
their own letters are Rock Ridge's (IEEE P1282, RRIP 1.10, in SUSP 1.10).

Sectors have 2,048 bytes. 16 is the primary volume descriptor, 17 ends the descriptors, 18 is empty,
19 and 20 are the path tables, 21 is the root's directory; the files follow. libarchive, used by
many programs, recognises no image with path tables before 19.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal

__all__ = ["read_iso", "write_iso"]

SECTOR: Final = 2048
_PATHS, _ROOT, _FIRST = 19, 21, 22
#: 1980-01-01 00:00:00 UTC, as directories (9.1.5) and descriptors (8.4.26.1) write it.
_DAY: Final = bytes([80, 1, 1, 0, 0, 0, 0])
_DATE: Final = b"1980010100000000\0"
_NEVER: Final = b"0000000000000000\0"
_FOLDER: Final = 2  # 9.1.6
#: st_mode of the directory and of its files (stat(2)): root's alone, for they may hold secrets.
_FOLDER_MODE, _FILE_MODE = 0o040500, 0o100400


def write_iso(volume: str, files: Mapping[str, bytes]) -> bytes:
    """Return the image.

    Args:
        files: By ASCII names, different in their first eight letters and digits.

    Raises:
        ValueError: Two names are too similar, or the directory needs more than one sector.
    """
    content: list[tuple[bytes, bytes, int, bytes]] = []
    sector = _FIRST
    for name in sorted(files, key=_identifier):
        named = _entry("NM", b"\0" + name.encode("ascii"))
        content.append((_identifier(name), named, sector, files[name]))
        sector += _sectors(files[name])
    susp = (
        _entry("SP", b"\xbe\xef\0")
        + _posix(_FOLDER_MODE, 2)
        + _entry("ER", b"\x0a\0\0\1RRIP_1991A")
    )
    directory = _record(b"\0", _ROOT, SECTOR, _FOLDER, susp)
    directory += _record(b"\1", _ROOT, SECTOR, _FOLDER, _posix(_FOLDER_MODE, 2))
    for identifier, named, start, data in content:
        directory += _record(identifier, start, len(data), 0, named + _posix(_FILE_MODE, 1))
    if len(directory) > SECTOR or len({each[0] for each in content}) < len(content):
        raise ValueError(f"no directory of one sector has these names: {', '.join(files)}")
    parts = [
        b"\0" * 16 * SECTOR,
        _descriptor(volume, sector),
        (b"\xffCD001\1").ljust(2 * SECTOR, b"\0"),  # 8.3
        _path_table("little"),
        _path_table("big"),
        directory,
        *(data for _, _, _, data in content),
    ]
    return b"".join(part.ljust(_sectors(part) * SECTOR, b"\0") for part in parts)


def read_iso(image: bytes) -> tuple[str, dict[str, bytes]]:
    """Return the volume's name and the files of an image written by :func:`write_iso`.

    Raises:
        ValueError: The image has no primary volume descriptor.
    """
    descriptor = image[16 * SECTOR : 17 * SECTOR]
    if len(descriptor) < SECTOR or descriptor[:7] != b"\1CD001\1":
        raise ValueError("no primary volume descriptor")
    directory = image[_ROOT * SECTOR : _FIRST * SECTOR]
    files, at = {}, 0
    while at < len(directory) and directory[at]:
        record = directory[at : at + directory[at]]
        name = re.search(rb"NM.\x01\0([a-z-]+)PX", record, re.DOTALL)
        if name:
            start = int.from_bytes(record[2:6], "little") * SECTOR
            files[name[1].decode()] = image[start : start + int.from_bytes(record[10:14], "little")]
        at += directory[at]
    return descriptor[40:72].decode("ascii").rstrip(), files


def _sectors(data: bytes) -> int:
    return -(-len(data) // SECTOR)


def _both(number: int, size: int) -> bytes:
    """Return a number in both orders of bytes (7.2.3, 7.3.3)."""
    return number.to_bytes(size, "little") + number.to_bytes(size, "big")


def _identifier(name: str) -> bytes:
    """Return a file's name in ISO 9660's own letters (7.5.1, 10.1)."""
    return re.sub("[^A-Z0-9]", "_", name.upper())[:8].encode() + b".;1"


def _record(identifier: bytes, sector: int, size: int, flags: int, susp: bytes = b"") -> bytes:
    """Return an entry of a directory (9.1)."""
    pad = b"" if len(identifier) % 2 else b"\0"
    length = 33 + len(identifier) + len(pad) + len(susp)
    return b"".join(
        (
            bytes([length, 0]),
            _both(sector, 4),
            _both(size, 4),
            _DAY,
            bytes([flags, 0, 0]),
            _both(1, 2),
            bytes([len(identifier)]),
            identifier,
            pad,
            susp,
        )
    )


def _entry(kind: str, data: bytes) -> bytes:
    """Return an entry of the system use area (SUSP, 4)."""
    return kind.encode() + bytes([4 + len(data), 1]) + data


def _posix(mode: int, links: int) -> bytes:
    """Return the entry for mode, links, user and group (RRIP, 4.1.1)."""
    return _entry("PX", b"".join(_both(number, 4) for number in (mode, links, 0, 0)))


def _path_table(order: Literal["little", "big"]) -> bytes:
    """Return the path table with the root alone in it (9.4)."""
    return b"\1\0" + _ROOT.to_bytes(4, order) + (1).to_bytes(2, order) + b"\0\0"


def _descriptor(volume: str, sectors: int) -> bytes:
    """Return the primary volume descriptor (8.4)."""
    texts = (128, 128, 128, 128, 37, 37, 37)  # of the volume's set to its bibliography
    return b"".join(
        (
            b"\1CD001\1\0",
            b" " * 32,
            volume.encode("ascii").ljust(32),
            b"\0" * 8,
            _both(sectors, 4),
            b"\0" * 32,
            _both(1, 2),  # discs in the set
            _both(1, 2),  # this disc's number
            _both(SECTOR, 2),
            _both(10, 4),  # bytes of a path table
            _PATHS.to_bytes(4, "little") + b"\0" * 4,
            (_PATHS + 1).to_bytes(4, "big") + b"\0" * 4,
            _record(b"\0", _ROOT, SECTOR, _FOLDER),
            b" " * sum(texts),
            _DATE + _DATE + _NEVER + _NEVER,
            b"\1\0",
        )
    )
