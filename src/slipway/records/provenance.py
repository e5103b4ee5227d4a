"""What a release was made of and how: an in-toto Statement v1 with a SLSA Provenance v1 predicate,
not signed by itself.

Sources: https://in-toto.io/Statement/v1 and https://slsa.dev/provenance/v1. The file's hash stands
in the manifest, which stands in signed channel metadata. Invariant: the same arguments give the
same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from slipway.formats import Artifact
from slipway.records import Download, Package, Wheel, canonical_json
from slipway.records.git import GitState
from slipway.records.sbom import package_url, wheel_url

__all__ = ["BUILD_TYPE", "provenance"]

#: Names the meaning of the parameters below; they change only together.
BUILD_TYPE = "urn:slipway:build:v1"


def provenance(
    *,
    appliance: str,
    version: str,
    build: str,
    architecture: str,
    builder: str,
    tool_versions: Mapping[str, str],
    digests: Mapping[str, str],
    git: GitState,
    distribution: str,
    release: str,
    packages: Iterable[Package],
    wheels: Iterable[Wheel] = (),
    downloads: Iterable[Download] = (),
    artifacts: Iterable[Artifact],
    image_mirrors: Mapping[str, str] = MappingProxyType({}),
    created: int,
) -> bytes:
    """The statement.

    Args:
        builder: The image builder's name, such as ``mmdebstrap``.
        digests: The SHA-256 of every kind of input (``spec``, ``templates``, ``lock``, ...).
        packages: All of Debian's packages that were installed.
        wheels: The packages of PyPI.
        downloads: The files that are in no package.
        image_mirrors: The mirrors that images use, by archive, where settings name them: no commit
            has those.
        created: When the build ended, in seconds since 1970.
    """
    made = sorted(artifacts, key=lambda artifact: artifact.file)
    materials: list[dict[str, Any]] = [
        {
            "name": package.name,
            "uri": package_url(package, distribution=distribution, release=release),
            "digest": {"sha256": package.sha256},
        }
        for package in packages
    ]
    materials += [
        {"name": wheel.name, "uri": wheel_url(wheel), "digest": {"sha256": wheel.sha256}}
        for wheel in wheels
    ]
    materials += [
        {"name": item.path, "uri": item.url, "digest": {"sha256": item.sha256}}
        for item in downloads
    ]
    materials.sort(key=lambda material: material["uri"])
    for name, digest in sorted(digests.items()):
        materials.append({"name": name, "digest": {"sha256": digest}})
    if git.commit:
        materials.append(
            {
                "name": "source",
                "digest": {"gitCommit": git.commit},
                "annotations": {"dirty": git.dirty},
            }
        )
    return canonical_json(
        {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [
                {"name": artifact.file, "digest": {"sha256": artifact.sha256}} for artifact in made
            ],
            "predicateType": "https://slsa.dev/provenance/v1",
            "predicate": {
                "buildDefinition": {
                    "buildType": BUILD_TYPE,
                    "externalParameters": {
                        "appliance": appliance,
                        "version": version,
                        "architecture": architecture,
                        "builder": builder,
                        "formats": [artifact.format for artifact in made],
                        **({"imageMirrors": dict(image_mirrors)} if image_mirrors else {}),
                    },
                    "internalParameters": {"tools": dict(tool_versions)},
                    "resolvedDependencies": materials,
                },
                "runDetails": {
                    "builder": {"id": f"urn:slipway:builder:{builder}"},
                    "metadata": {
                        "invocationId": build,
                        "finishedOn": datetime.fromtimestamp(created, UTC).strftime(
                            "%Y-%m-%dT%H:%M:%SZ"
                        ),
                    },
                },
            },
        }
    )
