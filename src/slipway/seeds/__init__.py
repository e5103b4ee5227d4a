"""First-boot values beside a download: the CD that a machine reads them from, and the page's form
for it.
"""

from __future__ import annotations

__all__: list[str] = []
