"""raw.zst: the same bytes whatever the machine, readable by zstd itself, and back again."""

from __future__ import annotations

import hashlib
import io
import random
import resource
from pathlib import Path

import pytest
import zstandard

from slipway.errors import VerificationError
from slipway.formats import load
from slipway.formats.raw import JOB_SIZE, Frame, chunks, compress, sha256_of_sparse, unpack
from slipway.host import process

MIB = 1 << 20


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_one_pass_gives_both_hashes_and_both_sizes(disk: Path, tmp_path: Path) -> None:
    output = tmp_path / "out" / "disk.raw.zst"
    artifact = load("raw").export(disk, output, virtual_size=1 << 30, log=tmp_path / "log")
    assert artifact.facts() == {
        "format": "raw",
        "file": "disk.raw.zst",
        "size": output.stat().st_size,
        "sha256": sha256(output),
        "uncompressed_size": 24 * MIB,
        "uncompressed_sha256": sha256(disk),
        "compression": "zstd",
    }
    assert artifact.size < 7 * MIB
    assert output.stat().st_mode & 0o777 == 0o444


def test_the_zstd_program_unpacks_it(disk: Path, tmp_path: Path) -> None:
    output = tmp_path / "disk.raw.zst"
    compress(disk, output)
    assert process.run(["zstd", "-dc", output]).stdout == disk.read_bytes()
    listing = process.run(["zstd", "-lv", output]).stdout.decode()
    assert "Check: XXH64" in listing
    assert "(25165824 B)" in listing


def test_any_number_of_workers_gives_the_same_bytes(disk: Path, tmp_path: Path) -> None:
    outputs = []
    for workers in (1, 2, 3, 8):
        compress(disk, tmp_path / "out", workers=workers)
        outputs.append(sha256(tmp_path / "out"))
    assert len(set(outputs)) == 1


@pytest.mark.integration
@pytest.mark.parametrize("jobs", [1, 6])
@pytest.mark.parametrize("more", [-1, 0, 1])
def test_a_disk_that_ends_with_a_job_gives_the_same_bytes_whoever_is_first(
    jobs: int, more: int, tmp_path: Path
) -> None:
    """Sizes around a multiple of a job's, and any number of workers: a job's end is a race.

    zstd that loses the race ends the frame with an empty block (RFC 8878, 3.1.1.2): it always
    stands there.
    """
    raw = tmp_path / "raw"
    raw.write_bytes(random.Random(jobs).randbytes(jobs * JOB_SIZE + more))
    found = {compress(raw, tmp_path / "packed", workers=workers).sha256 for workers in (1, 2, 8)}
    assert len(found) == 1
    packed = (tmp_path / "packed").read_bytes()
    assert (packed[-7:-4] == b"\x01\0\0") == (more == 0)
    assert process.run(["zstd", "-dc", tmp_path / "packed"]).stdout == raw.read_bytes()


@pytest.mark.parametrize(
    ("more", "flushes"), [(-1, []), (0, [zstandard.COMPRESSOBJ_FLUSH_BLOCK]), (1, [])]
)
def test_a_frame_that_ends_with_a_job_is_flushed_before_its_end(
    more: int, flushes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The race above is rarely lost on a busy host, and then nothing would be seen of it."""
    frame = Frame(io.BytesIO())
    real, said = frame._compressor, []

    class Recorded:
        compress = staticmethod(real.compress)

        @staticmethod
        def flush(mode: int = zstandard.COMPRESSOBJ_FLUSH_FINISH) -> bytes:
            said.append(mode)
            return real.flush(mode)

    monkeypatch.setattr(frame, "_compressor", Recorded())
    frame.write(bytes(JOB_SIZE + more))
    frame.finish()
    assert said == [*flushes, zstandard.COMPRESSOBJ_FLUSH_FINISH]


def test_where_the_holes_are_makes_no_difference(disk: Path, tmp_path: Path) -> None:
    full = tmp_path / "full.raw"
    full.write_bytes(disk.read_bytes())
    assert full.stat().st_blocks > disk.stat().st_blocks
    assert compress(disk, tmp_path / "a").sha256 == compress(full, tmp_path / "b").sha256
    assert sha256_of_sparse(disk) == sha256(disk)


@pytest.mark.parametrize("size", [0, 1, 4096, MIB - 1, MIB, 3 * MIB + 5])
@pytest.mark.parametrize("content", ["holes", "zeros", "data"])
def test_disks_of_any_size_come_back_as_they_were(size: int, content: str, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.write_bytes(
        b"" if content == "holes" else bytes(size) if content == "zeros" else b"x" * size
    )
    with raw.open("ab") as file:
        file.truncate(size)
    assert b"".join(chunks(raw)) == raw.read_bytes()
    artifact = compress(raw, tmp_path / "packed")
    found = unpack(
        tmp_path / "packed",
        tmp_path / "back",
        sha256=artifact.sha256,
        uncompressed_sha256=artifact.uncompressed_sha256,
        uncompressed_size=artifact.uncompressed_size,
    )
    assert found == size
    assert (tmp_path / "back").read_bytes() == raw.read_bytes()


def test_unpacking_leaves_out_what_is_zero(disk: Path, tmp_path: Path) -> None:
    artifact = compress(disk, tmp_path / "packed")
    unpack(
        tmp_path / "packed",
        tmp_path / "back",
        sha256=artifact.sha256,
        uncompressed_sha256=artifact.uncompressed_sha256,
        uncompressed_size=artifact.uncompressed_size,
    )
    assert (tmp_path / "back").read_bytes() == disk.read_bytes()
    assert (tmp_path / "back").stat().st_blocks * 512 < 9 * MIB


def damaged(packed: Path) -> Path:
    data = bytearray(packed.read_bytes())
    data[len(data) // 2] ^= 1
    bad = packed.with_name("bad")
    bad.write_bytes(data)
    return bad


def test_another_file_is_refused_and_leaves_nothing(disk: Path, tmp_path: Path) -> None:
    artifact = compress(disk, tmp_path / "packed")
    bad = damaged(tmp_path / "packed")
    with pytest.raises(VerificationError) as caught:
        unpack(
            bad,
            tmp_path / "back",
            sha256=artifact.sha256,
            uncompressed_sha256=artifact.uncompressed_sha256,
            uncompressed_size=artifact.uncompressed_size,
        )
    assert str(caught.value) == (
        f"error: {bad} has the SHA-256 {sha256(bad)}, expected {artifact.sha256}\n"
        "  hint: download it again"
    )
    assert not (tmp_path / "back").exists()


def test_a_damaged_file_with_the_promised_hash_is_refused(disk: Path, tmp_path: Path) -> None:
    artifact = compress(disk, tmp_path / "packed")
    bad = damaged(tmp_path / "packed")
    with pytest.raises(VerificationError, match=f"^error: {bad} is not a complete zstd file: "):
        unpack(
            bad,
            tmp_path / "back",
            sha256=sha256(bad),
            uncompressed_sha256=artifact.uncompressed_sha256,
            uncompressed_size=artifact.uncompressed_size,
        )


def test_a_file_that_ends_too_early_is_refused(disk: Path, tmp_path: Path) -> None:
    artifact = compress(disk, tmp_path / "packed")
    short = tmp_path / "short"
    short.write_bytes((tmp_path / "packed").read_bytes()[:-10])
    with pytest.raises(VerificationError) as caught:
        unpack(
            short,
            tmp_path / "back",
            sha256=sha256(short),
            uncompressed_sha256=artifact.uncompressed_sha256,
            uncompressed_size=artifact.uncompressed_size,
        )
    assert caught.value.message == f"{short} is not a complete zstd file: it ends too early"


def test_another_disk_inside_is_refused(disk: Path, tmp_path: Path) -> None:
    artifact = compress(disk, tmp_path / "packed")
    with pytest.raises(VerificationError) as caught:
        unpack(
            tmp_path / "packed",
            tmp_path / "back",
            sha256=artifact.sha256,
            uncompressed_sha256="0" * 64,
            uncompressed_size=artifact.uncompressed_size,
        )
    assert caught.value.message == (
        f"{tmp_path / 'packed'} holds a disk with the SHA-256 {artifact.uncompressed_sha256}, "
        f"expected {'0' * 64}"
    )
    assert not (tmp_path / "back").exists()


def test_no_more_is_unpacked_than_the_disk_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few kilobytes hold half a GiB of ones; their own hash is right."""
    bomb = tmp_path / "bomb"
    with bomb.open("wb") as file, zstandard.ZstdCompressor().stream_writer(file) as writer:
        for _ in range(512):
            writer.write(b"1" * MIB)
    written: list[int] = []
    monkeypatch.setattr(
        "slipway.formats.raw.write_sparse", lambda file, data: written.append(len(data))
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(VerificationError) as caught:
        unpack(
            bomb,
            tmp_path / "back",
            sha256=sha256(bomb),
            uncompressed_sha256="0" * 64,
            uncompressed_size=MIB,
        )
    assert caught.value.message == f"{bomb} holds more than the {MIB} bytes of its disk"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB
    assert sum(written) <= 3 * MIB
    assert not (tmp_path / "back").exists()
