"""A library with one base and no appliance, to put things into."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

__all__: list[str] = []

BASE = """\
name: debian-13
summary: Debian 13 (trixie)
distribution: debian
release: trixie
suites: [{suite: trixie, archive: debian}]
components: [main]
packages: [apt, systemd]
architectures:
  amd64:
    kernels: {cloud: [linux-image-cloud-amd64], generic: [linux-image-amd64]}
    qemu: {system: x86_64, machine: q35}
    root_partition_type: 4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709
"""
HEAD = "schema: 1\nname: web\nversion: 1.0.0\nsummary: A web server\ncategory: network\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The root of a library that has one base."""
    base = tmp_path / "library/templates/bases/debian-13"
    base.mkdir(parents=True)
    (base / "base.yaml").write_text(BASE)
    (base / "archive-keyring.asc").touch()
    (tmp_path / "library/appliances").mkdir()
    return tmp_path / "library"


@pytest.fixture
def write(root: Path) -> Callable[..., Path]:
    """Write an appliance called web: what follows the usual head of its spec, and the files of its
    folder.
    """

    def write(text: str = "", files: dict[str, str] | None = None) -> Path:
        folder = root / "appliances/web"
        folder.mkdir(exist_ok=True)
        (folder / "appliance.yaml").write_text(HEAD + text)
        for name, content in (files or {}).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(content)
        return folder

    return write
