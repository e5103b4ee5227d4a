"""What takes several steps with a build, or with a release that exists: each module is one."""

from __future__ import annotations

__all__: list[str] = []
