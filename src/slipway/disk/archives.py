"""A packed file -> its contents: the start of a compressed file, the members of an initramfs.

What goes in: untrusted bytes. What comes out: bytes, never more than a bound. This is a part of the
program :mod:`slipway.disk.hygiene`.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from typing import IO, Final, cast

with contextlib.suppress(ImportError):  # then what zstd has packed cannot be read
    import zstandard

__all__ = ["initramfs", "unpacked"]

#: By how it begins: gzip (RFC 1952), bzip2, xz, zstd (RFC 8878).
_GZIP, _BZIP2, _XZ, _ZSTD = b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd"
_ERRORS: Final = (
    OSError,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    *([zstandard.ZstdError] if "zstandard" in globals() else []),
)
#: cpio's format newc (Linux, Documentation/driver-api/early-userspace/buffer-format.rst): 6
#: characters and 13 numbers of 8.
_HEADER: Final = 110
_MAGIC: Final = (b"070701", b"070702")
_LONGEST_NAME: Final = 4096
#: All that an initramfs may unpack to.
_MOST: Final = 4 << 30


def unpacked(data: bytes, limit: int) -> bytes:
    """Return the start of a compressed file's contents, at most ``limit`` bytes.

    Data in no known compression is returned as it is.
    """
    stream = _stream(io.BytesIO(data))
    if stream is None:
        return data
    found = bytearray()
    try:
        while len(found) < limit:
            more = stream.read(min(1 << 16, limit - len(found)))
            if not more:
                break
            found += more
    except _ERRORS:
        pass  # cut off, or not what it seemed: what came out is looked at
    return bytes(found)


def _stream(file: IO[bytes]) -> IO[bytes] | None:
    """Return a stream to unpack a file, chosen by its first bytes; None if it is not compressed."""
    start = file.read(6)
    file.seek(-len(start), io.SEEK_CUR)
    if start.startswith(_GZIP):
        return cast("IO[bytes]", gzip.GzipFile(fileobj=file))
    if start.startswith(_BZIP2):
        return bz2.BZ2File(file)
    if start == _XZ:
        return lzma.LZMAFile(file, format=lzma.FORMAT_XZ)
    if start.startswith(_ZSTD) and "zstandard" in globals():
        return cast(
            "IO[bytes]",
            zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(
                file, read_across_frames=True
            ),
        )
    return None


def initramfs(file: IO[bytes], most: int) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the first ``most`` bytes of each regular file in an initramfs.

    Raises:
        ValueError: The file is no initramfs, or is damaged.
    """
    try:
        yield from _archives(file, most)
    except _ERRORS as error:
        raise ValueError(f"it cannot be unpacked: {error}") from None


def _archives(file: IO[bytes], most: int) -> Iterator[tuple[str, bytes]]:
    """Yield the members of archives one after another.

    The last archive may be compressed, up to the end of the file.
    """
    compressed, whole = False, False
    while True:
        magic = file.read(4)
        while magic == b"\0\0\0\0":  # archives are padded
            magic = file.read(4)
        if not magic.strip(b"\0"):
            if not whole:
                raise ValueError("it holds no cpio archive")
            return
        if magic == _MAGIC[0][:4]:
            yield from _members(_Counted(file), magic, most)
            whole = True
            continue
        if compressed or not file.seekable():
            raise ValueError("it is not a cpio archive")
        file.seek(-len(magic), io.SEEK_CUR)
        stream = _stream(file)
        if stream is None:
            raise ValueError("it is neither a cpio archive nor compressed in a known way")
        file, compressed, whole = stream, True, False


class _Counted:
    """A stream read up to a bound; an early end is an error."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.at = 4

    def read(self, count: int) -> bytes:
        data = self._file.read(count)
        self.at += len(data)
        if len(data) != count:
            raise ValueError("it ends early")
        if self.at > _MOST:
            raise ValueError("it unpacks to more than 4 GiB")
        return data

    def skip(self, count: int) -> None:
        while count:
            count -= len(self.read(min(count, 1 << 20)))

    def align(self) -> None:
        self.skip(-self.at % 4)


def _members(file: _Counted, magic: bytes, most: int) -> Iterator[tuple[str, bytes]]:
    """Yield an archive's regular files, up to its trailer; its first four bytes were read."""
    while True:
        header = magic + file.read(_HEADER - len(magic))
        magic = b""
        if header[:6] not in _MAGIC:
            raise ValueError("a header is damaged")
        numbers = [int(header[at : at + 8], 16) for at in range(6, _HEADER, 8)]
        mode, size, length = numbers[1], numbers[6], numbers[11]
        if not 0 < length <= _LONGEST_NAME:
            raise ValueError("a name is too long")
        name = file.read(length)[:-1].decode(errors="replace")
        file.align()
        if name == "TRAILER!!!":
            return
        data = file.read(min(size, most))
        file.skip(size - len(data))
        file.align()
        if mode & 0o170000 == 0o100000:
            yield name.removeprefix("./"), data
