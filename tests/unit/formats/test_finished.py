"""An image gets its name only when QEMU found it sound, and found the disk in it."""

from __future__ import annotations

import errno
import shutil
import struct
from concurrent.futures import Future
from pathlib import Path

import pytest

from slipway.errors import BuildError, HostError
from slipway.formats._image import Form, export_image, finished
from slipway.host import process

SIZE = 1 << 30


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_no_space_left_is_no_bug(tmp_path: Path, number: int) -> None:
    output = tmp_path / "out/disk.vmdk"
    with pytest.raises(HostError) as caught, finished(output) as partial:
        partial.write_bytes(b"half")
        raise OSError(number, "full")
    assert str(caught.value) == (
        f"error: no space left in {output.parent}\n"
        "  hint: free some space, or run: invoke cache prune"
    )
    assert not list(output.parent.iterdir())


def test_two_processes_with_one_number_do_not_share_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Containers that share a folder have the same process ids.

    A name as long as names get fits, too.
    """
    monkeypatch.setattr("os.getpid", lambda: 1)
    output = tmp_path / ("x" * 250 + ".vmdk")
    with finished(output) as one:
        one.write_bytes(b"one")
        with finished(output) as other:
            assert one != other
            other.write_bytes(b"other")
        assert (one.read_bytes(), output.read_bytes()) == (b"one", b"other")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"one"]


def test_an_image_of_another_disk_gets_no_name(disk: Path, tmp_path: Path) -> None:
    def make(image: Path, _: Future[str]) -> None:
        shutil.copyfile(disk, image)
        with image.open("r+b") as file:
            file.seek(10 << 20)
            file.write(b"something else")

    output = tmp_path / "out/disk.img"
    with pytest.raises(BuildError) as caught:
        export_image(
            disk,
            output,
            make,
            Form(name="raw", compression=None),
            virtual_size=SIZE,
            log=tmp_path / "log",
        )
    assert caught.value.message == (
        "the raw image does not hold what the raw disk holds: Content mismatch at offset 10485760!"
    )
    assert not list(output.parent.iterdir())


def test_an_image_that_is_longer_than_the_disk_holds_zeros_there(
    disk: Path, tmp_path: Path
) -> None:
    def make(image: Path, _: Future[str]) -> None:
        shutil.copyfile(disk, image)
        with image.open("ab") as file:
            file.write(b"more".ljust(4096, b"\0"))

    with pytest.raises(BuildError, match="Content mismatch at offset 25165824!"):
        export_image(
            disk,
            tmp_path / "out/x",
            make,
            Form(name="raw", compression=None),
            virtual_size=SIZE,
            log=tmp_path / "log",
        )


def test_an_image_that_qemu_finds_damaged_gets_no_name(disk: Path, tmp_path: Path) -> None:
    """QEMU reads the right disk in it, but what it would write there is lost: a cluster in use
    counts as free.
    """

    def make(image: Path, _: Future[str]) -> None:
        process.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", disk, image])
        with image.open("r+b") as file:
            # docs/interop/qcow2.txt: at 48 the refcount table's place, in it the first block's, in
            # it 16 bits a cluster.
            file.seek(48)
            (table,) = struct.unpack(">Q", file.read(8))
            file.seek(table)
            (block,) = struct.unpack(">Q", file.read(8))
            file.seek(block + 2 * 5)
            file.write(bytes(2))

    output = tmp_path / "out/disk.qcow2"
    with pytest.raises(BuildError, match=r"^error: checking the qcow2 image failed: exit status 2"):
        export_image(
            disk,
            output,
            make,
            Form(name="qcow2", compression=None),
            virtual_size=SIZE,
            log=tmp_path / "log",
        )
    assert not list(output.parent.iterdir())
