"""A lock's packages -> a software bill of materials: CycloneDX 1.6, JSON (ECMA-424).

Invariants: the same packages give the same bytes; the serial number comes from the content and the time from the lock.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from slipway.records import Package, canonical_json

__all__ = ["package_url", "read_packages", "sbom"]


def package_url(package: Package, *, distribution: str, release: str) -> str:
    """The package URL of a Debian package (purl-spec, type ``deb``)."""
    qualifiers: Mapping[str, str] = {"arch": package.architecture, "distro": f"{distribution}-{release}"}
    return PackageURL("deb", distribution, package.name, package.version, dict(qualifiers)).to_string()


def sbom(*, appliance: str, version: str, distribution: str, release: str, packages: Iterable[Package], source_date_epoch: int) -> bytes:
    """The SBOM of an appliance.

    Args:
        distribution: Such as ``debian``.
        release: The distribution's release, such as ``trixie``.
        source_date_epoch: The lock's time, in seconds since 1970; it becomes the document's.
    """
    components = []
    for package in packages:
        url = package_url(package, distribution=distribution, release=release)
        components.append(
            Component(
                type=ComponentType.LIBRARY,
                name=package.name,
                version=package.version,
                purl=PackageURL.from_string(url),
                bom_ref=url,
                hashes=[HashType(alg=HashAlgorithm.SHA_256, content=package.sha256)],
            )
        )
    listed = json.dumps(
        [
            appliance,
            version,
            source_date_epoch,
            sorted((str(item.purl), *(digest.content for digest in item.hashes)) for item in components),
        ]
    )
    serial = bytearray(hashlib.sha256(listed.encode()).digest()[:16])
    # CycloneDX takes the UUID versions 1 to 5 of RFC 9562; its own hash makes this one as unique as a random one.
    serial[6], serial[8] = serial[6] & 0x0F | 0x40, serial[8] & 0x3F | 0x80
    document = Bom(
        components=components,
        serial_number=uuid.UUID(bytes=bytes(serial)),
        metadata=BomMetaData(
            timestamp=datetime.fromtimestamp(source_date_epoch, UTC),
            component=Component(type=ComponentType.OPERATING_SYSTEM, name=appliance, version=version, bom_ref=f"appliance:{appliance}"),
        ),
    )
    document.register_dependency(document.metadata.component, components)  # type: ignore[arg-type]
    return canonical_json(json.loads(JsonV1Dot6(document).output_as_string()))


def read_packages(bill: bytes) -> dict[str, str]:
    """The packages of an SBOM that :func:`sbom` wrote: versions by name."""
    return {component["name"]: component["version"] for component in json.loads(bill)["components"]}
