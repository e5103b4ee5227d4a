"""The name of one release, for keys, lists and messages."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ReleaseRef"]


@dataclass(frozen=True, slots=True, order=True)
class ReleaseRef:
    """An appliance and one of its releases; its text is the release's name in messages."""

    appliance: str
    release: str

    def __str__(self) -> str:
        return f"{self.appliance} {self.release}"

    @property
    def path(self) -> str:
        """The folder of the release's files, in a store and in a channel's metadata."""
        return f"{self.appliance}/{self.release}"
