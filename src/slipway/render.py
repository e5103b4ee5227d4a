"""What a builder runs, as files: rendered from templates and the spec, before anything is built.

A :class:`Rendered` is a folder in memory. Its first path component is the *part* of the build that a file belongs to;
the content of a part is the input of the stage made from it. `invoke render` writes the folder, and the builder runs
exactly what that would write: what one reads is what runs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from slipway.errors import UsageError
from slipway.rooted import create, make_link

__all__ = ["Rendered", "RenderedFile"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedFile:
    """A file's content and permission bits, or the target of a symbolic link."""

    content: bytes = b""
    mode: int = 0o644
    link: str | None = None

    @property
    def digest(self) -> str:
        """The SHA-256 of all of it."""
        kind = f"link {self.link}" if self.link is not None else f"{self.mode:o}"
        return hashlib.sha256(kind.encode() + b"\0" + self.content).hexdigest()


@dataclass(frozen=True, slots=True)
class Rendered:
    """Files by their relative path, in the order of their paths."""

    files: Mapping[str, RenderedFile]

    def digests(self, *parts: str) -> dict[str, str]:
        """Path -> digest of every file below the given first components (or files at the top of these names)."""
        return {path: file.digest for path, file in sorted(self.files.items()) if path.partition("/")[0] in parts}

    def write(self, directory: Path, *parts: str) -> list[Path]:
        """Write the files below a directory, all or those of the given parts.

        Raises:
            UsageError: The directory holds something else already, or a file is to go below a link.
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
                    target.write(file.content)
            written.append(directory / path)
        return written
