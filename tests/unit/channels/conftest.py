"""A finished build, a store, and the keys of channels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from example_release import write_example, write_release_folder
from slipway.channels import watch
from slipway.channels.keys import KeyRing, init
from slipway.records.release import Release
from slipway.stores.directory import DirectoryStore

MakeRelease = Callable[..., Release]


@pytest.fixture
def make_release(tmp_path: Path) -> MakeRelease:
    """Write a release's folder; see :func:`write_release_folder`."""

    def make(
        folder: str = "build", images: dict[str, bytes] | None = None, **changes: Any
    ) -> Release:
        return write_release_folder(
            tmp_path / folder, images or {"qcow2": b"a disk", "raw": b"the same disk"}, **changes
        )

    return make


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is remembered from elsewhere, and a publisher that was stopped is waited for a moment
    only.
    """
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("SLIPWAY_STATE", raising=False)
    monkeypatch.setattr(watch, "PATIENCE_S", 0.3)


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
def build(tmp_path: Path) -> Callable[..., Path]:
    """A build by number; see :func:`write_example`."""

    def build(number: int = 1, appliance: str = "example", **changes: Any) -> Path:
        return write_example(
            tmp_path / f"{appliance}-{number}", number, appliance, **changes
        ).folder

    return build
