"""The materials and the making of a release: an in-toto Statement v1 with a SLSA Provenance v1
predicate, not signed by itself.

Sources: https://in-toto.io/Statement/v1 and https://slsa.dev/provenance/v1. The file's hash is in
the manifest, and the manifest's is in signed channel metadata. Invariant: the same arguments give
the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from slipway.formats import Artifact
from slipway.records import canonical_json
from slipway.records.git import GitState
from slipway.records.sbom import Contents, wheel_url

__all__ = ["BUILD_TYPE", "Run", "provenance"]

#: Names the meaning of the parameters below; they change only together.
BUILD_TYPE = "urn:slipway:build:v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One build.

    Attributes:
        builder: The image builder's name, such as ``mmdebstrap``.
        created: The end of the build, in seconds since 1970.
        image_mirrors: The mirrors in images, by archive, if settings name them: no commit has
            those.
    """

    appliance: str
    version: str
    build: str
    architecture: str
    builder: str
    created: int
    image_mirrors: Mapping[str, str] = field(default_factory=dict)


def provenance(
    run: Run,
    contents: Contents,
    *,
    git: GitState,
    digests: Mapping[str, str],
    tool_versions: Mapping[str, str],
    artifacts: Iterable[Artifact],
) -> bytes:
    """Return the statement.

    Args:
        digests: The SHA-256 of every kind of input (``spec``, ``templates``, ``lock``, ...).
    """
    made = sorted(artifacts, key=lambda artifact: artifact.file)
    ended = datetime.fromtimestamp(run.created, UTC)
    parameters: dict[str, Any] = {
        "appliance": run.appliance,
        "version": run.version,
        "architecture": run.architecture,
        "builder": run.builder,
        "formats": [artifact.format for artifact in made],
    }
    if run.image_mirrors:
        parameters["imageMirrors"] = dict(run.image_mirrors)
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
                    "externalParameters": parameters,
                    "internalParameters": {"tools": dict(tool_versions)},
                    "resolvedDependencies": _materials(contents, digests, git),
                },
                "runDetails": {
                    "builder": {"id": f"urn:slipway:builder:{run.builder}"},
                    "metadata": {
                        "invocationId": run.build,
                        "finishedOn": ended.strftime("%Y-%m-%dT%H:%M:%SZ"),
                    },
                },
            },
        }
    )


def _materials(
    contents: Contents, digests: Mapping[str, str], git: GitState
) -> list[dict[str, Any]]:
    """Return the materials of a build: an image's contents, the inputs, and the commit."""
    materials: list[dict[str, Any]] = [
        {"name": package.name, "uri": url, "digest": {"sha256": package.sha256}}
        for url, package in contents.urls()
    ]
    materials += [
        {"name": wheel.name, "uri": wheel_url(wheel), "digest": {"sha256": wheel.sha256}}
        for wheel in contents.wheels
    ]
    materials += [
        {"name": item.path, "uri": item.url, "digest": {"sha256": item.sha256}}
        for item in contents.downloads
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
    return materials
