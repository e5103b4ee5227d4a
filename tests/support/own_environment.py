"""The environment of a task that a test runs as a program of its own."""

from __future__ import annotations

import os
from pathlib import Path

_SOURCE = Path(__file__).parents[2] / "src"


def environment_of(project: Path, **more: str) -> dict[str, str]:
    """Return this process's environment without settings of Slipway, and a project's own.

    Args:
        more: Further variables, such as ``SLIPWAY_STORE``.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("SLIPWAY_") and name != "CI"
    }
    return {
        **kept,
        "SLIPWAY_CACHE": str(project / "cache"),
        "SLIPWAY_KEYS": str(project / "keys"),
        "PYTHONPATH": str(_SOURCE),
        **more,
    }
