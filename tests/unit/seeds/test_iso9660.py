"""Files in an ISO 9660 image, as programs of others read it."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from real_tools import need
from slipway.seeds.iso9660 import read_iso, write_iso

FILES = {"user-data": b"#cloud-config\n", "meta-data": b"instance-id: one\n" * 300}


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "some.iso"
    path.write_bytes(write_iso("cidata", FILES))
    return path


def test_what_was_written_is_read() -> None:
    assert read_iso(write_iso("cidata", FILES)) == ("cidata", FILES)


def test_the_bytes_never_change() -> None:
    """Seeds that people have are compared with what is written for them now."""
    first = write_iso("cidata", FILES)
    assert first == write_iso("cidata", dict(reversed(FILES.items())))
    assert hashlib.sha256(first).hexdigest() == (
        "8dcfd24bba262ab861e51bd2284e4e90052de8fac1bebf135e015f8a9b2a759d"
    )


def test_isoinfo_reads_names_modes_and_contents(image: Path) -> None:
    need("isoinfo")

    def isoinfo(*words: str) -> bytes:
        return subprocess.run(
            ["isoinfo", "-i", image, *words], check=True, capture_output=True
        ).stdout

    assert b"\nVolume id: cidata\n" in isoinfo("-d")
    assert b"Rock Ridge signatures version 1 found" in isoinfo("-d")
    listed = isoinfo("-R", "-l").decode().splitlines()
    assert [line.split() for line in listed if "-data" in line] == [
        f"-r-------- 1 0 0 {len(FILES[name])} Jan 1 1980 [ {at} 00] {name}".split()
        for name, at in (("meta-data", 22), ("user-data", 25))
    ]
    for name, content in FILES.items():
        assert isoinfo("-R", "-x", f"/{name}") == content


def test_blkid_finds_type_and_label(image: Path) -> None:
    need("blkid")
    said = subprocess.run(
        ["blkid", "-p", "-o", "export", image], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    assert {"TYPE=iso9660", "LABEL=cidata"} <= set(said)


def test_path_tables_are_where_libarchive_looks_for_them() -> None:
    """From sector 19 on; else bsdtar and file managers see an empty archive."""
    image = write_iso("cidata", FILES)
    little, big = image[16 * 2048 + 140 :][:4], image[16 * 2048 + 148 :][:4]
    places = int.from_bytes(little, "little"), int.from_bytes(big, "big")
    assert places == (19, 20)
    assert image[19 * 2048 :][:10] == b"\1\0" + (21).to_bytes(4, "little") + b"\1\0\0\0"
    assert image[20 * 2048 :][:10] == b"\1\0" + (21).to_bytes(4, "big") + b"\0\1\0\0"


@pytest.mark.parametrize(
    "damaged", [b"", b"\0" * 60_000, write_iso("cidata", FILES)[: 16 * 2048 + 40]]
)
def test_what_is_no_image_is_refused(damaged: bytes) -> None:
    with pytest.raises(ValueError, match="no primary volume descriptor"):
        read_iso(damaged)


def test_names_that_a_directory_cannot_hold_are_refused() -> None:
    with pytest.raises(ValueError, match="no directory of one sector has these names: user-data"):
        write_iso("cidata", {"user-data": b"", "user-date": b""})
