"""The output of a running task: safe text, rows of progress, and usual durations."""

from __future__ import annotations

__all__: list[str] = []
