"""From a command line's words to a task, and from its end to an exit code or a document."""

from __future__ import annotations

__all__: list[str] = []
