"""A finished build as a folder: its artifacts, manifest.json, SBOM, provenance, and SHA256SUMS over
all of them.

Invariant: SHA256SUMS is written last, so a folder with it is complete.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from slipway.cache import create_file, sha256_of
from slipway.errors import BuildError, VerificationError
from slipway.formats import Artifact
from slipway.host.ownership import require_own_folder
from slipway.records.manifest import Manifest, RecordFile, read_manifest
from slipway.records.sums import format_sums

__all__ = [
    "MANIFEST",
    "PROVENANCE",
    "SBOM",
    "SUMS",
    "Release",
    "read_release",
    "record_file",
    "verify_release",
    "write_release",
]

MANIFEST = "manifest.json"
PROVENANCE = "provenance.intoto.json"
SBOM = "sbom.cdx.json"
SUMS = "SHA256SUMS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A release's folder, its manifest, and the SHA-256 of every file but SHA256SUMS itself, by
    name.

    ``manifest_size`` is in bytes.
    """

    folder: Path
    manifest: Manifest
    hashes: Mapping[str, str]
    manifest_size: int

    @property
    def records(self) -> tuple[str, ...]:
        """The files beside the artifacts, in the order of publishing."""
        return (MANIFEST, self.manifest.sbom.file, self.manifest.provenance.file)

    @property
    def files(self) -> dict[str, tuple[int, str]]:
        """Size and SHA-256 of every file but SHA256SUMS itself, by name."""
        manifest = self.manifest
        known: tuple[Artifact | RecordFile, ...] = (
            *manifest.artifacts,
            manifest.sbom,
            manifest.provenance,
        )
        sizes = {each.file: each.size for each in known} | {MANIFEST: self.manifest_size}
        return {file: (sizes[file], sha256) for file, sha256 in self.hashes.items()}

    @property
    def sums(self) -> bytes:
        """The text of SHA256SUMS."""
        return format_sums(self.hashes)


def record_file(file: str, content: bytes) -> RecordFile:
    """Return the manifest's entry for a file with this content."""
    return RecordFile(file=file, size=len(content), sha256=hashlib.sha256(content).hexdigest())


def write_release(folder: Path, manifest: Manifest, *, sbom: bytes, provenance: bytes) -> Release:
    """Write the records into the folder of the artifacts, under the manifest's names.

    Raises:
        ValueError: The manifest describes another SBOM or provenance.
        HostError: There is no space left.
    """
    if (manifest.sbom, manifest.provenance) != (
        record_file(manifest.sbom.file, sbom),
        record_file(manifest.provenance.file, provenance),
    ):
        raise ValueError("the manifest describes another SBOM or provenance")
    (folder / SUMS).unlink(missing_ok=True)
    for name, content in (
        (manifest.sbom.file, sbom),
        (manifest.provenance.file, provenance),
        (MANIFEST, manifest.to_json()),
    ):
        with create_file(folder / name) as file:
            file.write(content)
    release = read_release(folder)
    with create_file(folder / SUMS) as file:
        file.write(release.sums)
    return release


def read_release(folder: Path) -> Release:
    """Return the release in a folder, according to its manifest.

    :func:`verify_release` reads the files, too.

    Raises:
        BuildError: The folder has no build, or its manifest cannot be read.
        HostError: The folder belongs to another user, or others can write it.
    """
    try:
        require_own_folder(folder)
        text = (folder / MANIFEST).read_bytes()
    except OSError as error:
        raise BuildError(
            f"there is no finished build in {folder}", hint="run: invoke build NAME"
        ) from error
    try:
        manifest = read_manifest(text, source=str(folder / MANIFEST))
    except VerificationError as error:
        raise BuildError(error.message, hint=error.hint or "build it again") from error
    hashes = {artifact.file: artifact.sha256 for artifact in manifest.artifacts}
    hashes |= {record.file: record.sha256 for record in (manifest.sbom, manifest.provenance)}
    hashes[MANIFEST] = record_file(MANIFEST, text).sha256
    if len(hashes) != len(manifest.artifacts) + 3:
        raise BuildError(f"two files of the build in {folder} have one name", hint="build it again")
    return Release(folder=folder, manifest=manifest, hashes=hashes, manifest_size=len(text))


def verify_release(release: Release) -> None:
    """Read every file and compare its size and hash with the manifest.

    Raises:
        BuildError: A file is missing or differs.
    """
    manifest = release.manifest
    expected: list[Artifact | RecordFile] = [
        *manifest.artifacts,
        manifest.sbom,
        manifest.provenance,
    ]
    for known in expected:
        path = release.folder / known.file
        try:
            size = path.stat().st_size
            found = sha256_of(path) if size == known.size else None
        except OSError as error:
            raise BuildError(
                f"{path} is in the manifest, but cannot be read: {error.strerror}",
                hint="build it again",
            ) from error
        if size != known.size:
            raise BuildError(
                f"{path} has {size} bytes, its manifest says {known.size}", hint="build it again"
            )
        if found != known.sha256:
            raise BuildError(
                f"{path} has the SHA-256 {found}, its manifest says {known.sha256}",
                hint="build it again",
            )
