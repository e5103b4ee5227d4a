"""A description -> a script to make a virtual machine of the qcow2 image on a Proxmox VE host
(qm(1)).
"""

from __future__ import annotations

from slipway.formats._text import Text

__all__ = ["Proxmox"]


class Proxmox(Text):
    """The script; it takes parameters as arguments."""

    name = "proxmox"
    suffix = ".proxmox.sh"
    described = ("proxmox/import.sh.j2",)
