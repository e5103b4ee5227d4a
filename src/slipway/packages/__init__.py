"""The spec's packages -> a lock, and the pool of verified .deb files."""

from __future__ import annotations

__all__: list[str] = []
