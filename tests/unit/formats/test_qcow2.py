"""qcow2: what QEMU's own tools say of it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from slipway.errors import BuildError
from slipway.formats import load
from slipway.formats._image import compare
from slipway.host import process


def export(disk: Path, output: Path) -> dict[str, object]:
    return (
        load("qcow2")
        .export(disk, output, virtual_size=1 << 30, log=output.with_suffix(".log"))
        .facts()
    )


def test_it_is_a_compressed_image_of_the_disk_in_its_virtual_size(
    disk: Path, tmp_path: Path
) -> None:
    output = tmp_path / "disk.qcow2"
    facts = export(disk, output)
    assert facts == {
        "format": "qcow2",
        "file": "disk.qcow2",
        "size": output.stat().st_size,
        "sha256": hashlib.sha256(output.read_bytes()).hexdigest(),
        "uncompressed_size": 24 << 20,
        "uncompressed_sha256": hashlib.sha256(disk.read_bytes()).hexdigest(),
        "compression": "zstd",
    }
    info = json.loads(process.run(["qemu-img", "info", "--output=json", output]).stdout)
    assert info["virtual-size"] == 1 << 30
    assert info["format-specific"]["data"]["compression-type"] == "zstd"
    process.run(["qemu-img", "check", output])
    process.run(["qemu-img", "compare", "-f", "raw", "-F", "qcow2", disk, output])
    assert {path.name for path in tmp_path.iterdir()} == {"disk.raw", "disk.qcow2", "disk.log"}


def test_it_is_the_same_twice(disk: Path, tmp_path: Path) -> None:
    first, second = export(disk, tmp_path / "a.qcow2"), export(disk, tmp_path / "b.qcow2")
    assert first["sha256"] == second["sha256"]


def test_a_disk_that_does_not_fit_is_an_error(disk: Path, tmp_path: Path) -> None:
    with pytest.raises(BuildError) as caught:
        load("qcow2").export(
            disk, tmp_path / "x.qcow2", virtual_size=16 << 20, log=tmp_path / "log"
        )
    assert str(caught.value) == (
        "error: the disk needs 25165824 bytes, more than the 16777216 that it may have\n"
        "  hint: raise resources.disk_gib"
    )


def test_an_image_of_another_disk_is_an_error(disk: Path, tmp_path: Path) -> None:
    export(disk, tmp_path / "disk.qcow2")
    with disk.open("r+b") as file:
        file.seek(10 << 20)
        file.write(b"changed afterwards")
    with pytest.raises(BuildError) as caught:
        compare(disk, tmp_path / "disk.qcow2", "qcow2", log=tmp_path / "log")
    assert str(caught.value) == (
        "error: the qcow2 image does not hold what the raw disk holds: Content mismatch at "
        "offset 10485760!\n"
        f"  hint: the whole log is {tmp_path / 'log'}"
    )


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "disk.raw").symlink_to("/dev/null")
    (tmp_path / "out").mkdir()
    with pytest.raises(BuildError):
        compare(tmp_path / "missing", tmp_path / "missing.qcow2", "qcow2", log=tmp_path / "log")
    with pytest.raises(FileNotFoundError):
        load("qcow2").export(
            tmp_path / "missing",
            tmp_path / "out" / "x.qcow2",
            virtual_size=1 << 30,
            log=tmp_path / "log",
        )
    assert not list((tmp_path / "out").iterdir())
