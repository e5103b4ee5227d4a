"""The tasks of the command line, in families: each reads its arguments, calls slipway and prints.

Offers Invoke's namespace of all tasks, and the families in the order of the help. A task imports
its modules when it runs, so that every start is quick.
"""

from __future__ import annotations

from types import ModuleType
from typing import Final

from invoke import Collection

from slipway.commands import (
    appliances,
    building,
    channels,
    keys,
    machine,
    project,
    publishing,
    reading,
)

__all__ = ["families", "namespace"]

_FAMILIES: Final[tuple[ModuleType, ...]] = (
    appliances,
    building,
    publishing,
    channels,
    keys,
    reading,
    machine,
    project,
)


def families() -> list[tuple[str, list[str]]]:
    """Return the title of each family, with the names of its tasks."""
    return [(family.TITLE, [task.name for task in family.TASKS]) for family in _FAMILIES]


def namespace() -> Collection:
    """Return all tasks."""
    return Collection(*(task for family in _FAMILIES for task in family.TASKS))
