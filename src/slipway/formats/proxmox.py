"""A description -> a script to make a virtual machine of the qcow2 image on a Proxmox VE host
(qm(1)).
"""

from __future__ import annotations

from pathlib import Path

from slipway.formats import Artifact, Description, Format
from slipway.formats._text import export_text

__all__ = ["Proxmox"]


class Proxmox(Format):
    """The script; it takes parameters as arguments."""

    name = "proxmox"
    suffix = ".proxmox.sh"
    tools = ()
    builds_on = ("_text", "raw")
    needs = ("qcow2",)
    described = ("proxmox/import.sh.j2",)

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
