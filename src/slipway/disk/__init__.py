"""A tree -> a raw disk, with checks of the contents of both."""

from __future__ import annotations

__all__: list[str] = []
