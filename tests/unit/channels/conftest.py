"""A finished build with real files, small ones."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slipway.channels.keys import KeyRing, init
from slipway.formats import Artifact
from slipway.records.git import GitState
from slipway.records.manifest import Inputs, Manifest
from slipway.records.release import PROVENANCE, SBOM, Release, record_file, write_release
from slipway.stores.directory import DirectoryStore

MakeRelease = Callable[..., Release]
DISK = "d" * 64


@pytest.fixture
def make_release(tmp_path: Path) -> MakeRelease:
    """Write a release's folder; ``images`` are contents by format, ``bill`` is the SBOM, anything else replaces fields of
    the manifest."""

    def make(folder: str = "build", images: dict[str, bytes] | None = None, **changes: Any) -> Release:
        directory = tmp_path / folder
        directory.mkdir(exist_ok=True)
        artifacts = []
        appliance = changes.get("appliance", "example")
        for name, content in (images or {"qcow2": b"a disk", "raw": b"the same disk"}).items():
            (directory / f"{appliance}.{name}").write_bytes(content)
            artifacts.append(
                Artifact(
                    format=name,
                    file=f"{appliance}.{name}",
                    size=len(content),
                    sha256=hashlib.sha256(content).hexdigest(),
                    uncompressed_size=100,
                    uncompressed_sha256=DISK,
                    compression=None,
                )
            )
        sbom, provenance = changes.pop("bill", b"{}\n"), b"[]\n"
        fields: dict[str, Any] = {
            "appliance": "example",
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
            "booted_disk_sha256": DISK,
            "sbom": record_file(SBOM, sbom),
            "provenance": record_file(PROVENANCE, provenance),
            "resources": {"cpus": 1, "memory_mib": 1024, "disk_gib": 8},
            "interfaces": (),
            "ports": (),
            "parameters": (),
            **changes,
        }
        return write_release(directory, Manifest(**fields), sbom=sbom, provenance=provenance)

    return make


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return tmp_path / "keys"


@pytest.fixture
def ring(keys: Path) -> KeyRing:
    """The keys of nightly."""
    return init("nightly", keys)


@pytest.fixture
def stable(keys: Path) -> KeyRing:
    """The keys of stable."""
    return init("stable", keys)


@pytest.fixture
def build(make_release: MakeRelease) -> Callable[..., Path]:
    """A build by number: its images, its build id and its time follow from it."""

    def build(number: int = 1, appliance: str = "example", **changes: Any) -> Path:
        images = {"qcow2": f"{appliance} {number}".encode() * 1000, "raw": f"{appliance} raw {number}".encode() * 1000}
        name = f"b{number}"
        fields = {"appliance": appliance, "build": name, "release": f"1.0.0-{name}", "created": 1_800_000_000 + number * 86400}
        return make_release(f"{appliance}-{number}", images, **{**fields, **changes}).folder

    return build
