"""A tree -> a raw disk, and what may not be in either."""

from __future__ import annotations

__all__: list[str] = []
