"""VHD, VHDX and VMDK: what QEMU and a reader that others wrote find in them."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest
from dissect.hypervisor.disk.vhd import VHD
from dissect.hypervisor.disk.vhdx import VHDX
from dissect.hypervisor.disk.vmdk import VMDK

from example_disk import write_disk
from slipway.errors import BuildError
from slipway.formats import load
from slipway.formats.vhd import check_footer, footer, geometry
from slipway.formats.vhdx import check_headers, write
from slipway.host import process

pytestmark = pytest.mark.integration

MIB = 1 << 20
SIZE = 1 << 30
NAMES = ("vhd", "vhdx", "vmdk")
QEMU = {"vhd": "vpc", "vhdx": "vhdx", "vmdk": "vmdk"}
READERS: dict[str, Callable[[IO[bytes]], Any]] = {"vhd": VHD, "vhdx": VHDX, "vmdk": VMDK}


def export(name: str, disk: Path, output: Path) -> dict[str, Any]:
    return (
        load(name).export(disk, output, virtual_size=SIZE, log=output.with_suffix(".log")).facts()
    )


@pytest.mark.parametrize("name", NAMES)
def test_it_says_what_it_is(name: str, disk: Path, tmp_path: Path) -> None:
    output = tmp_path / f"disk.{name}"
    assert export(name, disk, output) == {
        "format": name,
        "file": output.name,
        "size": output.stat().st_size,
        "sha256": hashlib.sha256(output.read_bytes()).hexdigest(),
        "uncompressed_size": 24 * MIB,
        "uncompressed_sha256": hashlib.sha256(disk.read_bytes()).hexdigest(),
        "compression": "deflate" if name == "vmdk" else None,
    }
    info = json.loads(
        process.run(["qemu-img", "info", "-f", QEMU[name], "--output=json", output]).stdout
    )
    assert info["virtual-size"] == (24 * MIB if name == "vhd" else SIZE)
    assert output.stat().st_size < 26 * MIB
    assert {path.name for path in tmp_path.iterdir()} == {"disk.raw", output.name, "disk.log"}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The disk in each format, by its name, to read."""
    folder = tmp_path_factory.mktemp("images")
    disk = write_disk(folder / "disk.raw")
    made = {name: folder / f"disk.{name}" for name in NAMES}
    for name, output in made.items():
        export(name, disk, output)
    return made


@contextmanager
def damaged(image: Path, place: int) -> Iterator[None]:
    """An image with another bit at a place, for as long as the block lasts."""

    def turn() -> None:
        with image.open("r+b") as file:
            file.seek(place)
            byte = file.read(1)
            file.seek(place)
            file.write(bytes([byte[0] ^ 1]))

    image.chmod(0o644)
    turn()
    try:
        yield
    finally:
        turn()


@pytest.mark.parametrize("name", NAMES)
def test_another_reader_finds_the_same_disk(
    name: str, disk: Path, images: Mapping[str, Path]
) -> None:
    with images[name].open("rb") as file:
        reader = READERS[name](file)
        found = hashlib.sha256(reader.read(24 * MIB)).hexdigest()
        assert not reader.read(4 * MIB).strip(b"\0")
    assert found == hashlib.sha256(disk.read_bytes()).hexdigest()


@pytest.mark.parametrize("name", NAMES)
def test_the_same_disk_is_the_same_bytes_and_another_is_another(
    name: str, disk: Path, tmp_path: Path
) -> None:
    first = export(name, disk, tmp_path / "a")
    second = export(name, disk, tmp_path / "b")
    assert first["sha256"] == second["sha256"]
    with disk.open("r+b") as file:
        file.write(b"x")
    assert export(name, disk, tmp_path / "c")["sha256"] != first["sha256"]


@pytest.mark.parametrize("name", NAMES)
def test_a_disk_whose_end_is_within_a_block_is_whole(name: str, tmp_path: Path) -> None:
    disk = tmp_path / "disk.raw"
    disk.write_bytes(b"start" + bytes(3 * MIB) + b"end".ljust(1536, b"."))
    output = tmp_path / "out"
    export(name, disk, output)
    process.run(["qemu-img", "compare", "-f", "raw", "-F", QEMU[name], disk, output])


def test_a_disk_that_does_not_fit_is_an_error(disk: Path, tmp_path: Path) -> None:
    with pytest.raises(
        BuildError, match="the disk needs 25165824 bytes, more than the 16777216 that it may have"
    ):
        load("vhdx").export(disk, tmp_path / "x", virtual_size=16 * MIB, log=tmp_path / "log")
    assert not (tmp_path / "x").exists()


def test_a_table_with_bitmap_places_is_read_right(tmp_path: Path) -> None:
    """With more blocks than one bitmap covers, places in the table are left out for bitmaps
    ([MS-VHDX] 2.5).
    """
    disk = tmp_path / "disk.raw"
    with disk.open("wb") as file:
        for number in (0, 4095, 4096):
            file.seek(number * MIB)
            file.write(b"block %d" % number)
        file.truncate(4097 * MIB)
    known: Future[str] = Future()
    known.set_result("0" * 64)
    with (tmp_path / "x").open("wb") as file:
        write(disk, file, virtual_size=6000 * MIB, raw_sha256=known)
    with (tmp_path / "x").open("rb") as file:
        reader = VHDX(file)
        for number in (0, 4095, 4096):
            reader.seek(number * MIB)
            assert reader.read(10).rstrip(b"\0") == b"block %d" % number


@pytest.mark.parametrize("place", [0, 8, 40, 60, 64])
def test_a_damaged_footer_is_noticed(images: Mapping[str, Path], place: int) -> None:
    output = images["vhd"]
    check_footer(output)
    with (
        damaged(output, 24 * MIB + place),
        pytest.raises(ValueError, match=r"is not a fixed VHD of|has a wrong checksum"),
    ):
        check_footer(output)


@pytest.mark.parametrize("place", [65536 + 9, 131072 + 4, 196608 + 20, 262144 + 70])
def test_a_damaged_header_is_noticed(images: Mapping[str, Path], place: int) -> None:
    output = images["vhdx"]
    check_headers(output)
    with damaged(output, place), pytest.raises(ValueError, match="is damaged"):
        check_headers(output)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (2 * MIB, (60, 4, 17)),
        (512 * MIB, (1024, 16, 63)),
        (8 << 30, (16644, 16, 63)),
        (3 << 40, (65535, 16, 255)),
    ],
)
def test_the_geometry_is_the_specifications(size: int, expected: tuple[int, int, int]) -> None:
    cylinders, heads, sectors = geometry(size)
    assert cylinders * heads * sectors * 512 <= size
    if size != 512 * MIB:
        assert (cylinders, heads, sectors) == expected
    assert struct.unpack(">HBB", footer(size, bytes(16))[56:60]) == (cylinders, heads, sectors)


def test_the_two_headers_of_a_vhdx_are_told_apart_by_their_numbers(
    images: Mapping[str, Path],
) -> None:
    """The one with the larger number is the current one.

    Equal ones make an image that no reader accepts ([MS-VHDX] 2.2.2).
    """
    content = images["vhdx"].read_bytes()[: 3 * 65536]
    first, second = (struct.unpack_from("<Q", content, place + 8)[0] for place in (65536, 131072))
    assert first < second
    assert content[65536 + 16 : 65536 + 68] == content[131072 + 16 : 131072 + 68]


def test_a_vmdk_is_a_stream_that_names_its_disk(disk: Path, tmp_path: Path) -> None:
    """Importers read a stream-optimised image once: its grains come in the order of their
    sectors.
    """
    facts = export("vmdk", disk, tmp_path / "x")
    content = (tmp_path / "x").read_bytes()
    descriptor = content[512 : 21 * 512].rstrip(b"\0").decode()
    assert f"CID={facts['uncompressed_sha256'][:8]}\n" in descriptor
    assert f'ddb.longContentID = "{facts["uncompressed_sha256"][:32]}"\n' in descriptor
    sectors, place = [], 128 * 512
    while (marker := struct.unpack_from("<QI", content, place))[1]:
        sectors.append(marker[0])
        place += -(-(12 + marker[1]) // 512) * 512
    assert len(sectors) > 100
    assert sectors == sorted(set(sectors))
