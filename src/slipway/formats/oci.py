"""A qcow2 image -> an OCI image with it as its only file: a containerDisk for KubeVirt.

The formats are the Open Container Initiative's image layout, in a tar archive, and KubeVirt's
"containerDisk": the disk lies in ``/disk/`` and belongs to QEMU's user and group, 107. The layer is
not compressed, because the image in it is, so the file is written in one go.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final

from slipway.cache import create_file
from slipway.formats import Artifact, Description, Format
from slipway.formats._text import beside

__all__ = ["Oci"]

_USER: Final = 107
_INDEX: Final = "application/vnd.oci.image.index.v1+json"
_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
_LAYER: Final = "application/vnd.oci.image.layer.v1.tar"


class Oci(Format):
    """The disk for KubeVirt: import it with
    ``skopeo copy oci-archive:FILE docker://REGISTRY/NAME``.
    """

    name = "oci"
    suffix = ".oci.tar"
    tools = ("python",)
    builds_on = ("_text", "raw")
    described = ()
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
        """See :class:`~slipway.formats.Format`; the qcow2 image inside has the virtual size."""
        del virtual_size, log
        assert about
        layer = _Layer(about.images["qcow2"], about.epoch)
        config = _json(
            {
                "architecture": about.architecture,
                "config": {},
                "created": _time(about.epoch),
                "history": [{"created": _time(about.epoch), "created_by": "slipway"}],
                "os": "linux",
                "rootfs": {"diff_ids": [f"sha256:{layer.sha256}"], "type": "layers"},
            }
        )
        manifest = _json(
            {
                "annotations": {
                    "org.opencontainers.image.description": about.summary,
                    "org.opencontainers.image.title": about.name,
                    "org.opencontainers.image.version": about.version,
                },
                "config": _descriptor(_CONFIG, config),
                "layers": [
                    {"digest": f"sha256:{layer.sha256}", "mediaType": _LAYER, "size": layer.size}
                ],
                "mediaType": _MANIFEST,
                "schemaVersion": 2,
            }
        )
        name = {"org.opencontainers.image.ref.name": about.version}
        index = {
            "manifests": [{**_descriptor(_MANIFEST, manifest), "annotations": name}],
            "mediaType": _INDEX,
            "schemaVersion": 2,
        }
        with create_file(output) as file:
            _put(file, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}), about.epoch)
            _put(file, "index.json", _json(index), about.epoch)
            for blob in (manifest, config):
                _put(file, f"blobs/sha256/{hashlib.sha256(blob).hexdigest()}", blob, about.epoch)
            file.write(_header(f"blobs/sha256/{layer.sha256}", layer.size, about.epoch))
            layer.write(file)
            file.write(bytes(2 * tarfile.BLOCKSIZE))
        return beside(self.name, raw, output, compression="zstd")


class _Layer:
    """A layer with an image in it; its digest is known before it is written."""

    def __init__(self, image: Path, epoch: int) -> None:
        self._image = image
        size = image.stat().st_size
        folder = _header("disk", 0, epoch, kind=tarfile.DIRTYPE, mode=0o555, user=_USER)
        self._before = folder + _header("disk/disk.qcow2", size, epoch, mode=0o440, user=_USER)
        self._after = bytes(-size % tarfile.BLOCKSIZE + 2 * tarfile.BLOCKSIZE)
        self.size = len(self._before) + size + len(self._after)
        digest = hashlib.sha256(self._before)
        with image.open("rb") as content:
            while data := content.read(1 << 20):
                digest.update(data)
        digest.update(self._after)
        self.sha256 = digest.hexdigest()

    def write(self, file: IO[bytes]) -> None:
        """Write the layer to a file."""
        file.write(self._before)
        with self._image.open("rb") as content:
            shutil.copyfileobj(content, file, 1 << 20)
        file.write(self._after)


def _put(file: IO[bytes], name: str, content: bytes, epoch: int) -> None:
    file.write(
        _header(name, len(content), epoch) + content + bytes(-len(content) % tarfile.BLOCKSIZE)
    )


def _header(
    name: str,
    size: int,
    epoch: int,
    *,
    kind: bytes = tarfile.REGTYPE,
    mode: int = 0o644,
    user: int = 0,
) -> bytes:
    member = tarfile.TarInfo(name)
    member.type, member.size, member.mode, member.mtime, member.uid, member.gid = (
        kind,
        size,
        mode,
        epoch,
        user,
        user,
    )
    return member.tobuf(tarfile.USTAR_FORMAT if size < 8**11 else tarfile.GNU_FORMAT)


def _json(data: Mapping[str, Any]) -> bytes:
    return json.dumps(data, separators=(",", ":"), sort_keys=True).encode()


def _descriptor(kind: str, content: bytes) -> dict[str, Any]:
    return {
        "digest": f"sha256:{hashlib.sha256(content).hexdigest()}",
        "mediaType": kind,
        "size": len(content),
    }


def _time(epoch: int) -> str:
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
