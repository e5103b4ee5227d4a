"""From templates and plain values to the files that a builder runs."""

from __future__ import annotations

__all__: list[str] = []
