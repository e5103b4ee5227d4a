"""Emulators do crash now and then: a test's machine that died is started once more, and the test
says so.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TypeVar

from slipway.boot.results import Died

__all__ = ["Crashed", "once_more"]

Made = TypeVar("Made")


class Crashed(UserWarning):
    """A machine died; it is named in pytest's summary of warnings."""


def once_more(start: Callable[[], Made]) -> Made:
    """Return what ``start`` does; do it again if the machine died, but not if a check failed.

    Raises:
        Died: The machine died again.
    """
    try:
        return start()
    except Died as died:
        warnings.warn(f"a machine was started once more: {died}", Crashed, stacklevel=2)
    return start()
