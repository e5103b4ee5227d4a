"""What an export leaves when it fails: the log that its error names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slipway.errors import BuildError
from slipway.formats import load
from slipway.formats.raw import compress
from slipway.job import Workshop
from slipway.workflows import conversion


def test_the_log_that_an_error_names_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(b"a disk" * 1000)
    packed = compress(disk, tmp_path / "disk.raw.zst")
    named: list[Path] = []

    def export(*_: Any, log: Path, **__: Any) -> None:
        named.append(log)
        log.write_text("what the program said\n")
        raise BuildError("it failed", hint=f"the whole log is {log}")

    monkeypatch.setenv("SLIPWAY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(type(load("qcow2")), "export", export)
    monkeypatch.setattr(conversion, "_description", lambda *_: None)
    monkeypatch.setattr(conversion, "replace", lambda *_, **__: None)
    manifest: Any = type("Manifest", (), {})()
    manifest.appliance, manifest.release, manifest.architecture = "thing", "1-a", "amd64"
    manifest.artifacts, manifest.resources = (packed,), json.loads('{"disk_gib": 1}')
    with pytest.raises(BuildError):
        conversion._export(
            Workshop(root=tmp_path),
            manifest,
            tmp_path / "disk.raw.zst",
            ["qcow2"],
            tmp_path / "out",
        )
    assert [log.read_text() for log in named] == ["what the program said\n"]
