"""Reading .deb files without dpkg: the control stanza and the members' times (deb(5)).

A .deb is an ``ar`` archive of three members: ``debian-binary``, ``control.tar`` and ``data.tar``,
compressed or not.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import lzma
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, cast

import zstandard

from slipway.errors import BuildError

__all__ = ["control_stanza", "newest_time"]

_MAGIC: Final = b"!<arch>\n"
_HEADER: Final = 60
#: The bytes of a package's control.tar at most, packed and unpacked; the largest in Debian have
#: some megabytes.
_MAX_CONTROL: Final = 64 << 20
_MAX_STANZA: Final = 1 << 20
_AGAIN: Final = "remove it, and build again"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Member:
    """One member: its content's offset, its size in bytes, and its time (seconds since 1970)."""

    name: str
    offset: int
    size: int
    mtime: int


def _members(file: IO[bytes], path: Path) -> Iterator[_Member]:
    if file.read(len(_MAGIC)) != _MAGIC:
        raise BuildError(f"{path} is not a Debian package", hint="remove it, and build again")
    offset = len(_MAGIC)
    while len(header := file.read(_HEADER)) == _HEADER:
        try:
            # ar(5): name 16, mtime 12, owner 6, group 6, mode 8, size 10 characters, then two of
            # magic.
            member = _Member(
                name=header[:16].decode().strip().rstrip("/"),
                offset=offset + _HEADER,
                size=_number(header[48:58]),
                mtime=_number(header[16:28]),
            )
        except ValueError:
            raise BuildError(
                f"{path} is not a Debian package", hint="remove it, and build again"
            ) from None
        yield member
        offset = member.offset + member.size + member.size % 2
        file.seek(offset)


def _number(digits: bytes) -> int:
    """Return a number of an ar header.

    A negative size is refused: it would lead back to the same member for ever.
    """
    if not digits.strip().isdigit():
        raise ValueError(digits)
    return int(digits)


def newest_time(path: Path) -> int:
    """Return the newest time of a package's members, in seconds since 1970.

    It is the build time, as given to dpkg-deb.

    Raises:
        BuildError: The file is not a package.
    """
    with path.open("rb") as file:
        return max((member.mtime for member in _members(file, path)), default=0)


def control_stanza(path: Path) -> str:
    """Return a package's control file, without empty lines at its end.

    Raises:
        BuildError: The file is not a package, or its control file is too large or unreadable.
    """
    with path.open("rb") as file:
        for member in _members(file, path):
            if member.name.startswith("control.tar"):
                if member.size > _MAX_CONTROL:
                    raise BuildError(
                        f"{path}: its {member.name} has {member.size} bytes, "
                        f"more than {_MAX_CONTROL}",
                        hint=_AGAIN,
                    )
                file.seek(member.offset)
                return _control(member.name, file.read(member.size), path)
    raise BuildError(
        f"{path} is not a Debian package: it has no control.tar", hint="remove it, and build again"
    )


class _Limited:
    """A stream that fails beyond the largest size of a control.tar.

    A small file can unpack to terabytes.
    """

    def __init__(self, inner: IO[bytes]) -> None:
        self._inner = inner
        self._left = _MAX_CONTROL

    def read(self, size: int) -> bytes:
        """Return up to ``size`` bytes.

        Raises:
            OSError: The stream exceeds the limit.
        """
        data = self._inner.read(min(size, self._left + 1))
        self._left -= len(data)
        if self._left < 0:
            raise OSError(f"it unpacks to more than {_MAX_CONTROL} bytes")
        return data


def _control(name: str, packed: bytes, path: Path) -> str:
    try:
        with contextlib.ExitStack() as stack:
            stream: IO[bytes] = io.BytesIO(packed)
            match name.removeprefix("control.tar"):
                case ".xz":
                    stream = stack.enter_context(lzma.open(stream))
                case ".zst":
                    stream = stack.enter_context(
                        io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(stream))
                    )
                case ".gz":
                    stream = cast(IO[bytes], stack.enter_context(gzip.open(stream)))
                case "":
                    pass
                case other:
                    raise BuildError(
                        f"{path}: its control.tar is packed in an unknown way ({other})"
                    )
            archive = stack.enter_context(
                tarfile.open(fileobj=cast(IO[bytes], _Limited(stream)), mode="r|")
            )
            for entry in archive:
                if entry.name in ("./control", "control"):
                    if entry.size > _MAX_STANZA:
                        raise BuildError(
                            f"{path}: its control file has {entry.size} bytes, "
                            f"more than {_MAX_STANZA}",
                            hint=_AGAIN,
                        )
                    content = archive.extractfile(entry)
                    return content.read().decode().rstrip("\n") if content else ""
    except (
        tarfile.TarError,
        lzma.LZMAError,
        zstandard.ZstdError,
        OSError,
        EOFError,
        UnicodeDecodeError,
    ) as error:
        raise BuildError(
            f"{path}: its control file cannot be read ({error})", hint="remove it, and build again"
        ) from None
    raise BuildError(
        f"{path} is not a Debian package: it has no control file", hint="remove it, and build again"
    )
