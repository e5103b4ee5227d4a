"""First-boot values beside a download: a CD for the machine, and the page's form for it."""

from __future__ import annotations

__all__: list[str] = []
