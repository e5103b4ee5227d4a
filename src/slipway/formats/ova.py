"""A raw disk -> an OVA, which VMware and VirtualBox import with one click: a description, a manifest and a VMDK.

The formats are DMTF's DSP0243 (OVF 1.1, the version that every importer takes) and POSIX ustar. The description comes
first, then the manifest, then the disk: importers that read a stream refuse any other order. Digests are SHA-256,
because SHA-1 is refused by vSphere 7 and later. The machine it describes has what both hypervisors have, an AHCI
controller and an E1000 network card, and its kernel has to have drivers for them.
"""

from __future__ import annotations

import hashlib
import re
import tarfile
import xml.etree.ElementTree as ElementTree
from io import BytesIO
from pathlib import Path
from typing import IO, Final

from slipway.cache import sha256_of
from slipway.errors import VerificationError
from slipway.formats import Artifact, Description, Format
from slipway.formats._image import finished
from slipway.formats.vmdk import Vmdk
from slipway.templating import render

__all__ = ["Ova", "check_ova"]

_ENVELOPE: Final = "{http://schemas.dmtf.org/ovf/envelope/1}"
_DIGEST: Final = re.compile(r"SHA256\(([^)]+)\)= ([0-9a-f]{64})")


class Ova(Format):
    """The disk with the machine that it is made for, and the parameters that it asks for."""

    name = "ova"
    suffix = ".ova"
    tools = Vmdk.tools
    described = ("ovf/appliance.ovf.j2",)
    builds_on = ("_image", "raw", "vmdk")
    kernel = "generic"

    def export(self, raw: Path, output: Path, *, virtual_size: int, log: Path, about: Description | None = None) -> Artifact:
        """See :class:`~slipway.formats.Format`; the disk is enlarged to the virtual size, which costs no space."""
        assert about
        disk_file = f"{about.name}-disk1.vmdk"
        with finished(output) as partial:
            disk = partial.with_name(f"{partial.name}.disk")
            try:
                artifact = Vmdk().export(raw, disk, virtual_size=virtual_size, log=log)
                context = {
                    "about": about,
                    "disk_file": disk_file,
                    "disk_size": artifact.size,
                    "virtual_size": virtual_size,
                    "populated_size": artifact.uncompressed_size,
                }
                description = render(about.templates / self.described[0], context).encode()
                digests = {f"{about.name}.ovf": hashlib.sha256(description).hexdigest(), disk_file: artifact.sha256}
                manifest = "".join(f"SHA256({name})= {digest}\n" for name, digest in digests.items()).encode()
                with tarfile.open(partial, "w", format=tarfile.USTAR_FORMAT) as archive, disk.open("rb") as content:
                    _add(archive, f"{about.name}.ovf", BytesIO(description), len(description))
                    _add(archive, f"{about.name}.mf", BytesIO(manifest), len(manifest))
                    _add(archive, disk_file, content, artifact.size)
            finally:
                disk.unlink(missing_ok=True)
            check_ova(partial)
            facts = {**artifact.facts(), "format": self.name, "size": partial.stat().st_size, "sha256": sha256_of(partial)}
            return Artifact.from_facts(facts, file=output.name)


def _add(archive: tarfile.TarFile, name: str, content: IO[bytes], size: int) -> None:
    """A member that says nothing about when and by whom it was made."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o644
    archive.addfile(member, content)


def check_ova(path: Path) -> None:
    """See that an OVA is what importers want: description, manifest, then the files that the description refers to, in
    its order, each with the digest and the size that were written down, and nothing else. Importers accept more.

    Raises:
        VerificationError: It is not.
    """
    found: dict[str, tuple[int, str]] = {}
    texts: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                content = archive.extractfile(member)
                if content is None or member.name in found:
                    raise VerificationError(f"{path}: {member.name} is no file, or is there twice")
                if len(found) < 2:
                    texts[member.name] = content.read()
                    content.seek(0)
                found[member.name] = (member.size, hashlib.file_digest(content, "sha256").hexdigest())  # type: ignore[arg-type]
    except tarfile.TarError as error:
        raise VerificationError(f"{path} is no tar archive: {error}") from error
    names = list(found)
    if len(names) < 2 or not names[0].endswith(".ovf") or names[1] != f"{names[0].removesuffix('.ovf')}.mf":
        raise VerificationError(f"{path} has to begin with a description (.ovf) and its manifest (.mf), and begins with {names[:2]}")
    lines = texts[names[1]].decode(errors="replace").splitlines()
    matches = [_DIGEST.fullmatch(line) for line in lines]
    digests = {match[1]: match[2] for match in matches if match}
    if not all(matches) or list(digests) != [names[0], *names[2:]]:
        raise VerificationError(f"{path}: its manifest lists other files than are there: {', '.join(digests)}")
    try:
        envelope = ElementTree.fromstring(texts[names[0]])
    except ElementTree.ParseError as error:
        raise VerificationError(f"{path}: its description is not XML: {error}") from error
    referred = {file.get(f"{_ENVELOPE}href", ""): file.get(f"{_ENVELOPE}size") for file in envelope.iter(f"{_ENVELOPE}File")}
    if list(referred) != names[2:]:
        raise VerificationError(f"{path}: its description refers to other files than are there: {', '.join(referred)}")
    for name, digest in digests.items():
        size, actual = found[name]
        if actual != digest or (name in referred and referred[name] != str(size)):
            raise VerificationError(f"{path}: {name} has another size or digest than was written down")
