"""A lock's packages -> a software bill of materials: CycloneDX 1.6, JSON (ECMA-424).

Invariants: the same packages give the same bytes. The serial number comes from the content and the
time from the lock.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, XsUri
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from slipway.errors import VerificationError
from slipway.records import Download, Package, Wheel, canonical_json

__all__ = ["Contents", "Part", "package_url", "read_packages", "read_parts", "sbom", "wheel_url"]


def package_url(package: Package, *, distribution: str, release: str) -> str:
    """Return the package URL of a Debian package (purl-spec, type ``deb``).

    Its namespace is the archive's vendor.
    """
    qualifiers: Mapping[str, str] = {
        "arch": package.architecture,
        "distro": f"{distribution}-{release}",
    }
    vendor = distribution if package.archive.startswith(distribution) else package.archive
    return PackageURL("deb", vendor, package.name, package.version, dict(qualifiers)).to_string()


def wheel_url(wheel: Wheel) -> str:
    """Return the package URL of a package of PyPI (purl-spec, type ``pypi``)."""
    return PackageURL("pypi", None, wheel.name, wheel.version).to_string()


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """The contents of an image.

    Attributes:
        distribution: Such as ``debian``.
        release: The distribution's release, such as ``trixie``.
        packages: All installed Debian packages.
        wheels: The packages of PyPI.
        downloads: The files outside packages.
    """

    distribution: str
    release: str
    packages: Sequence[Package]
    wheels: Sequence[Wheel] = ()
    downloads: Sequence[Download] = ()

    def urls(self) -> list[tuple[str, Package]]:
        """Return Debian's packages with their package URLs."""
        return [
            (package_url(package, distribution=self.distribution, release=self.release), package)
            for package in self.packages
        ]


def sbom(*, appliance: str, version: str, contents: Contents, source_date_epoch: int) -> bytes:
    """Return the SBOM of an appliance.

    Args:
        source_date_epoch: The lock's time, in seconds since 1970; it becomes the document's.
    """
    wheels = [(wheel_url(wheel), wheel) for wheel in contents.wheels]
    components = [
        Component(
            type=ComponentType.LIBRARY,
            name=package.name,
            version=package.version,
            purl=PackageURL.from_string(url),
            bom_ref=url,
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=package.sha256)],
        )
        for url, package in (*contents.urls(), *wheels)
    ]
    components += [
        Component(
            type=ComponentType.FILE,
            name=item.path,
            bom_ref=f"file:{item.path}",
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=item.sha256)],
            external_references=[
                ExternalReference(type=ExternalReferenceType.DISTRIBUTION, url=XsUri(item.url))
            ],
        )
        for item in contents.downloads
    ]
    content = json.dumps(
        [
            appliance,
            version,
            source_date_epoch,
            sorted(
                (str(item.purl or item.name), *(digest.content for digest in item.hashes))
                for item in components
            ),
        ]
    )
    serial = bytearray(hashlib.sha256(content.encode()).digest()[:16])
    # CycloneDX takes the UUID versions 1 to 5 of RFC 9562; its own hash makes this one as unique as
    # a random one.
    serial[6], serial[8] = serial[6] & 0x0F | 0x40, serial[8] & 0x3F | 0x80
    document = Bom(
        components=components,
        serial_number=uuid.UUID(bytes=bytes(serial)),
        metadata=BomMetaData(
            timestamp=datetime.fromtimestamp(source_date_epoch, UTC),
            component=Component(
                type=ComponentType.OPERATING_SYSTEM,
                name=appliance,
                version=version,
                bom_ref=f"appliance:{appliance}",
            ),
        ),
    )
    document.register_dependency(document.metadata.component, components)  # type: ignore[arg-type]
    return canonical_json(json.loads(JsonV1Dot6(document).output_as_string()))


def read_packages(bill: bytes) -> dict[str, str]:
    """Return Debian's packages in an SBOM written by :func:`sbom`: versions by name."""
    return {
        component["name"]: component["version"]
        for component in json.loads(bill)["components"]
        if component.get("purl", "").startswith("pkg:deb/")
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One component of an SBOM.

    Its kind is ``deb``, ``pypi`` or ``file``. A file's name is its path in the image, and its
    version is empty.
    """

    kind: str
    name: str
    version: str


def read_parts(bill: bytes) -> tuple[Part, ...]:
    """Return all components of an SBOM written by :func:`sbom`, in its order.

    Raises:
        VerificationError: The text is not a list of components.
    """
    try:
        return tuple(
            Part(
                kind=str(component.get("purl", "pkg:file/")).removeprefix("pkg:").split("/")[0],
                name=str(component["name"]),
                version=str(component.get("version", "")),
            )
            for component in json.loads(bill).get("components", ())
        )
    except (ValueError, RecursionError, KeyError, AttributeError, TypeError) as error:
        raise VerificationError(f"an SBOM is not a list of components: {error!r}") from error
