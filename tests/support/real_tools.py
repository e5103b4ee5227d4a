"""Programs that others wrote, which judge what we make."""

from __future__ import annotations

import os
import shutil

import pytest

__all__ = ["need"]


def need(*names: str) -> None:
    """Skip the test where a program is not installed; in CI, where `run` has installed them all, fail."""
    missing = [name for name in names if shutil.which(name) is None]
    if missing and os.environ.get("CI"):
        pytest.fail(f"not installed: {', '.join(missing)}")
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
