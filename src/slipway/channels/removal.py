"""Remove a channel for good: its metadata, its signatures, and the memory of it here.

Input: a session and a channel's name. Output: the keys of the objects to remove, and then a store
without them.

Invariants: The timestamp goes first and other metadata last, so no reader finds half a channel. An
interrupted removal is completed by the same command. Images are left to garbage collection.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass

from slipway.channels.keys import check_channel
from slipway.channels.layout import RELEASES, metadata_folder, metadata_key, signer_of
from slipway.channels.session import Session
from slipway.errors import StoreError, UserError

__all__ = ["Removal", "remove"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """A removal before it is done.

    Attributes:
        keys: The objects, in the order of their removal.
        used: The reason somebody may still rely on the channel; empty if nobody can.
    """

    channel: str
    keys: tuple[str, ...]
    used: str

    def require_unused(self) -> None:
        """Refuse to remove a channel in use.

        Raises:
            StoreError: Somebody may still rely on the channel.
        """
        if self.used:
            raise StoreError(
                f"the channel {self.channel} may still be used: {self.used}",
                hint=f"if nobody relies on it: invoke channels remove {self.channel} --force",
            )

    @classmethod
    def of(cls, session: Session, channel: str) -> Removal:
        """Find the objects of a channel.

        Raises:
            StoreError: Neither the store nor this machine has anything of the channel.
        """
        check_channel(channel)
        timestamp = metadata_key(channel, "timestamp")
        metadata = [status.key for status in session.store.list(metadata_folder(channel))]
        signatures = [
            status.key
            for status in session.store.list(RELEASES)
            if signer_of(status.key) == channel
        ]
        if not metadata and not signatures and not session.forgettable(channel):
            raise session.unknown(channel)
        keys = [
            *(key for key in metadata if key == timestamp),
            *signatures,
            *(key for key in metadata if key != timestamp),
        ]
        # Without its timestamp it is the rest of a removal, or unreadable for everybody.
        used = _used(session, channel) if timestamp in metadata else ""
        return cls(channel=channel, keys=tuple(keys), used=used)


def _used(session: Session, channel: str) -> str:
    if (session.trust / f"{channel}.root.json").exists():
        return f"{session.trust / channel}.root.json is what clients trust it by"
    try:
        found = session.read(channel)
        held = [name for name in found.appliances if found.shelf(name).current]
    except UserError as error:
        return error.message
    return f"it has releases of {', '.join(held)}" if held else ""


def remove(session: Session, removal: Removal) -> None:
    """Remove a channel from the store, and the memory of it here."""
    folder = session.client_folder(removal.channel)
    for key in removal.keys:
        session.store.delete(key)
    session.forget(removal.channel)
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
