"""A description -> the metadata of an Incus or LXD image, one for the container (rootfs) and the
virtual machine (qcow2).

The format is "split images" of Incus' and LXD's image format:
``incus image import METADATA ROOTFS`` or ``METADATA QCOW2``. In a container, templates write the
instance's ``cloud-init.*`` options as a seed for cloud-init. A virtual machine gets them on a disk.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from dataclasses import replace
from pathlib import Path

from slipway.cache import create_file
from slipway.formats import Artifact, Description, Format
from slipway.formats._text import ARCHITECTURES, beside
from slipway.rendering.templating import render

__all__ = ["Incus"]


class Incus(Format):
    """The metadata of a split image."""

    name = "incus"
    suffix = ".incus.tar.xz"
    tools = ("python", "lzma")
    builds_on = ("_text", "raw")
    needs = ("qcow2", "rootfs")
    described = (
        "incus/metadata.yaml.j2",
        "incus/fstab.tpl",
        "incus/hostname.tpl",
        "incus/meta-data.tpl",
        "incus/network-config.tpl",
        "incus/user-data.tpl",
    )

    def export(
        self,
        raw: Path,
        output: Path,
        *,
        virtual_size: int,
        log: Path,
        about: Description | None = None,
    ) -> Artifact:
        """See :class:`~slipway.formats.Format`; this holds nothing of the disk."""
        del virtual_size, log
        assert about
        metadata, *templates = self.described
        context = {"about": about, "architecture": ARCHITECTURES[about.architecture]}
        files = {"metadata.yaml": render(about.templates / metadata, context).encode()}
        files |= {
            f"templates/{Path(name).name}": (about.templates / name).read_bytes()
            for name in templates
        }
        with (
            create_file(output) as file,
            tarfile.open(fileobj=file, mode="w:xz", format=tarfile.USTAR_FORMAT) as archive,
        ):
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size, member.mode, member.mtime = len(content), 0o644, about.epoch
                archive.addfile(member, io.BytesIO(content))
        fingerprints = {name: _fingerprint(output, image) for name, image in about.images.items()}
        return replace(beside(self.name, raw, output, compression="xz"), fingerprints=fingerprints)


def _fingerprint(metadata: Path, image: Path) -> str:
    """Return the identity of a split image: the SHA-256 of the metadata followed by the image."""
    digest = hashlib.sha256(metadata.read_bytes())
    with image.open("rb") as file:
        while data := file.read(1 << 20):
            digest.update(data)
    return digest.hexdigest()
