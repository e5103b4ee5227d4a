"""The machine underneath: processes and namespaces, its programs, its emulation, private files."""

from __future__ import annotations

__all__: list[str] = []
