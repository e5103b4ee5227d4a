"""Packages and a manifest to write down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from slipway.formats import Artifact
from slipway.records.git import GitState
from slipway.records.manifest import Inputs, Manifest, RecordFile


@dataclass(frozen=True)
class Locked:
    """What records need of a locked package."""

    name: str
    version: str
    architecture: str
    sha256: str
    archive: str


@pytest.fixture
def packages() -> tuple[Locked, ...]:
    return (
        Locked("nginx", "1.26.3-3+deb13u1", "amd64", "a" * 64, "debian"),
        Locked("libstdc++6", "14.2.0-19", "amd64", "b" * 64, "debian-security"),
        Locked("tzdata", "1:2025b-4", "all", "c" * 64, "vendor"),
    )


@pytest.fixture
def manifest() -> Manifest:
    return Manifest(**manifest_fields())


def manifest_fields(**changes: Any) -> dict[str, Any]:
    """A manifest's fields, some of them changed."""
    return {
        "appliance": "example",
        "version": "1.0.0",
        "build": "0123456789ab",
        "release": "1.0.0-0123456789ab",
        "architecture": "amd64",
        "summary": "An example",
        "category": "examples",
        "created": 1_800_000_000,
        "source_date_epoch": 1_790_000_000,
        "builder": "mmdebstrap",
        "inputs": Inputs(
            git=GitState(commit="9" * 40, dirty=False),
            spec="1" * 64,
            templates="2" * 64,
            lock="3" * 64,
            base="4" * 64,
            tools="5" * 64,
            tool_versions={"qemu-img": "qemu-img version 7.2", "mke2fs": "1.47"},
        ),
        "stages": (("base", "6" * 64), ("disk", "7" * 64)),
        "artifacts": (
            Artifact(
                format="raw",
                file="example.raw.zst",
                size=10,
                sha256="8" * 64,
                uncompressed_size=20,
                uncompressed_sha256="d" * 64,
                compression="zstd",
            ),
        ),
        "boot": {
            "passed": True,
            "checks": [
                {
                    "name": "10-http.sh",
                    "place": "guest",
                    "outcome": "passed",
                    "duration_s": 1.5,
                    "attempts": 2,
                }
            ],
        },
        "booted_disk_sha256": "d" * 64,
        "sbom": RecordFile(file="sbom.cdx.json", size=1, sha256="e" * 64),
        "provenance": RecordFile(file="provenance.intoto.json", size=1, sha256="f" * 64),
        "resources": {"cpus": 1, "memory_mib": 1024, "disk_gib": 8},
        "interfaces": ({"name": "outside", "summary": ""},),
        "ports": ({"port": 80, "protocol": "tcp", "purpose": "HTTP", "interface": "outside"},),
        "parameters": (
            {
                "name": "admin_password",
                "type": "secret",
                "generate": 24,
                "choices": [],
                "summary": "A password",
            },
        ),
        **changes,
    }
