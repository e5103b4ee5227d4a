"""Publish builds as releases into the signed channels of a store, and keep the channels' keys."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

__all__: list[str] = []


class _Late(ModuleType):
    """A package imported on the first access to an attribute."""

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module(self.__name__), name)


@contextmanager
def _imported_late(name: str) -> Iterator[None]:
    """Delay the import of a package, by modules imported in the block, until its first use."""
    if name in sys.modules or find_spec(name) is None:
        yield
        return
    sys.modules[name] = _Late(name)
    try:
        yield
    finally:
        del sys.modules[name]


# The signer for AWS is imported with all others wherever boto3 is installed: without this, boto3
# would be a third of the time of most commands.
with _imported_late("boto3"):
    import securesystemslib.signer  # noqa: F401
