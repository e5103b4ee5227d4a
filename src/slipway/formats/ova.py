"""A raw disk -> an OVA for VMware and VirtualBox: a description, a manifest and a VMDK.

The formats are DMTF's DSP0243 (OVF 1.1, read by every importer) and POSIX ustar. The description
comes first, then the manifest, then the disk: importers of streams refuse any other order. Digests
are SHA-256, because vSphere 7 and later refuse SHA-1. The described machine has the hardware common
to both hypervisors, an AHCI controller and an E1000 network card. Its kernel needs their drivers.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tarfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from tarfile import BLOCKSIZE, RECORDSIZE, TarInfo
from typing import IO, Final

from slipway.errors import VerificationError
from slipway.formats import Artifact, Description, Format
from slipway.formats._image import Form, export_image
from slipway.formats.vmdk import Vmdk, write
from slipway.rendering.templating import render

__all__ = ["Ova", "check_ova"]

_ENVELOPE: Final = "{http://schemas.dmtf.org/ovf/envelope/1}"
_DIGEST: Final = re.compile(r"SHA256\(([^)]+)\)= ([0-9a-f]{64})")


class Ova(Format):
    """The disk with its machine, and the parameters it asks for."""

    name = "ova"
    suffix = ".ova"
    tools = (*Vmdk.tools, "python")
    sized = True
    described = ("ovf/appliance.ovf.j2",)
    builds_on = ("_image", "raw", "vmdk")
    kernel = "generic"

    def export(
        self,
        raw: Path,
        output: Path,
        *,
        virtual_size: int,
        log: Path,
        about: Description | None = None,
    ) -> Artifact:
        """See :class:`~slipway.formats.Format`; enlarging the disk to the virtual size costs no
        space.
        """
        assert about
        disk_file = f"{about.name}-disk1.vmdk"
        context = {
            "about": about,
            "disk_file": disk_file,
            "virtual_size": virtual_size,
            "populated_size": raw.stat().st_size,
        }

        def describe(disk_size: int) -> bytes:
            return render(
                about.templates / self.described[0], {**context, "disk_size": disk_size}
            ).encode()

        # What comes first depends on the disk's size and digest, so room is left for it: the
        # description with a size of any number of digits, filled up with line ends.
        room = len(describe(0)) + 20
        manifest_room = len(_manifest({f"{about.name}.ovf": "", disk_file: ""})) + 2 * 64
        disk_at = 3 * BLOCKSIZE + _blocks(room) + _blocks(manifest_room)

        def make(archive: Path, raw_sha256: Future[str]) -> str:
            with archive.open("w+b") as file:
                file.seek(disk_at)
                write(raw, file, virtual_size=virtual_size, content_id=raw_sha256)
                file.seek(0, os.SEEK_END)
                disk_size = file.tell() - disk_at
                file.truncate(_blocks(disk_at + disk_size + 2 * BLOCKSIZE, RECORDSIZE))
                file.seek(disk_at)
                description = describe(disk_size).ljust(room, b"\n")
                digests = {
                    f"{about.name}.ovf": hashlib.sha256(description).hexdigest(),
                    disk_file: _sha256(file, disk_size),
                }
                file.seek(0)
                for name, content in (
                    (f"{about.name}.ovf", description),
                    (f"{about.name}.mf", _manifest(digests)),
                ):
                    file.write(
                        _header(name, len(content)) + content.ljust(_blocks(len(content)), b"\0")
                    )
                file.write(_header(disk_file, disk_size))
            check_ova(archive)
            part = {
                "driver": "raw",
                "offset": disk_at,
                "size": disk_size,
                "file": {"driver": "file", "filename": str(archive.absolute())},
            }
            return f"json:{json.dumps({'driver': 'vmdk', 'file': part})}"

        return export_image(
            raw,
            output,
            make,
            Form(name=self.name, compression="deflate", reads="vmdk"),
            virtual_size=virtual_size,
            log=log,
        )


def _blocks(size: int, block: int = BLOCKSIZE) -> int:
    """Round a size in bytes up to whole blocks."""
    return -(-size // block) * block


def _sha256(file: IO[bytes], size: int) -> str:
    """Return the SHA-256 of ``size`` bytes from the file's position on."""
    digest = hashlib.sha256()
    while size and (data := file.read(min(size, 1 << 20))):
        digest.update(data)
        size -= len(data)
    return digest.hexdigest()


def _manifest(digests: Mapping[str, str]) -> bytes:
    return "".join(f"SHA256({name})= {digest}\n" for name, digest in digests.items()).encode()


def _header(name: str, size: int) -> bytes:
    """Return the header of a member, without time and owner.

    Sizes of 8 GiB or more do not fit into ustar's header; GNU's holds them.
    """
    member = TarInfo(name)
    member.size, member.mode = size, 0o644
    return member.tobuf(tarfile.USTAR_FORMAT if size < 8**11 else tarfile.GNU_FORMAT)


def check_ova(path: Path) -> None:
    """Check an OVA more strictly than importers do.

    It holds the description, the manifest, then the files in the description's order. Each has the
    recorded digest and size, and nothing else is there.

    Raises:
        VerificationError: Order, names, digests or sizes are wrong, or it is not a tar archive.
    """
    found, texts = _members(path)
    names = list(found)
    if (
        len(names) < 2
        or not names[0].endswith(".ovf")
        or names[1] != f"{names[0].removesuffix('.ovf')}.mf"
    ):
        raise VerificationError(
            f"{path} has to begin with a description (.ovf) and its manifest (.mf), and begins "
            f"with {names[:2]}"
        )
    lines = texts[names[1]].decode(errors="replace").splitlines()
    matches = [_DIGEST.fullmatch(line) for line in lines]
    digests = {match[1]: match[2] for match in matches if match}
    if not all(matches) or list(digests) != [names[0], *names[2:]]:
        raise VerificationError(
            f"{path}: its manifest lists other files than are there: {', '.join(digests)}"
        )
    referred = _referred(path, texts[names[0]])
    if list(referred) != names[2:]:
        raise VerificationError(
            f"{path}: its description refers to other files than are there: {', '.join(referred)}"
        )
    for name, digest in digests.items():
        size, actual = found[name]
        if actual != digest or (name in referred and referred[name] != str(size)):
            raise VerificationError(
                f"{path}: {name} has another size or digest than was written down"
            )


def _members(path: Path) -> tuple[dict[str, tuple[int, str]], dict[str, bytes]]:
    """Return size and SHA-256 of each file of an archive, and the content of the first two."""
    found: dict[str, tuple[int, str]] = {}
    texts: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                content = archive.extractfile(member)
                if content is None or member.name in found:
                    raise VerificationError(
                        f"{path}: {member.name} is not a file, or is listed twice"
                    )
                if len(found) < 2:
                    texts[member.name] = content.read()
                    content.seek(0)
                hashed = hashlib.file_digest(content, "sha256")  # type: ignore[arg-type]
                found[member.name] = (member.size, hashed.hexdigest())
    except tarfile.TarError as error:
        raise VerificationError(f"{path} is not a tar archive: {error}") from error
    return found, texts


def _referred(path: Path, description: bytes) -> dict[str, str | None]:
    """Return the files of a description, each with its stated size."""
    try:
        envelope = ElementTree.fromstring(description)
    except ElementTree.ParseError as error:
        raise VerificationError(f"{path}: its description is not XML: {error}") from error
    return {
        file.get(f"{_ENVELOPE}href", ""): file.get(f"{_ENVELOPE}size")
        for file in envelope.iter(f"{_ENVELOPE}File")
    }
