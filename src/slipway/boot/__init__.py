"""Booting what was built: the machine, the network around it, checks, and the sandbox."""

from __future__ import annotations

__all__: list[str] = []
