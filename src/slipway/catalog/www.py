"""Pages for people, below ``www/``: a list of appliances, a page for each, a feed for each channel,
and the same as JSON.

They are HTML (the WHATWG's living standard) and Atom (RFC 4287); any server of files will do.
Nothing is loaded from elsewhere, and the browser is told to refuse it (Content-Security-Policy).
Without a script everything but the search works. Names of pages stay: ``www/appliances/NAME.html``,
``www/channels/NAME.xml``.

Invariants: each value from a manifest or a channel goes through the filter ``xml``. Classes are
numbers of ours, and so are ids but those of releases. A picture is a PNG.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from slipway.catalog import Catalog, Listing, Offer
from slipway.channels.layout import target_key
from slipway.formats import smallest
from slipway.rendering.templating import render
from slipway.seeds import form as seedform
from slipway.terminal.progress import size

__all__ = ["index"]

FORMAT: Final = "slipway/www/1"
#: Where a machine runs; the formats to download, the first of which has its link; what to type
#: then, as docs/reference/formats.md has it.
_PLATFORMS: Final[Sequence[tuple[str, Sequence[str], Sequence[str]]]] = (
    (
        "KVM, libvirt",
        ["qcow2"],
        [
            (
                "virt-install --import --name {name} --memory {memory} --vcpus {cpus} --disk "
                "{file} --osinfo linux2022"
            )
        ],
    ),
    ("Proxmox VE", ["proxmox", "qcow2"], ["sh {file} 100 local-lvm"]),
    ("VMware", ["ova"], ["ovftool {file} vi://HOST/"]),
    ("VirtualBox", ["ova"], ["VBoxManage import {file}"]),
    (
        "Hyper-V",
        ["vhdx"],
        ["New-VM -Generation 2 -Name {name} -VHDPath {file} -MemoryStartupBytes {memory}MB"],
    ),
    ("Azure", ["vhd"], ["az image create --os-type Linux --name {name} --source {file}"]),
    (
        "Incus, LXD",
        ["incus"],
        [
            "incus remote add slipway {store} --protocol=simplestreams",
            "incus launch slipway:{name}/{channel}",
        ],
    ),
    ("KubeVirt", ["oci"], ["skopeo copy oci-archive:{file} docker://REGISTRY/{name}"]),
    ("Clouds, bare metal", ["raw"], ["zstd -d {file}"]),
)
#: These take their files from the store by themselves.
_BY_INDEX: Final = ("incus",)
#: What is no image, and stands beside each.
_RECORDS: Final = ("manifest.json", "sbom.cdx.json", "provenance.intoto.json")
_PNG: Final = b"\x89PNG\r\n\x1a\n"
#: The address of the store in commands, which the script replaces by the page's own.
_STORE: Final = "https://THIS-STORE"


def index(catalog: Catalog, templates: Path) -> Mapping[str, bytes]:
    """Return the objects by key."""
    folder = templates / "catalog/www"
    appliances = _appliances(catalog)
    filters = _filters(appliances, list(catalog.fingerprints))
    common = {
        "channels": [
            {"name": name, "fingerprints": list(keys)}
            for name, keys in catalog.fingerprints.items()
        ]
    }
    made: dict[str, str | bytes] = {
        "index.html": render(
            folder / "index.html.j2", {**common, "appliances": appliances, "filters": filters}
        ),
        "filters.css": render(folder / "filters.css.j2", {"filters": filters}),
        "catalog.json": json.dumps(
            {"format": FORMAT, "appliances": [each["plain"] for each in appliances]},
            indent=1,
            sort_keys=True,
        )
        + "\n",
    }
    for each in appliances:
        made[f"appliances/{each['name']}.html"] = render(
            folder / "appliance.html.j2", {**common, **each}
        )
        if each["picture"]:
            made[f"appliances/{each['picture']['file']}"] = base64.b64decode(
                each["picture"]["base64"]
            )
    for channel in catalog.fingerprints:
        made[f"channels/{channel}.xml"] = render(
            folder / "feed.xml.j2", _feed(channel, catalog.listings)
        )
    made |= {file: (folder / file).read_text() for file in ("style.css", "catalog.js", "seed.js")}
    return {
        f"www/{name}": what.encode() if isinstance(what, str) else what
        for name, what in made.items()
    }


def _appliances(catalog: Catalog) -> list[dict[str, Any]]:
    """Describe every appliance for the templates, by name.

    An appliance in no channel any more still has its history.
    """
    names = sorted(
        {offer.manifest.appliance for offer in catalog.offers}
        | {listing.ref.appliance for listing in catalog.listings}
    )
    return [_appliance(name, catalog) for name in names]


def _appliance(name: str, catalog: Catalog) -> dict[str, Any]:
    offers = [offer for offer in catalog.offers if offer.manifest.appliance == name]
    listings = [listing for listing in catalog.listings if listing.ref.appliance == name]
    best = next((offer for offer in offers if offer.first), None)
    versions = [_version(listing) for listing in listings]
    places = {version["id"] for version in versions}
    for version in versions:
        place = f"{version['channel']}-{version['replacement']}"
        version["instead"] = place if place in places else ""
    plain: dict[str, Any] = {
        "name": name,
        "versions": versions,
        "offers": [_plain(offer) for offer in offers],
    }
    return {
        "name": name,
        "summary": best.manifest.summary if best else "",
        "category": best.manifest.category if best else "",
        "channel": best.channel if best else "",
        "version": best.manifest.version if best else "",
        "release": best.manifest.release if best else "",
        "formats": sorted(
            {artifact.format for artifact in best.manifest.artifacts} if best else ()
        ),
        "architectures": sorted({offer.manifest.architecture for offer in offers}),
        "channels_of": [offer.channel for offer in offers],
        "updated": _day(max((listing.added for listing in listings), default=0)),
        "download": size(smallest(best.manifest.artifacts)) if best else "",
        "machine": _machine(best) if best else {},
        "seed_fields": seedform.fields(best.manifest) if best else [],
        "platforms": list(_platforms(best)) if best else [],
        "files": list(_files(best)) if best else [],
        "checks": _checks(best) if best else [],
        "boot": _boot(best) if best else "",
        "picture": _picture(best) if best else {},
        "parts": [
            {"kind": part.kind, "name": part.name, "version": part.version}
            for part in sorted(best.parts, key=lambda part: (part.kind, part.name))
        ]
        if best
        else [],
        "records": list(_records(best)) if best else [],
        "changes": _changes(best) if best else [],
        "versions": versions,
        "store": _STORE,
        "plain": plain,
    }


def _plain(offer: Offer) -> dict[str, Any]:
    """Describe an offer as the JSON has it."""
    manifest = offer.manifest
    return {
        "channel": offer.channel,
        "release": manifest.release,
        "version": manifest.version,
        "summary": manifest.summary,
        "category": manifest.category,
        "architecture": manifest.architecture,
        "created": _time(manifest.created),
        "resources": dict(manifest.resources),
        "files": [
            {
                "format": artifact.format,
                "key": offer.key(artifact),
                "sha256": artifact.sha256,
                "size": artifact.size,
            }
            for artifact in manifest.artifacts
        ],
    }


def _version(listing: Listing) -> dict[str, Any]:
    tombstone = listing.tombstone
    return {
        "channel": listing.channel,
        "release": listing.ref.release,
        "added": _time(listing.added),
        "day": _day(listing.added),
        "state": "withdrawn" if tombstone else "current" if listing.current else "earlier",
        "id": f"{listing.channel}-{listing.ref.release}",
        "reason": tombstone.reason if tombstone else "",
        "replacement": (tombstone.replacement or "") if tombstone else "",
        "size": size(
            sum(length for file, (length, _) in listing.files.items() if file not in _RECORDS)
        )
        if listing.files
        else "",
    }


def _machine(offer: Offer) -> dict[str, Any]:
    manifest = offer.manifest
    used = (manifest.boot or {}).get("memory_mib")
    return {
        "system": manifest.system,
        "architecture": manifest.architecture,
        "cpus": manifest.resources.get("cpus", 1),
        "memory": size(manifest.resources.get("memory_mib", 0) << 20),
        "used": size(used << 20) if isinstance(used, int) and used > 0 else "",
        "disk": f"{manifest.resources.get('disk_gib', 0)} GiB",
        "unpacked": size(max((each.uncompressed_size for each in manifest.artifacts), default=0)),
        "ports": [
            {
                name: str(port.get(name, ""))
                for name in ("port", "last", "protocol", "interface", "purpose")
            }
            for port in manifest.ports
        ],
        "interfaces": [
            {name: str(each.get(name, "")) for name in ("name", "summary")}
            for each in manifest.interfaces
        ],
        # A parameter that nobody gives and that has no default is asked for at the console.
        "parameters": [
            {
                "name": str(each["name"]),
                "type": str(each["type"]),
                "summary": str(each.get("summary", "")),
                "default": "" if each.get("default") is None else str(each["default"]),
                "asked": each.get("default") is None and not each.get("generate"),
                "made": bool(each.get("generate")),
            }
            for each in manifest.parameters
        ],
    }


def _files(offer: Offer) -> Iterator[dict[str, Any]]:
    """Describe the files of a release."""
    manifest = offer.manifest
    for artifact in sorted(manifest.artifacts, key=lambda artifact: artifact.file):
        yield {
            "file": artifact.file,
            "href": f"../../{offer.key(artifact)}",
            "size": size(artifact.size),
            "sha256": artifact.sha256,
        }


def _platforms(offer: Offer) -> Iterator[dict[str, Any]]:
    """Describe how to get and to run a release on each platform with a file for it."""
    manifest = offer.manifest
    for number, (platform, forms, commands) in enumerate(_PLATFORMS):
        artifact = offer.artifact(forms[0])
        if not artifact or not all(map(offer.artifact, forms)):
            continue
        words = {
            "name": manifest.appliance,
            "channel": offer.channel,
            "file": artifact.file,
            "store": _STORE,
            "memory": manifest.resources.get("memory_mib", 1024),
            "cpus": manifest.resources.get("cpus", 1),
        }
        fetch = (
            f"slipway fetch {manifest.appliance} --channel {offer.channel} --store {_STORE} --out ."
        )
        yield {
            "id": f"platform-{number}",
            "platform": platform,
            "file": artifact.file,
            "href": f"../../{offer.key(artifact)}",
            "size": size(artifact.size),
            "sha256": artifact.sha256,
            "commands": [
                *(f"{fetch} --format {form}" for form in forms if form not in _BY_INDEX),
                *(command.format(**words) for command in commands),
            ],
        }


def _checks(offer: Offer) -> list[dict[str, str]]:
    boot = offer.manifest.boot or {"checks": []}
    return [
        {
            "name": "/".join(filter(None, (str(check.get("place", "")), str(check["name"])))),
            "outcome": str(check["outcome"]),
            "seconds": f"{check['duration_s']:.1f}"
            if isinstance(check.get("duration_s"), (int, float))
            else "",
        }
        for check in boot["checks"]
    ]


def _boot(offer: Offer) -> str:
    """Describe the run of the checks: its accelerator and its firmware."""
    boot = offer.manifest.boot or {}
    words = [
        {"kvm": "with KVM", "tcg": "in an emulator (TCG)"}.get(str(boot.get("accelerator")), ""),
        {"bios": "started by BIOS", "uefi": "started by UEFI"}.get(
            str(boot.get("firmware")), "started by UEFI with Secure Boot"
        )
        if "firmware" in boot
        else "",
    ]
    return ", ".join(filter(None, words))


def _picture(offer: Offer) -> dict[str, Any]:
    """Describe the picture of the console; nothing if there is none, or it is no PNG."""
    taken = (offer.manifest.boot or {}).get("picture")
    if not taken:
        return {}
    try:
        content = base64.b64decode(taken["base64"], validate=True)
    except ValueError:
        return {}
    if not content.startswith(_PNG):
        return {}
    name = offer.manifest.appliance
    return {
        "file": f"{name}.png",
        "width": taken["width"],
        "height": taken["height"],
        "base64": taken["base64"],
    }


def _records(offer: Offer) -> Iterator[dict[str, str]]:
    """Describe the files beside the images."""
    manifest = offer.manifest
    for file in _RECORDS:
        if file in offer.files:
            length, sha256 = offer.files[file]
            key = target_key(manifest.ref, file, sha256)
            yield {
                "file": file,
                "href": f"../../{key}",
                "size": size(length),
                "sha256": sha256,
            }


def _changes(offer: Offer) -> list[dict[str, str]]:
    """Describe the changed packages since the build before this one."""
    if not offer.manifest.parent:
        return []
    packages = offer.manifest.parent.packages
    found = [
        {"package": name, "before": before, "after": after}
        for name, (before, after) in packages.changed.items()
    ]
    found += [
        {"package": name, "before": "", "after": version}
        for name, version in packages.added.items()
    ]
    found += [
        {"package": name, "before": version, "after": ""}
        for name, version in packages.removed.items()
    ]
    return sorted(found, key=lambda change: change["package"])


def _filters(appliances: Sequence[dict[str, Any]], channels: Sequence[str]) -> list[dict[str, Any]]:
    """Return the list's filters, and give each appliance the classes of its own values."""
    groups: Sequence[tuple[str, str, str, Sequence[str]]] = (
        (
            "Category",
            "k",
            "categories",
            sorted({each["category"] for each in appliances if each["category"]}),
        ),
        (
            "Format",
            "f",
            "formats",
            sorted({form for each in appliances for form in each["formats"]}),
        ),
        (
            "Architecture",
            "a",
            "architectures",
            sorted({name for each in appliances for name in each["architectures"]}),
        ),
        ("Channel", "c", "channels_of", channels),
    )
    ids = {
        (key, text): f"{letter}{number}"
        for _, letter, key, values in groups
        for number, text in enumerate(values)
    }
    for each in appliances:
        own = {**each, "categories": [each["category"]]}
        each["classes"] = " ".join(
            ids[key, text] for _, _, key, _ in groups for text in own[key] if (key, text) in ids
        )
    return [
        {
            "title": title,
            "letter": letter,
            "values": [{"text": text, "id": ids[key, text]} for text in values],
        }
        for title, letter, key, values in groups
    ]


def _feed(channel: str, listings: Sequence[Listing]) -> dict[str, Any]:
    own = [listing for listing in listings if listing.channel == channel][:100]
    return {
        "channel": channel,
        "updated": _time(max((listing.added for listing in own), default=0)),
        "entries": [{"appliance": listing.ref.appliance, **_version(listing)} for listing in own],
    }


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _day(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")
