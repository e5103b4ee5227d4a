"""What a person sees while a task runs: text that nobody else can steer, rows of progress, how long
it usually takes.
"""

from __future__ import annotations

__all__: list[str] = []
