"""Workflows of several steps with a build or a release, one module each."""

from __future__ import annotations

__all__: list[str] = []
