"""Streams for ``incus remote add NAME URL --protocol=simplestreams`` and ``lxc remote add``.

The format is Incus' and LXD's shared/simplestreams (index.json and products). It shows releases
made as ``incus``. A release's container and virtual machine are one product, named NAME/CHANNEL.
The most trusted channel's product is also called NAME. With a wrong fingerprint, an image vanishes
from listings without a word.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from slipway.catalog import Catalog, Offer
from slipway.formats import Artifact

__all__ = ["index"]

_STREAM: Final = "images"
_PRODUCTS: Final = "streams/v1/images.json"
_METADATA: Final = ("incus.tar.xz", "lxd.tar.xz")
#: By our format, the type of file in the stream and the name of its fingerprint. Both look at the
#: archive's content, not its name, to tell how it is compressed.
_IMAGES: Final = {
    "rootfs": ("root.tar.xz", "combined_rootxz_sha256"),
    "qcow2": ("disk-kvm.img", "combined_disk-kvm-img_sha256"),
}


def index(catalog: Catalog, templates: Path) -> Mapping[str, bytes]:
    """Return the objects by key.

    Without images there is an empty list, so earlier entries go away.
    """
    del templates
    products = {
        f"{offer.manifest.appliance}:{offer.channel}:{offer.manifest.architecture}": _product(
            offer, metadata
        )
        for offer in catalog.offers
        if (metadata := offer.artifact("incus"))
    }
    updated = _time(
        max((offer.manifest.created for offer in catalog.offers), default=0),
        "%a, %d %b %Y %H:%M:%S +0000",
    )
    stream = {"datatype": "image-downloads", "format": "products:1.0", "updated": updated}
    entry = {**stream, "path": _PRODUCTS, "products": sorted(products)}
    return {
        _PRODUCTS: _json({**stream, "content_id": _STREAM, "products": products}),
        "streams/v1/index.json": _json({"format": "index:1.0", "index": {_STREAM: entry}}),
    }


def _product(offer: Offer, metadata: Artifact) -> dict[str, Any]:
    manifest = offer.manifest
    images = {
        name: artifact
        for name in _IMAGES
        if (artifact := offer.artifact(name)) and name in metadata.fingerprints
    }
    fingerprints = {_IMAGES[name][1]: metadata.fingerprints[name] for name in images}
    items = {kind: {**_item(offer, metadata, kind), **fingerprints} for kind in _METADATA}
    items |= {
        _IMAGES[name][0]: _item(offer, artifact, _IMAGES[name][0])
        for name, artifact in images.items()
    }
    names = [
        f"{manifest.appliance}/{offer.channel}",
        *([manifest.appliance] if offer.first else []),
    ]
    return {
        "aliases": ",".join(sorted(names)),
        "arch": manifest.architecture,
        "os": manifest.appliance,
        "release": manifest.version,
        "release_title": manifest.version,
        "variant": offer.channel,
        "versions": {
            _time(manifest.created, "%Y%m%d_%H%M%S"): {"items": items, "label": manifest.build}
        },
    }


def _item(offer: Offer, artifact: Artifact, kind: str) -> dict[str, Any]:
    return {
        "ftype": kind,
        "path": offer.key(artifact),
        "sha256": artifact.sha256,
        "size": artifact.size,
    }


def _time(seconds: int, form: str) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime(form)


def _json(data: Mapping[str, Any]) -> bytes:
    return json.dumps(data, indent=1, sort_keys=True).encode() + b"\n"
