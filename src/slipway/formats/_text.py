"""Text formats beside an image: a template, filled in from the machine's description."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slipway.cache import create_file, sha256_of
from slipway.formats import Artifact, Description
from slipway.formats.raw import sha256_of_sparse
from slipway.rendering.templating import render

__all__ = ["ARCHITECTURES", "beside", "export_text"]

#: The kernel's and most hypervisors' words for Debian's architectures.
ARCHITECTURES: Mapping[str, str] = {"amd64": "x86_64", "arm64": "aarch64"}


def export_text(name: str, template: str, raw: Path, output: Path, about: Description) -> Artifact:
    """Write a template's text; the template knows ``about`` and ``architecture``."""
    context: dict[str, Any] = {"about": about, "architecture": ARCHITECTURES[about.architecture]}
    text = render(about.templates / template, context)
    with create_file(output) as file:
        file.write(text.encode())
    return beside(name, raw, output, compression=None)


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
