"""Boot a built image: its machine, the network around it, its checks, and the sandbox."""

from __future__ import annotations

__all__: list[str] = []
