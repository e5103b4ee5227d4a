"""Shared steps of the image formats: write beside the place, check, compare, flush, rename.

Invariants: an image gets its name only after QEMU found it sound and equal to the raw disk.
Identifiers in it come from the disk's hash, so the same disk gives the same bytes.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from slipway.cache import sha256_of
from slipway.errors import BuildError, HostError
from slipway.formats import Artifact
from slipway.formats.raw import BLOCK, chunks, sha256_of_sparse
from slipway.host import process

__all__ = ["Form", "blocks", "compare", "derived_uuid", "export_image", "finished"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """The name of a format, and its artifacts' compression.

    ``reads`` is QEMU's name of the format if it differs.
    """

    name: str
    compression: str | None
    reads: str | None = None


def export_image(
    raw: Path,
    output: Path,
    make: Callable[[Path, Future[str]], str | None],
    form: Form,
    *,
    virtual_size: int,
    log: Path,
) -> Artifact:
    """Make, check and compare an image.

    Args:
        make: Writes the image to a path, while the raw disk's SHA-256 is computed. If the image is
            only a part of the file, it returns the place for QEMU (``json:...``).

    Raises:
        BuildError: The disk is larger than the virtual size, a program failed, or the image differs
            from the raw disk.
    """
    reads = form.reads or form.name
    raw_size = raw.stat().st_size
    if virtual_size < raw_size:
        raise BuildError(
            f"the disk needs {raw_size} bytes, more than the {virtual_size} that it may have",
            hint="raise resources.disk_gib",
        )
    with ThreadPoolExecutor(1) as background, finished(output) as partial:
        raw_hash = background.submit(sha256_of_sparse, raw)
        image = make(partial, raw_hash) or partial
        hashed = background.submit(sha256_of, partial)
        if reads in ("qcow2", "vmdk", "vhdx"):
            process.run(
                ["qemu-img", "check", "-q", *_named("-f", reads, image)],
                what=f"checking the {form.name} image",
                log=log,
            )
        compare(raw, image, reads, log=log)
        return Artifact(
            format=form.name,
            file=output.name,
            size=partial.stat().st_size,
            sha256=hashed.result(),
            uncompressed_size=raw_size,
            uncompressed_sha256=raw_hash.result(),
            compression=form.compression,
        )


@contextlib.contextmanager
def finished(output: Path) -> Iterator[Path]:
    """Hold a temporary path to write to.

    At a normal end, the file is flushed and renamed to the output.

    Raises:
        HostError: There is no space left.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.name[:200]}.{secrets.token_hex(8)}")
    try:
        yield partial
        partial.chmod(0o444)
        descriptor = os.open(partial, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        partial.replace(output)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        hint = "free some space, or run: invoke cache prune"
        raise HostError(f"no space left in {output.parent}", hint=hint) from error
    finally:
        partial.unlink(missing_ok=True)


def _named(option: str, image_format: str, image: Path | str) -> list[str | Path]:
    """Return QEMU's options for an image; only a path needs its format."""
    return [option, image_format, image] if isinstance(image, Path) else [image]


def compare(raw: Path, image: Path | str, image_format: str, *, log: Path) -> None:
    """Compare an image with the raw disk.

    Beyond the disk's end, the image must hold zeros.

    Raises:
        BuildError: Image and disk differ, or the comparison failed.
    """
    argv: list[str | Path] = [
        "qemu-img",
        "compare",
        "-f",
        "raw",
        raw,
        *_named("-F", image_format, image),
    ]
    done = process.run(argv, what="comparing the image with the disk", check=False)
    with log.open("ab") as file:
        file.write(done.stdout)
    if done.returncode == 1:
        finding = done.stdout.decode(errors="replace").strip().splitlines()[-1]
        raise BuildError(
            f"the {image_format} image does not hold what the raw disk holds: {finding}",
            hint=f"the whole log is {log}",
        )
    if done.returncode:
        # for its error message
        process.run(argv, what="comparing the image with the disk", log=log)


def blocks(raw: Path, size: int) -> Iterator[tuple[int, bytes]]:
    """Yield number and content of a disk's blocks with more than zeros.

    The last block is padded with zeros.

    Args:
        size: Bytes in a block, at least 4096 and at most 1 MiB, a power of two.
    """
    assert BLOCK <= size <= 1 << 20
    zeros = bytes(size)
    rest = bytearray()
    number = 0
    for chunk in chunks(raw):
        rest += chunk
        while len(rest) >= size:
            block = bytes(rest[:size])
            del rest[:size]
            if block != zeros:
                yield number, block
            number += 1
    if rest.strip(b"\0"):
        yield number, bytes(rest.ljust(size, b"\0"))


def derived_uuid(role: str, raw_sha256: str) -> uuid.UUID:
    """Return an identifier of an image for a role.

    It is a version 8 UUID (RFC 9562, 5.8) from the SHA-256 of the role and the disk's hash.
    """
    digest = bytearray(hashlib.sha256(f"{role}\0{raw_sha256}".encode()).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x80
    digest[8] = digest[8] & 0x3F | 0x80
    return uuid.UUID(bytes=bytes(digest))
