"""An ext4 file system inside a disk file -> the same file system without a build's accidents.

`mke2fs -d` copies change and access times from its source, and no program can set a change time. It
also counts its written bytes. Two builds of one tree would differ in nothing but these.

This module rewrites in place: the times of every used inode, the count of written KiB in every
super block, and the checksums after them. The modification time is clamped to the epoch. The other
three times equal it, without nanoseconds.

Format: the Linux kernel's Documentation/filesystems/ext4 (super block, group descriptors, inodes,
checksums).
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path

import google_crc32c

from slipway.errors import BuildError

__all__ = ["normalise"]

_MAGIC = 0xEF53
_COMPAT_64BIT = 0x80
_RO_METADATA_CSUM = 0x400
_INCOMPAT_CSUM_SEED = 0x2000
_RO_SPARSE_SUPER = 0x1
_INODE_UNINIT = 0x1
# s_kbytes_written, 64 bits; of one tree, just made or from the cache, it differed by 48 KiB
_WRITTEN = 0x178
_SUPER_CHECKSUM = 0x3FC
_ATTRIBUTES = (0xEA020000).to_bytes(4, "little")


def normalise(disk: Path, *, offset: int, epoch: int) -> int:
    """Make the file system at ``offset`` (bytes) a function of its files and ``epoch`` (seconds
    since 1970).

    Returns:
        The number of inodes rewritten.

    Raises:
        BuildError: No ext4 file system with 256-byte inodes is there, or it has features that
            `mke2fs.conf` does not ask for.
    """
    with disk.open("r+b") as file, mmap.mmap(file.fileno(), 0) as image:
        return _Filesystem(image, offset).normalise(epoch)


def _crc32c(seed: int, data: bytes) -> int:
    """Return CRC-32C as ext4 chains it: without the library's inversions before and after."""
    return int(google_crc32c.extend(seed ^ 0xFFFFFFFF, data)) ^ 0xFFFFFFFF


def _is_power(number: int, base: int) -> bool:
    """Return True if a number is a power of another one; 1 is."""
    while number % base == 0:
        number //= base
    return number == 1


def _sort_attributes(inode: bytearray) -> None:
    """Put the attributes inside an inode into one order.

    Mke2fs takes the order of the tree's own file system.
    """
    first = 0x80 + struct.unpack_from("<H", inode, 0x80)[0] + 4
    if inode[first - 4 : first] != _ATTRIBUTES:
        return
    entries, at = [], first
    while inode[at : at + 4].strip(b"\0"):
        length, index, value_at, elsewhere, size, digest = struct.unpack_from("<BBHIII", inode, at)
        if elsewhere:
            return
        value = bytes(inode[first + value_at : first + value_at + size])
        entries.append((index, bytes(inode[at + 16 : at + 16 + length]), value, digest))
        at += (16 + length + 3) & ~3
    area, at, end = bytearray(len(inode) - first), 0, len(inode) - first
    for index, name, value, digest in sorted(entries):
        end -= (len(value) + 3) & ~3
        struct.pack_into(
            "<BBHIII", area, at, len(name), index, end if value else 0, 0, len(value), digest
        )
        area[at + 16 : at + 16 + len(name)] = name
        area[end : end + len(value)] = value
        at += (16 + len(name) + 3) & ~3
    inode[first:] = area


class _Filesystem:
    def __init__(self, image: mmap.mmap, offset: int) -> None:
        self.image = image
        self.offset = offset
        super_block = image[offset + 1024 : offset + 2048]
        (magic,) = struct.unpack_from("<H", super_block, 0x38)
        (inode_size,) = struct.unpack_from("<H", super_block, 0x58)
        incompatible, read_only = struct.unpack_from("<II", super_block, 0x60)
        if (
            magic != _MAGIC
            or inode_size != 256
            or incompatible & _INCOMPAT_CSUM_SEED
            or not read_only & _RO_METADATA_CSUM
        ):
            raise BuildError(
                "the disk holds no ext4 file system of the expected kind",
                hint="mke2fs did not follow mke2fs.conf",
            )
        self.block_size = 1024 << struct.unpack_from("<I", super_block, 0x18)[0]
        self.inodes_per_group = struct.unpack_from("<I", super_block, 0x28)[0]
        self.groups = -(-struct.unpack_from("<I", super_block, 0x0)[0] // self.inodes_per_group)
        (self.first_block,) = struct.unpack_from("<I", super_block, 0x14)
        (self.blocks_per_group,) = struct.unpack_from("<I", super_block, 0x20)
        self.sparse_super = bool(read_only & _RO_SPARSE_SUPER)
        self.descriptor_size = (
            struct.unpack_from("<H", super_block, 0xFE)[0] if incompatible & _COMPAT_64BIT else 32
        )
        self.seed = _crc32c(0xFFFFFFFF, super_block[0x68:0x78])

    def _block(self, descriptor: bytes, low: int, high: int) -> int:
        """Return the position in the image of a block, from two halves of its number in a group
        descriptor.
        """
        number = struct.unpack_from("<I", descriptor, low)[0]
        if self.descriptor_size > 32:
            number |= struct.unpack_from("<I", descriptor, high)[0] << 32
        return int(self.offset + number * self.block_size)

    def normalise(self, epoch: int) -> int:
        for at in self._super_blocks():
            self._forget_writes(at)
        return self._rewrite_inodes(epoch)

    def _super_blocks(self) -> Iterator[int]:
        """Yield the positions of the super block and its backups (groups 0, 1 and the powers of 3,
        5 and 7).
        """
        yield self.offset + 1024
        for group in range(1, self.groups):
            if not self.sparse_super or any(_is_power(group, base) for base in (3, 5, 7)):
                yield (
                    self.offset
                    + (self.first_block + group * self.blocks_per_group) * self.block_size
                )

    def _forget_writes(self, at: int) -> None:
        block = bytearray(self.image[at : at + 1024])
        if struct.unpack_from("<H", block, 0x38)[0] != _MAGIC:
            raise BuildError(
                f"there is no super block at byte {at} of the disk",
                hint="mke2fs did not follow mke2fs.conf",
            )
        # as in an empty file system; 0 would end the count
        struct.pack_into("<Q", block, _WRITTEN, 1)
        struct.pack_into(
            "<I", block, _SUPER_CHECKSUM, _crc32c(0xFFFFFFFF, bytes(block[:_SUPER_CHECKSUM]))
        )
        self.image[at : at + 1024] = bytes(block)

    def _rewrite_inodes(self, epoch: int) -> int:
        first = self.offset + (self.block_size if self.block_size > 1024 else 2048)
        count = 0
        for group in range(self.groups):
            start = first + group * self.descriptor_size
            descriptor = self.image[start : start + self.descriptor_size]
            if struct.unpack_from("<H", descriptor, 0x12)[0] & _INODE_UNINIT:
                continue
            bitmap_at = self._block(descriptor, 0x4, 0x24)
            bitmap = self.image[bitmap_at : bitmap_at + self.inodes_per_group // 8]
            table = self._block(descriptor, 0x8, 0x28)
            for index in range(self.inodes_per_group):
                if bitmap[index >> 3] >> (index & 7) & 1:
                    self._rewrite(
                        table + index * 256, group * self.inodes_per_group + index + 1, epoch
                    )
                    count += 1
        return count

    def _rewrite(self, at: int, number: int, epoch: int) -> None:
        inode = bytearray(self.image[at : at + 256])
        # mke2fs keeps 32 bits only. The times after 2038 are read as such, at the price of those
        # before 1970.
        (modified,) = struct.unpack_from("<I", inode, 0x10)
        time = min(modified, epoch)
        struct.pack_into("<iii", inode, 0x8, time, time, time)
        struct.pack_into("<H", inode, 0x7C, 0)
        # Reserved inodes have no extra part; all others hold the nanoseconds and the creation time
        # in it.
        extra = struct.unpack_from("<H", inode, 0x80)[0] >= 0x18
        if extra:
            struct.pack_into("<HIIIiI", inode, 0x82, 0, 0, 0, 0, time, 0)
            _sort_attributes(inode)
        checksum = _crc32c(self.seed, struct.pack("<I", number) + bytes(inode[0x64:0x68]))
        checksum = _crc32c(checksum, bytes(inode))
        struct.pack_into("<H", inode, 0x7C, checksum & 0xFFFF)
        if extra:
            struct.pack_into("<H", inode, 0x82, checksum >> 16)
        self.image[at : at + 256] = bytes(inode)
