"""A raw disk -> the same bytes compressed with zstd, with input and output hashed in the same pass.

The output is one zstd frame (RFC 8878) with its content's size and a checksum at its end; any
``zstd -d`` unpacks it.

Invariants: the output depends on the disk's bytes alone, not on the file's holes, the number of
processors or the cuts of reads. Every byte is read once. Holes are not read at all: they are hashed
and compressed as zeros.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, Final, cast

import zstandard

from slipway.cache import create_file
from slipway.errors import VerificationError
from slipway.formats import Artifact, Description, Format

__all__ = ["Frame", "Raw", "chunks", "compress", "sha256_of_sparse", "unpack", "write_sparse"]

#: Bytes read at a time.
CHUNK: Final = 1 << 20
#: zstd's output is the same for any number of workers only while these are fixed; each job is
#: compressed by one worker.
LEVEL: Final = 3
JOB_SIZE: Final = 8 << 20
#: Blocks of zeros of this size are left out of a file that is unpacked: the usual block size of
#: file systems.
BLOCK: Final = 4096
_ZEROS: Final = bytes(CHUNK)
#: How many chunks may wait to be hashed, which bounds the memory.
_WAITING: Final = 16


class _Digest:
    """A SHA-256 fed in the background; hashlib releases the interpreter lock while it hashes."""

    def __init__(self) -> None:
        # One thread of its own: what comes first has to be hashed first.
        self._pool = ThreadPoolExecutor(1)
        self._digest = hashlib.sha256()
        self._pending: deque[Future[None]] = deque()
        self.size = 0

    def update(self, data: bytes | memoryview) -> None:
        self.size += len(data)
        self._pending.append(self._pool.submit(self._digest.update, data))
        if len(self._pending) > _WAITING:
            self._pending.popleft().result()

    def hexdigest(self) -> str:
        while self._pending:
            self._pending.popleft().result()
        self._pool.shutdown()
        return self._digest.hexdigest()


def chunks(path: Path) -> Iterator[bytes | memoryview]:
    """Yield a file's bytes in order, in pieces of at most 1 MiB.

    Holes (lseek(2), SEEK_HOLE) come as zeros and are not read.
    """
    with path.open("rb", buffering=0) as file:
        descriptor = file.fileno()
        end = os.fstat(descriptor).st_size
        position = 0
        while position < end:
            try:
                data = os.lseek(descriptor, position, os.SEEK_DATA)
                hole = os.lseek(descriptor, data, os.SEEK_HOLE)
            except OSError as error:
                if error.errno != errno.ENXIO:  # it means that there is no data after this position
                    raise
                data = hole = end
            while position < data:
                piece = memoryview(_ZEROS)[: data - position]
                position += len(piece)
                yield piece
            while position < hole:
                read = os.pread(descriptor, min(CHUNK, hole - position), position)
                if not read:
                    raise OSError(errno.EIO, "the file became shorter while it was read", str(path))
                position += len(read)
                yield read


class Frame:
    """A zstd frame, hashed while it is written; ``size`` and ``sha256`` are the frame's.

    Args:
        size: The number of bytes to come, recorded in the frame; None if unknown.
        workers: Processors to compress with; 0 means all.
    """

    def __init__(self, file: IO[bytes], *, size: int | None = None, workers: int = 0) -> None:
        parameters = zstandard.ZstdCompressionParameters.from_level(
            LEVEL,
            source_size=size or 0,
            # No worker at all would be another algorithm with another output.
            threads=workers or len(os.sched_getaffinity(0)),
            job_size=JOB_SIZE,
            enable_ldm=False,
            write_content_size=True,
            write_checksum=True,
        )
        self._compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj(
            **({} if size is None else {"size": size})
        )
        self._file = file
        self._digest = _Digest()
        #: How much came in.
        self._taken = 0

    def write(self, data: bytes | memoryview) -> None:
        """Compress more data."""
        self._taken += len(data)
        self._put(self._compressor.compress(data))

    def finish(self) -> None:
        """Write the rest of the frame.

        If the data ends with a job, the library writes an empty last block or none, depending on
        its workers' progress: two files for one disk. A flush before the end makes it always one.
        """
        if self._taken and self._taken % JOB_SIZE == 0:
            self._put(self._compressor.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK))
        self._put(self._compressor.flush())

    def _put(self, data: bytes) -> None:
        if data:
            self._digest.update(data)
            self._file.write(data)

    @property
    def size(self) -> int:
        return self._digest.size

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


class Raw(Format):
    """The raw disk as built, compressed: the source of deltas, and the file to write to a real
    disk.

    It is not padded to the virtual size: the root file system grows to the size of its new disk.
    """

    name = "raw"
    suffix = ".raw.zst"
    tools = ("python:zstandard",)

    def export(
        self,
        raw: Path,
        output: Path,
        *,
        virtual_size: int,
        log: Path,
        about: Description | None = None,
    ) -> Artifact:
        """See :class:`~slipway.formats.Format`; the disk it is written to decides the virtual
        size.
        """
        del virtual_size, log, about
        return compress(raw, output)


def compress(raw: Path, output: Path, *, workers: int = 0) -> Artifact:
    """Compress and hash a disk in one pass, with ``workers`` processors; 0 means all."""
    with create_file(output) as file:
        before = _Digest()
        frame = Frame(file, size=raw.stat().st_size, workers=workers)
        for chunk in chunks(raw):
            before.update(chunk)
            frame.write(chunk)
        frame.finish()
        return Artifact(
            format=Raw.name,
            file=output.name,
            size=frame.size,
            sha256=frame.sha256,
            uncompressed_size=before.size,
            uncompressed_sha256=before.hexdigest(),
            compression="zstd",
        )


def unpack(
    packed: Path, output: Path, *, sha256: str, uncompressed_sha256: str, uncompressed_size: int
) -> int:
    """Unpack a disk into a sparse file and return its size.

    The file gets its name only after both hashes were verified.

    Args:
        uncompressed_size: The disk's size in bytes; unpacking stops beyond it.

    Raises:
        VerificationError: The file is not the published one, or holds another disk.
        HostError: There is no space left.
    """
    # Gigabytes that somebody works with now, and unpacks again after a power cut.
    with create_file(output, mode=0o644, lasting=False) as file:
        before, after = _Digest(), _Digest()
        damage = ""
        source = _Hashed(packed, before)
        try:
            # Asked for a megabyte at a time: of a few bytes of input zstd can make gigabytes.
            with zstandard.ZstdDecompressor().stream_reader(cast(IO[bytes], source)) as reader:
                while after.size <= uncompressed_size and (data := reader.read(1 << 20)):
                    after.update(data)
                    write_sparse(file, data)
        except zstandard.ZstdError as error:
            damage = str(error)
        source.finish()
        found = before.hexdigest()
        if found != sha256:
            raise VerificationError(
                f"{packed} has the SHA-256 {found}, expected {sha256}", hint="download it again"
            )
        if after.size > uncompressed_size:
            raise VerificationError(
                f"{packed} holds more than the {uncompressed_size} bytes of its disk",
                hint="download it again",
            )
        if damage or after.size < uncompressed_size:
            raise VerificationError(
                f"{packed} is not a complete zstd file: {damage or 'it ends too early'}"
            )
        if after.hexdigest() != uncompressed_sha256:
            raise VerificationError(
                f"{packed} holds a disk with the SHA-256 {after.hexdigest()}, expected "
                f"{uncompressed_sha256}"
            )
        file.truncate(after.size)
        return after.size


class _Hashed:
    """A file's bytes, hashed as they are read."""

    def __init__(self, path: Path, digest: _Digest) -> None:
        self._chunks = chunks(path)
        self._digest = digest
        self._left = b""

    def read(self, size: int) -> bytes:
        """Return at most ``size`` bytes."""
        if not self._left:
            self._left = bytes(next(self._chunks, b""))
            self._digest.update(self._left)
        taken, self._left = self._left[:size], self._left[size:]
        return taken

    def finish(self) -> None:
        """Hash the unread rest."""
        for chunk in self._chunks:
            self._digest.update(chunk)


def write_sparse(file: IO[bytes], data: bytes) -> None:
    """Write at the file's position, but step over each 4 KiB of zeros.

    The caller sets the size in the end.
    """
    start = end = 0
    while end < len(data):
        block = data[end : end + BLOCK]
        if block == _ZEROS[: len(block)]:
            file.write(data[start:end])
            file.seek(len(block), os.SEEK_CUR)
            start = end + len(block)
        end += len(block)
    file.write(data[start:end])


def sha256_of_sparse(path: Path) -> str:
    """Return the SHA-256 of a file, without reading its holes."""
    digest = hashlib.sha256()
    for chunk in chunks(path):
        digest.update(chunk)
    return digest.hexdigest()
