"""A description -> a domain for libvirt, to define beside the qcow2 image
(https://libvirt.org/formatdomain.html).
"""

from __future__ import annotations

from slipway.formats._text import Text

__all__ = ["Libvirt"]


class Libvirt(Text):
    """The machine, with virtio devices; a comment says how to give it parameters."""

    name = "libvirt"
    suffix = ".libvirt.xml"
    described = ("libvirt/domain.xml.j2",)
