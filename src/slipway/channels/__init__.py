"""How builds become releases in a store, and what the keys of a store are."""

from __future__ import annotations

__all__: list[str] = []
