"""Text formats beside an image: a template, filled in from the machine's description."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slipway.cache import create_file, sha256_of
from slipway.formats import Artifact, Description, Format
from slipway.formats.raw import sha256_of_sparse
from slipway.rendering.templating import render

__all__ = ["ARCHITECTURES", "Text", "beside"]

#: The kernel's and most hypervisors' words for Debian's architectures.
ARCHITECTURES: Mapping[str, str] = {"amd64": "x86_64", "arm64": "aarch64"}


class Text(Format):
    """A format of text alone: its one template, filled in for a qcow2 image.

    The template knows ``about`` and ``architecture``.
    """

    tools = ()
    builds_on = ("_text", "raw")
    needs = ("qcow2",)

    def export(
        self,
        raw: Path,
        output: Path,
        *,
        virtual_size: int,
        log: Path,
        about: Description | None = None,
    ) -> Artifact:
        """See :class:`~slipway.formats.Format`; the text holds nothing of the disk."""
        del virtual_size, log
        assert about and self.described
        context: dict[str, Any] = {
            "about": about,
            "architecture": ARCHITECTURES[about.architecture],
        }
        text = render(about.templates / self.described[0], context)
        with create_file(output) as file:
            file.write(text.encode())
        return beside(self.name, raw, output, compression=None)


def beside(name: str, raw: Path, output: Path, *, compression: str | None) -> Artifact:
    """Return the artifact of a finished file without the disk in it."""
    return Artifact(
        format=name,
        file=output.name,
        size=output.stat().st_size,
        sha256=sha256_of(output),
        uncompressed_size=raw.stat().st_size,
        uncompressed_sha256=sha256_of_sparse(raw),
        compression=compression,
    )
