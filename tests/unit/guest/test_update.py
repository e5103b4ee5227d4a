"""slipway-update, the program that writes an image to the other slot: on files instead of
partitions.
"""

from __future__ import annotations

import hashlib
import importlib.machinery
import importlib.util
import io
import struct
from pathlib import Path
from types import ModuleType

import pytest
import zstandard

from slipway.host import process

MIB = 1 << 20
SIZE = 3 * MIB + 5000
#: A root file system as far as the program looks at it: its magic number, its size, and bytes.
ROOT = b"hsqs" + bytes(36) + struct.pack("<Q", SIZE) + b"text" * ((SIZE - 48) // 4)


@pytest.fixture(scope="module")
def update() -> ModuleType:
    path = Path(__file__).parents[3] / "templates/guest/read-only/usr/sbin/slipway-update"
    loader = importlib.machinery.SourceFileLoader("slipway_update", str(path))
    spec = importlib.util.spec_from_loader("slipway_update", loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A disk with the root in its second partition, and something behind it."""
    path = tmp_path_factory.mktemp("disk") / "disk.raw"
    with path.open("wb") as file:
        file.truncate(12 * MIB)
    layout = (
        b'label: gpt\nstart=2048, size=2048, name="esp"\nstart=4096, size=8192, name="root-a"\n'
    )
    process.run(["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", path], input=layout)
    with path.open("r+b") as file:
        file.seek(2 * MIB)
        file.write(ROOT)
        file.seek(10 * MIB)
        file.write(b"state")
    return path.read_bytes()


@pytest.fixture
def slot(tmp_path: Path) -> Path:
    """A slot that holds an older root."""
    path = tmp_path / "slot"
    path.write_bytes(b"hsqs" + b"old" * 2 * MIB)
    return path


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("whole", [False, True])
def test_the_root_of_an_image_is_in_the_slot(
    update: ModuleType, disk: bytes, slot: Path, whole: bool, compressed: bool
) -> None:
    data = disk if whole else ROOT
    data = zstandard.compress(data) if compressed else data
    digest = hashlib.sha256(data).hexdigest()
    assert update.write(update.Image(io.BytesIO(data)), slot, digest.upper()) == digest
    assert slot.read_bytes()[:SIZE] == ROOT


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda disk: disk[: 4 * MIB], "the image ends too early"),
        (
            lambda disk: zstandard.compress(disk)[:-5000],
            "the image ends too early|the image is damaged",
        ),
        (lambda disk: disk[:-1], "the image's SHA-256 is"),
        (lambda disk: b"", "the image ends too early"),
        (lambda disk: bytes(9000), "this is neither a disk nor a root file system"),
        (
            lambda disk: disk.replace("root-a".encode("utf-16le"), "root-x".encode("utf-16le")),
            "this disk has no read-only root",
        ),
    ],
)
def test_what_is_damaged_leaves_nothing_that_could_start(
    update: ModuleType, disk: bytes, slot: Path, damage: object, message: str
) -> None:
    assert callable(damage)
    with pytest.raises(update.Failure, match=message):
        update.write(update.Image(io.BytesIO(damage(disk))), slot, hashlib.sha256(disk).hexdigest())
    assert slot.read_bytes()[:4096] == bytes(4096)


def test_a_root_that_is_too_large_for_the_slot_is_refused(update: ModuleType, slot: Path) -> None:
    slot.write_bytes(bytes(2 * MIB))
    with pytest.raises(
        update.Failure, match="the root takes 3 MiB, and a slot of this disk has 2 MiB"
    ):
        update.write(update.Image(io.BytesIO(ROOT)), slot, None)
