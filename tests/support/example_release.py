"""A finished build with real files, small ones."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from slipway.formats import Artifact
from slipway.records.git import GitState
from slipway.records.manifest import Inputs, Manifest
from slipway.records.release import PROVENANCE, SBOM, Release, record_file, write_release

__all__ = ["write_example", "write_release_folder"]

DISK = "d" * 64


def write_release_folder(
    directory: Path,
    images: dict[str, bytes],
    *,
    appliance: str = "example",
    bill: bytes = b"{}\n",
    disk: str = DISK,
    uncompressed_size: int = 100,
    **changes: Any,
) -> Release:
    """Write a release's folder; ``images`` are contents by format, ``bill`` is the SBOM, ``disk``
    the hash of what they were made from; anything else replaces fields of the manifest.
    """
    directory.mkdir(parents=True, exist_ok=True)
    artifacts = []
    for name, content in images.items():
        (directory / f"{appliance}.{name}").write_bytes(content)
        artifacts.append(
            Artifact(
                format=name,
                file=f"{appliance}.{name}",
                size=len(content),
                sha256=hashlib.sha256(content).hexdigest(),
                uncompressed_size=uncompressed_size,
                uncompressed_sha256=disk,
                compression=None,
                fingerprints={
                    other: hashlib.sha256(content + image).hexdigest()
                    for other, image in images.items()
                    if name == "incus" != other
                },
            )
        )
    provenance = b"[]\n"
    fields: dict[str, Any] = {
        "appliance": appliance,
        "version": "1.0.0",
        "build": "b1",
        "release": "1.0.0-b1",
        "architecture": "amd64",
        "summary": "An example",
        "category": "examples",
        "created": 1_800_000_000,
        "source_date_epoch": 1_790_000_000,
        "builder": "mmdebstrap",
        "inputs": Inputs(
            git=GitState(commit=None, dirty=True),
            spec="1" * 64,
            templates="2" * 64,
            lock="3" * 64,
            base="4" * 64,
            tools="5" * 64,
            tool_versions={},
        ),
        "stages": (("disk", "7" * 64),),
        "artifacts": tuple(artifacts),
        "boot": {"passed": True, "checks": [{"name": "system-running", "outcome": "passed"}]},
        "booted_disk_sha256": disk,
        "sbom": record_file(SBOM, bill),
        "provenance": record_file(PROVENANCE, provenance),
        "resources": {"cpus": 1, "memory_mib": 1024, "disk_gib": 8},
        "interfaces": (),
        "ports": (),
        "parameters": (),
        **changes,
    }
    return write_release(directory, Manifest(**fields), sbom=bill, provenance=provenance)


def write_example(
    directory: Path, number: int, appliance: str = "example", **changes: Any
) -> Release:
    """A build by number: its images, its packages, its build id and its day follow from it."""
    images = {
        "qcow2": f"image {number}".encode() * 1000,
        "raw": f"raw image {number}".encode() * 1000,
    }
    bill = json.dumps({"components": [{"name": "nginx", "version": f"1.{number}"}]}).encode()
    name = f"b{number}"
    fields = {
        "build": name,
        "release": f"1.0.0-{name}",
        "created": 1_800_000_000 + number * 86400,
        "bill": bill,
    }
    return write_release_folder(directory, images, appliance=appliance, **{**fields, **changes})
