"""A small disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from example_disk import write_disk


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """The example, to write to."""
    return write_disk(tmp_path / "disk.raw")
