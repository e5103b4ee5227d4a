"""An ext4 file system inside a disk file -> its files, read without a mount and without another
copy.

What goes in: a disk and the start of the file system. What comes out: its files in the order of
their paths, each with everything an archive can hold of it.

Invariants: an unclean file system and an unsupported feature are errors. Every inode in use is
reached; anything else is an error.

Format: the Linux kernel's Documentation/filesystems/ext4 (super block, inodes, extents,
directories, attributes).
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from slipway.errors import BuildError

__all__ = ["ROOT_OFFSET", "Ext4", "File"]

#: Where the root partition begins, in bytes (templates/disk/layout.sfdisk.j2).
ROOT_OFFSET: Final = 135168 * 512

_MAGIC: Final = 0xEF53
_CLEAN: Final = 0x1
#: Names of types in directories, extents, 64-bit block numbers, flexible groups, the seed of
#: checksums.
_FEATURES: Final = 0x2 | 0x40 | 0x80 | 0x200 | 0x2000
_64BIT: Final = 0x80
_ROOT: Final = 2
_EXTENTS: Final = 0x80000  # of an inode: its blocks are in extents
_ATTRIBUTES: Final = 0xEA020000
_PREFIXES: Final[Mapping[int, str]] = {1: "user.", 4: "trusted.", 6: "security.", 7: "system."}
_ACLS: Final[Mapping[int, str]] = {2: "system.posix_acl_access", 3: "system.posix_acl_default"}
_CHUNK: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One name in the tree.

    ``path`` has no leading slash and is empty for the root. ``mode`` includes the type (inode(7)).
    ``device`` is major and minor number. ``target`` is a symbolic link's.
    """

    path: bytes
    inode: int
    mode: int
    uid: int
    gid: int
    mtime: int
    size: int
    links: int
    target: bytes
    device: tuple[int, int]
    attributes: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class _Extent:
    """``count`` blocks of a file from block ``first`` on.

    They begin at block ``start`` of the disk; None stands for zeros.
    """

    first: int
    count: int
    start: int | None


class Ext4:
    """The file system at ``offset`` (bytes); a context manager.

    Raises:
        BuildError: No readable ext4 file system is there.
    """

    def __init__(self, disk: Path, *, offset: int) -> None:
        self._disk = disk
        self._offset = offset
        self._descriptor = os.open(disk, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._read_super_block()
        except BaseException:
            os.close(self._descriptor)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._descriptor)

    def _fail(self, problem: str) -> BuildError:
        return BuildError(f"the root file system of {self._disk} cannot be read: {problem}")

    def _read(self, position: int, size: int) -> bytes:
        data = os.pread(self._descriptor, size, self._offset + position)
        if len(data) != size:
            raise self._fail("the disk ends too early")
        return data

    def _read_super_block(self) -> None:
        block = self._read(1024, 1024)
        inodes, free = (
            struct.unpack_from("<I", block, 0x0)[0],
            struct.unpack_from("<I", block, 0x10)[0],
        )
        magic, state = struct.unpack_from("<HH", block, 0x38)
        (features,) = struct.unpack_from("<I", block, 0x60)
        if magic != _MAGIC:
            raise self._fail(
                "it is not ext4 (of a read-only root there is neither rootfs nor incus)"
            )
        if not state & _CLEAN or features & ~_FEATURES:
            raise self._fail(
                "it is not clean, or has features that are not read here "
                f"({features & ~_FEATURES:#x})"
            )
        self._block_size = 1024 << struct.unpack_from("<I", block, 0x18)[0]
        (self._inodes_per_group,) = struct.unpack_from("<I", block, 0x28)
        self._first_inode, self._inode_size = struct.unpack_from("<IH", block, 0x54)
        self._in_use = inodes - free - (self._first_inode - 1)
        descriptor_size = struct.unpack_from("<H", block, 0xFE)[0] if features & _64BIT else 32
        groups = -(-inodes // self._inodes_per_group)
        table = self._read(max(self._block_size, 2048), groups * descriptor_size)
        self._inode_tables = []
        for group in range(groups):
            (number,) = struct.unpack_from("<I", table, group * descriptor_size + 0x8)
            if descriptor_size > 32:
                number |= struct.unpack_from("<I", table, group * descriptor_size + 0x28)[0] << 32
            self._inode_tables.append(number * self._block_size)

    def _inode(self, number: int) -> bytes:
        group, index = divmod(number - 1, self._inodes_per_group)
        return self._read(self._inode_tables[group] + index * self._inode_size, self._inode_size)

    def files(self) -> Iterator[File]:
        """Yield every name, a folder before its contents, siblings by their names' bytes.

        Raises:
            BuildError: The file system holds something unsupported, or an inode in use was not
                reached.
        """
        seen: set[int] = set()
        waiting = [(b"", _ROOT)]
        while waiting:
            path, number = waiting.pop()
            file = self._file(path, number)
            if number >= self._first_inode:
                seen.add(number)
            yield file
            if stat.S_ISDIR(file.mode):
                prefix = path + b"/" if path else b""
                waiting += [
                    (prefix + name, found)
                    for name, found in sorted(self._entries(file), reverse=True)
                ]
        if len(seen) != self._in_use:
            raise self._fail(f"it has {self._in_use} inodes in use, and {len(seen)} were found")

    def content(self, file: File) -> Iterator[bytes]:
        """Yield the content of a regular file, in pieces of at most 1 MiB.

        Unstored parts come as zeros.
        """
        position, end = 0, file.size
        for extent in [
            *self._extents(self._inode(file.inode)),
            _Extent(-(-end // self._block_size), 0, None),
        ]:
            for start, stop, place in (
                (position, extent.first * self._block_size, None),
                (
                    extent.first * self._block_size,
                    (extent.first + extent.count) * self._block_size,
                    extent.start,
                ),
            ):
                for at in range(start, min(stop, end), _CHUNK):
                    size = min(_CHUNK, stop - at, end - at)
                    yield (
                        bytes(size)
                        if place is None
                        else self._read(place * self._block_size + at - start, size)
                    )
                    position = at + size

    def _file(self, path: bytes, number: int) -> File:
        inode = self._inode(number)
        mode, uid, size = struct.unpack_from("<HHI", inode, 0x0)
        (mtime,) = struct.unpack_from("<i", inode, 0x10)
        gid, links = struct.unpack_from("<HH", inode, 0x18)
        (size_high,) = struct.unpack_from("<I", inode, 0x6C)
        uid_high, gid_high = struct.unpack_from("<HH", inode, 0x78)
        size |= size_high << 32
        target, device = b"", (0, 0)
        if stat.S_ISLNK(mode):
            target = (
                inode[0x28 : 0x28 + size] if size < 60 else b"".join(self._blocks(inode))[:size]
            )
        elif stat.S_ISBLK(mode) or stat.S_ISCHR(mode):
            old, new = struct.unpack_from("<II", inode, 0x28)
            device = (
                (old >> 8 & 0xFF, old & 0xFF)
                if old
                else (new >> 8 & 0xFFF, new & 0xFF | new >> 12 & 0xFFF00)
            )
        return File(
            path=path,
            inode=number,
            mode=mode,
            uid=uid | uid_high << 16,
            gid=gid | gid_high << 16,
            mtime=mtime,
            size=size,
            links=links,
            target=target,
            device=device,
            attributes=self._attributes(inode, path),
        )

    def _extents(self, inode: bytes) -> Iterator[_Extent]:
        if not struct.unpack_from("<I", inode, 0x20)[0] & _EXTENTS:
            raise self._fail("a file's blocks are not in extents")
        yield from self._extents_of(inode[0x28 : 0x28 + 60])

    def _extents_of(self, node: bytes) -> Iterator[_Extent]:
        """Yield the extents in a node of an inode's tree, in order."""
        magic, count, _, depth = struct.unpack_from("<HHHH", node)
        if magic != 0xF30A:
            raise self._fail("a file's extents are damaged")
        for at in range(12, 12 + count * 12, 12):
            if depth:
                _, low, high = struct.unpack_from("<IIH", node, at)
                yield from self._extents_of(
                    self._read((low | high << 32) * self._block_size, self._block_size)
                )
            else:
                first, length, high, low = struct.unpack_from("<IHHI", node, at)
                # A length above 32768 is that of blocks that were set aside and never written: they
                # read as zeros.
                yield (
                    _Extent(first, length - 32768, None)
                    if length > 32768
                    else _Extent(first, length, low | high << 32)
                )

    def _blocks(self, inode: bytes) -> Iterator[bytes]:
        for extent in self._extents(inode):
            for number in range(extent.count if extent.start is not None else 0):
                yield self._read(
                    ((extent.start or 0) + number) * self._block_size, self._block_size
                )

    def _entries(self, folder: File) -> Iterator[tuple[bytes, int]]:
        """Yield names and inodes in a folder; an index of hashes looks like unused entries."""
        for block in self._blocks(self._inode(folder.inode)):
            at = 0
            while at < self._block_size:
                number, length, name_length = struct.unpack_from("<IHB", block, at)
                name = block[at + 8 : at + 8 + name_length]
                if length < 8:
                    raise self._fail(f"the folder /{os.fsdecode(folder.path)} is damaged")
                if number and name not in (b".", b".."):
                    yield name, number
                at += length

    def _attributes(self, inode: bytes, path: bytes) -> dict[str, bytes]:
        """Return extended attributes: from behind the inode's own fields, and from a block of their
        own.
        """
        found: dict[str, bytes] = {}
        extra = struct.unpack_from("<H", inode, 0x80)[0] if self._inode_size > 128 else 0
        inside = 0x80 + extra
        if (
            extra
            and inside + 4 <= len(inode)
            and struct.unpack_from("<I", inode, inside)[0] == _ATTRIBUTES
        ):
            found |= dict(self._attributes_in(inode[inside + 4 :], 0, path))
        block = (
            struct.unpack_from("<I", inode, 0x68)[0]
            | struct.unpack_from("<H", inode, 0x76)[0] << 32
        )
        if block:
            content = self._read(block * self._block_size, self._block_size)
            found |= dict(self._attributes_in(content, 32, path))
        return dict(sorted(found.items()))

    def _attributes_in(self, area: bytes, at: int, path: bytes) -> Iterator[tuple[str, bytes]]:
        while area[at : at + 4].strip(b"\0"):
            name_length, index, value_at, in_inode, size = struct.unpack_from("<BBHII", area, at)
            name = area[at + 16 : at + 16 + name_length].decode()
            value = area[value_at : value_at + size]
            if in_inode or not (index in _PREFIXES or index in _ACLS):
                raise self._fail(
                    f"/{os.fsdecode(path)} has an attribute of a kind that is not read here"
                )
            yield (
                (_ACLS[index], _acl(value)) if index in _ACLS else (_PREFIXES[index] + name, value)
            )
            at += (16 + name_length + 3) & ~3


def _acl(stored: bytes) -> bytes:
    """Convert an access control list from ext4's form to the kernel's and archives' form.

    The result is version 2 of acl(5), with an id in every entry.
    """
    entries, at = struct.pack("<I", 2), 4
    while at < len(stored):
        tag, rights = struct.unpack_from("<HH", stored, at)
        named = tag in (0x2, 0x8)
        identity = struct.unpack_from("<I", stored, at + 4)[0] if named else 0xFFFFFFFF
        entries += struct.pack("<HHI", tag, rights, identity)
        at += 8 if named else 4
    return entries
