"""A content library for vSphere: subscribe to ``URL/lib.json``; its items are the releases with an
``ova``.

The format is VCSP, version 2, in the form of VMware's own script for such libraries (make_vcsp).
Items are called NAME, or NAME-CHANNEL if a more trusted channel has the appliance too. Identifiers
come from names, so an item stays the same one; its version grows with its channel's changes.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from slipway.catalog import Catalog, Offer
from slipway.rendering.templating import render

__all__ = ["index"]

#: Names of items follow from this one (RFC 9562, 5.5).
_SPACE: Final = uuid.uuid5(uuid.NAMESPACE_URL, "tag:slipway,2026:content-library")
_LIBRARY: Final = f"urn:uuid:{_SPACE}"


def index(catalog: Catalog, templates: Path) -> Mapping[str, bytes]:
    """Return the objects by key; a library without items if no release was made as an OVA."""
    items = {
        f"vsphere/{_name(offer)}/item.json": _item(offer, templates)
        for offer in catalog.offers
        if offer.artifact("ova")
    }
    library = {"identifier": _LIBRARY, "revision": str(catalog.revision)}
    return {
        **{key: f"{text}\n".encode() for key, text in items.items()},
        "items.json": render(
            templates / "catalog/items.json.j2", {"items": list(items.values())}
        ).encode(),
        "lib.json": render(templates / "catalog/lib.json.j2", library).encode(),
    }


def _item(offer: Offer, templates: Path) -> str:
    manifest, artifact = offer.manifest, offer.artifact("ova")
    assert artifact
    name = _name(offer)
    context = {
        "name": name,
        "manifest": manifest,
        "revision": str(offer.revision),
        "artifact": artifact,
        "href": offer.key(artifact),
        "identifier": f"urn:uuid:{uuid.uuid5(_SPACE, name)}",
        "library": _LIBRARY,
        "created": datetime.fromtimestamp(manifest.created, UTC).strftime("%Y-%m-%dT%H:%MZ"),
    }
    return render(templates / "catalog/item.json.j2", context).rstrip("\n")


def _name(offer: Offer) -> str:
    return (
        offer.manifest.appliance if offer.first else f"{offer.manifest.appliance}-{offer.channel}"
    )
