"""A dump of a screen becomes a picture; what is none, is blank or is too large does not."""

from __future__ import annotations

import base64
import random
import struct
import time
import zlib
from pathlib import Path
from typing import cast

import pytest

from slipway.boot.machine import Machine, Running, running
from slipway.boot.screen import Picture, draw, take
from slipway.host import process
from slipway.host.accelerator import Accelerator

BLACK, WHITE = b"\0\0\0", b"\xff\xff\xff"


def ppm(width: int, height: int, pixels: bytes) -> bytes:
    """A dump as QEMU writes it (ui/console.c, ppm_save)."""
    return f"P6\n{width} {height}\n255\n".encode() + pixels


def pixels_of(picture: Picture) -> bytes:
    """Read a PNG without filters, independently of what wrote it: red, green and blue."""
    content = base64.b64decode(picture["base64"])
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    chunks, at = {}, 8
    while at < len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        name, body = content[at + 4 : at + 8], content[at + 8 : at + 8 + length]
        (checksum,) = struct.unpack(">I", content[at + 8 + length : at + 12 + length])
        assert zlib.crc32(name + body) == checksum, name
        chunks[name], at = body, at + 12 + length
    width, height, depth, kind, *rest = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert (width, height, depth, rest) == (picture["width"], picture["height"], 8, [0, 0, 0])
    line = width * (1 if kind == 3 else 3) + 1
    data = zlib.decompress(chunks[b"IDAT"])
    lines = [data[start : start + line] for start in range(0, len(data), line)]
    assert {each[0] for each in lines} == {0}
    plain = b"".join(each[1:] for each in lines)
    if kind != 3:
        return plain
    palette = chunks[b"PLTE"]
    return b"".join(palette[3 * number : 3 * number + 3] for number in plain)


def test_a_picture_has_the_pixels_of_the_screen() -> None:
    few = (BLACK * 30 + WHITE * 10) * 30
    many = b"".join(bytes((red, green, 7)) for red in range(40) for green in range(30))
    for pixels in (few, many):
        picture = draw(ppm(40, 30, pixels))
        assert picture
        assert (picture["media_type"], picture["width"], picture["height"]) == ("image/png", 40, 30)
        assert pixels_of(picture) == pixels


@pytest.mark.parametrize(
    "dump",
    [
        b"",
        b"\x89PNG\r\n\x1a\n",
        ppm(40, 30, BLACK * 40 * 30),
        ppm(40, 30, BLACK * (40 * 30 - 16) + WHITE * 16),
        ppm(40, 30, (BLACK + WHITE) * 599),
        ppm(5000, 1, (BLACK + WHITE) * 2500),
        ppm(0, 30, b""),
    ],
    ids=["nothing", "a PNG", "blank", "a cursor", "cut off", "wide", "no width"],
)
def test_what_is_no_picture_gives_none(dump: bytes) -> None:
    assert draw(dump) is None


def test_a_picture_too_large_for_a_manifest_is_left_out() -> None:
    noise = random.Random(1).randbytes(3 * 400 * 300)
    assert draw(ppm(400, 300, noise)) is None


def test_a_machine_chooses_no_screen_that_takes_minutes(tmp_path: Path) -> None:
    """Nor one that takes this host's memory: what is too large is not looked at, nor read whole."""
    rows = (BLACK + WHITE) * 1000
    assert draw(ppm(2000, 1150, rows * 1150)) is not None
    assert draw(ppm(2000, 1200, rows * 1200)) is None
    dump = tmp_path / "screen.ppm"
    with dump.open("wb") as file:
        file.write(ppm(1000, 1000, b""))
        file.truncate(1 << 40)

    class Dumping:
        def ask(self, name: str, **arguments: object) -> object:
            return None

    assert take(cast(Running, Dumping()), dump) is None


def test_a_machine_that_gives_no_picture_is_no_failure(tmp_path: Path) -> None:
    class Refusing:
        def ask(self, name: str, **arguments: object) -> object:
            raise OSError(f"QEMU: the command {name} is no good")

    assert take(cast(Running, Refusing()), tmp_path / "screen.ppm") is None


def test_qemu_dumps_its_screen_though_it_may_open_no_file(tmp_path: Path) -> None:
    """Its firmware writes that there is no system; as root, QEMU is nobody by then."""
    disk, screen = tmp_path / "disk.qcow2", tmp_path / "screen.ppm"
    process.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "1M"])
    tmp_path.chmod(0o700)
    machine = Machine(
        architecture="amd64",
        system="x86_64",
        machine="q35",
        cpus=1,
        memory_mib=64,
        disk=disk,
        firmware="bios",
        accelerator=Accelerator(name="tcg", reason=""),
        console=tmp_path / "console",
        screen=screen,
    )
    picture, until = None, time.monotonic() + 120
    while picture is None and time.monotonic() < until:
        with running(machine, log=tmp_path / "log") as guest:
            time.sleep(2)
            guest.ask("stop")
            picture = take(guest, screen)
    assert picture, (tmp_path / "log").read_text()
    assert screen.stat().st_mode & 0o777 == 0o600
    assert len(pixels_of(picture)) == 3 * picture["width"] * picture["height"]
