"""A description -> a domain for libvirt, to define beside the qcow2 image
(https://libvirt.org/formatdomain.html).
"""

from __future__ import annotations

from pathlib import Path

from slipway.formats import Artifact, Description, Format
from slipway.formats._text import export_text

__all__ = ["Libvirt"]


class Libvirt(Format):
    """The machine, with virtio devices; a comment says how to give it parameters."""

    name = "libvirt"
    suffix = ".libvirt.xml"
    tools = ()
    builds_on = ("_text", "raw")
    needs = ("qcow2",)
    described = ("libvirt/domain.xml.j2",)

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
        return export_text(self.name, self.described[0], raw, output, about)
