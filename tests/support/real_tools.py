"""Programs that others wrote, which judge what we make."""

from __future__ import annotations

import os
import shutil

import pytest

from slipway.host.programs import with_needs

__all__ = ["need", "need_one_of"]


def need(*names: str) -> None:
    """Skip the test where a program, or one that it starts, is not installed.

    In CI, where `run` has installed all, fail.
    """
    missing = [name for name in with_needs(*names) if shutil.which(name) is None]
    if missing and os.environ.get("CI"):
        pytest.fail(f"not installed: {', '.join(missing)}")
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


def need_one_of(*names: str) -> str:
    """The first of some programs that is installed; as :func:`need` where none is."""
    found = next(
        (path for name in names if with_needs(name) and (path := shutil.which(name))), None
    )
    if found is None:
        need(names[0])
    assert found
    return found
