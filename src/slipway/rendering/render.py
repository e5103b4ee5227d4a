"""Hold the files for a builder, rendered from templates and the spec before anything is built.

A :class:`Rendered` is a folder in memory. A copied file stays on the disk, and is read when it is
written. The first path component is a file's *part* of the build. A part's content is the input of
the stage made from it. `invoke render` writes the folder. The builder runs exactly the files that
it would write, so people can read them before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from slipway.errors import UsageError
from slipway.host.rooted import create, make_link

__all__ = ["Rendered", "RenderedFile"]


#: How much of a file is in memory at once.
_BLOCK: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedFile:
    """A file's content and permission bits, or the target of a symbolic link.

    With ``source``, a function that opens a file, the content is that file's. ``seen`` is its
    digest at the time of :meth:`copied`.
    """

    content: bytes = b""
    mode: int = 0o644
    link: str | None = None
    source: Callable[[], AbstractContextManager[IO[bytes]]] | None = None
    seen: str = ""

    @classmethod
    def copied(
        cls, source: Callable[[], AbstractContextManager[IO[bytes]]], *, mode: int = 0o644
    ) -> RenderedFile:
        """Take a file as it is: read once now for its digest, and again when it is written."""
        return cls(mode=mode, source=source, seen=_digest(cls(mode=mode, source=source)))

    @property
    def digest(self) -> str:
        """The SHA-256 of mode and content, or of the link's target."""
        return self.seen or _digest(self)

    def blocks(self) -> Iterator[bytes]:
        """Yield the content, a block at a time."""
        if self.source is None:
            yield self.content
            return
        with self.source() as file:
            while block := file.read(_BLOCK):
                yield block

    def write(self, target: IO[bytes], path: str) -> None:
        """Write the content, and compare it with the digest.

        Raises:
            UsageError: The file has changed since its digest was made.
        """
        digest = self._start()
        for block in self.blocks():
            digest.update(block)
            target.write(block)
        if digest.hexdigest() != self.digest:
            raise UsageError(
                f"the file for {path} has changed since this command began",
                hint="run the command again",
            )

    def _start(self) -> hashlib._Hash:
        kind = f"link {self.link}" if self.link is not None else f"{self.mode:o}"
        return hashlib.sha256(kind.encode() + b"\0")


def _digest(file: RenderedFile) -> str:
    digest = file._start()
    for block in file.blocks():
        digest.update(block)
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Rendered:
    """Files by their relative path, in the order of their paths."""

    files: Mapping[str, RenderedFile]

    def digests(self, *parts: str) -> dict[str, str]:
        """Return path -> digest of every file in these parts.

        A part is the first path component, or a file's name at the top.
        """
        return {
            path: file.digest
            for path, file in sorted(self.files.items())
            if path.partition("/")[0] in parts
        }

    def write(self, directory: Path, *parts: str) -> list[Path]:
        """Write the files of all parts or of the given ones to a directory; return their paths.

        Raises:
            UsageError: The directory is not empty, or a file would go below a link.
        """
        if directory.exists() and any(directory.iterdir()):
            raise UsageError(f"{directory} is not empty", hint="give an empty directory with --out")
        written = []
        for path, file in sorted(self.files.items()):
            if parts and path.partition("/")[0] not in parts:
                continue
            if file.link is not None:
                make_link(directory, path, file.link)
            else:
                with create(directory, path, mode=file.mode) as target:
                    file.write(target, path)
            written.append(directory / path)
        return written
