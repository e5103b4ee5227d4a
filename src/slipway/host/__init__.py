"""What stands on the machine that this runs on: processes and namespaces, its programs and its
emulation, files that are ours alone.
"""

from __future__ import annotations

__all__: list[str] = []
