"""The tasks of the project's own developers.

They are style and tests, locks of its dependencies, faults planted in its code, and fresh machines.
"""

from __future__ import annotations

__all__: list[str] = []
