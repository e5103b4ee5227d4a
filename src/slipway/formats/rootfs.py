"""A raw disk -> the files of its root file system as a tar archive, for containers (Incus, LXD,
systemd-nspawn, Docker).

The archive is POSIX pax, with extended attributes as every tar writes them (``SCHILY.xattr``), in
one zstd frame.

Invariants: files come in the order of their paths. Everything in the file system is kept, except
times other than the last change. Several names of one file become hard links. Nothing is copied to
disk on the way.
"""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from slipway.cache import create_file
from slipway.disk.files import ROOT_OFFSET, Ext4, File
from slipway.errors import BuildError
from slipway.formats import Artifact, Description, Format
from slipway.formats.raw import Frame, sha256_of_sparse

__all__ = ["Rootfs"]

_TYPES: Final = {
    stat.S_IFREG: tarfile.REGTYPE,
    stat.S_IFDIR: tarfile.DIRTYPE,
    stat.S_IFLNK: tarfile.SYMTYPE,
    stat.S_IFCHR: tarfile.CHRTYPE,
    stat.S_IFBLK: tarfile.BLKTYPE,
    stat.S_IFIFO: tarfile.FIFOTYPE,
}
_BLOCK: Final = tarfile.BLOCKSIZE


class Rootfs(Format):
    """The files, without the disk around them."""

    name = "rootfs"
    suffix = ".rootfs.tar.zst"
    tools = ("python", "python:zstandard")
    builds_on = ("raw", "disk/files")

    def export(
        self,
        raw: Path,
        output: Path,
        *,
        virtual_size: int,
        log: Path,
        about: Description | None = None,
    ) -> Artifact:
        """See :class:`~slipway.formats.Format`; a container has no virtual size."""
        del virtual_size, log, about
        with (
            ThreadPoolExecutor(1) as background,
            Ext4(raw, offset=ROOT_OFFSET) as system,
            create_file(output) as file,
        ):
            raw_sha256 = background.submit(sha256_of_sparse, raw)
            frame = Frame(file)
            for piece in archive(system):
                frame.write(piece)
            frame.finish()
            return Artifact(
                format=self.name,
                file=output.name,
                size=frame.size,
                sha256=frame.sha256,
                uncompressed_size=raw.stat().st_size,
                uncompressed_sha256=raw_sha256.result(),
                compression="zstd",
            )


def archive(system: Ext4) -> Iterator[bytes]:
    """Yield the pieces of the archive.

    Raises:
        BuildError: A file is a socket, and no archive can hold one.
    """
    first: dict[int, str] = {}
    for file in system.files():
        member = _member(file)
        regular = member.type == tarfile.REGTYPE
        if regular and file.links > 1 and first.setdefault(file.inode, member.name) != member.name:
            member.type, member.linkname, member.size = tarfile.LNKTYPE, first[file.inode], 0
            regular = False
        yield member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
        if regular:
            yield from system.content(file)
            yield bytes(-file.size % _BLOCK)
    yield bytes(2 * _BLOCK)


def _member(file: File) -> tarfile.TarInfo:
    member = tarfile.TarInfo(os.fsdecode(file.path) or ".")
    kind = _TYPES.get(stat.S_IFMT(file.mode))
    if kind is None:
        raise BuildError(
            f"/{os.fsdecode(file.path)} is a socket, which no archive can hold",
            hint="remove it in a setup script",
        )
    member.type = kind
    member.mode, member.uid, member.gid, member.mtime = (
        stat.S_IMODE(file.mode),
        file.uid,
        file.gid,
        file.mtime,
    )
    member.size = file.size if kind == tarfile.REGTYPE else 0
    member.linkname = os.fsdecode(file.target)
    member.devmajor, member.devminor = file.device
    member.pax_headers = {
        f"SCHILY.xattr.{name}": value.decode("utf-8", "surrogateescape")
        for name, value in file.attributes.items()
    }
    return member
