"""Make a small picture of a machine's screen, for the page of a release.

What goes in: QEMU's dump, a portable pixmap (Netpbm's ppm(5), binary). What comes out: a PNG (W3C,
third edition) for the boot report.

Invariants: equal pixels give equal bytes. Only the pixels of the dump are passed on. A missing
picture is no failure: a dump that fails, is blank or is too large gives None.

The picture is in the report, and so in the signed manifest. It is no record of its own, because
earlier versions would refuse a release with an unknown record.
"""

from __future__ import annotations

import base64
import contextlib
import re
import struct
import zlib
from collections import Counter
from pathlib import Path
from typing import Any, Final

from slipway.boot.machine import SCREEN, Running

__all__ = ["Picture", "draw", "take"]

#: A picture in a report: media_type, width, height and base64.
Picture = dict[str, Any]

#: The size limit of a picture, in bytes, so that a manifest stays small.
_MOST_BYTES: Final = 256 << 10
#: The limit for a side of a screen, in pixels.
_MOST_SIDE: Final = 4096
#: The limit for all pixels: the machine chooses their number, and each takes time and memory.
_MOST_PIXELS: Final = 1920 * 1200
#: The minimum of pixels that differ from the ground: a cursor alone is no picture.
_FEWEST: Final = 200
#: The longest head of a dump, in bytes.
_MOST_HEAD: Final = len(b"P6 99999 99999 255 ")
_PPM: Final = re.compile(rb"P6\s(\d{1,5})\s(\d{1,5})\s255\s")
#: PNG's colour types: a value of red, green and blue for each pixel, or a number in a palette.
_TRUE, _PALETTE = 2, 3


def take(guest: Running, dump: Path) -> Picture | None:
    """Return a picture of a machine's screen; None if there is none worth keeping.

    Args:
        dump: The machine's :attr:`~slipway.boot.machine.Machine.screen`.
    """
    with contextlib.suppress(OSError):
        guest.ask("screendump", filename=SCREEN)
        with dump.open("rb") as file:
            return draw(file.read(_MOST_HEAD + 3 * _MOST_PIXELS + 1))
    return None


def draw(dump: bytes) -> Picture | None:
    """Return a dump as a PNG; None if it is malformed, blank, or too large."""
    head = _PPM.match(dump)
    if not head:
        return None
    width, height = int(head[1]), int(head[2])
    pixels = dump[head.end() :]
    if not 0 < width <= _MOST_SIDE or not 0 < height <= _MOST_SIDE:
        return None
    if width * height > _MOST_PIXELS or len(pixels) != 3 * width * height:
        return None
    colours = Counter(pixels[at : at + 3] for at in range(0, len(pixels), 3))
    if len(pixels) // 3 - max(colours.values()) < _FEWEST:
        return None
    content = _png(width, height, pixels, sorted(colours))
    if len(content) > _MOST_BYTES:
        return None
    return {
        "media_type": "image/png",
        "width": width,
        "height": height,
        "base64": base64.b64encode(content).decode("ascii"),
    }


def _png(width: int, height: int, pixels: bytes, colours: list[bytes]) -> bytes:
    """Return a PNG, with a palette if 256 colours are enough."""
    kind, size, palette = _TRUE, 3, b""
    if len(colours) <= 256:
        numbers = {colour: number for number, colour in enumerate(colours)}
        pixels = bytes(numbers[pixels[at : at + 3]] for at in range(0, len(pixels), 3))
        kind, size = _PALETTE, 1
        palette = _chunk(b"PLTE", b"".join(colours))
    line = width * size
    # Each line begins with the number of its filter: none.
    lines = b"".join(b"\0" + pixels[at : at + line] for at in range(0, len(pixels), line))
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)),
            palette,
            _chunk(b"IDAT", zlib.compress(lines, 9)),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(name: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
    )
