"""Turn templates and plain values into a builder's files."""

from __future__ import annotations

__all__: list[str] = []
