"""What the project's own developers run: style and tests, locks of its dependencies, faults planted
in its code, fresh machines.
"""

from __future__ import annotations

__all__: list[str] = []
