"""Begin the first channel of the default store, on a person's own machine.

Input: a session, a channel and the origin of its store. Output: the channel's keys.

Invariants: Keys are made only for the default channel in the default store, on a machine without
any known channel. A mistyped channel or an empty variable of CI never makes one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from slipway.channels.keys import KeyRing, init
from slipway.channels.session import Session
from slipway.errors import UsageError, as_called

__all__ = ["DEFAULT", "begins", "publishing_ring"]

#: The default channel of a publication.
DEFAULT: Final = "nightly"


def begins(session: Session, channel: str, *, default_store: bool) -> bool:
    """Return True if publishing into a channel makes its keys: no channel is known here yet.

    Args:
        default_store: True if nobody named a store: it is the folder ``build/store``.
    """
    if channel != DEFAULT or not default_store:
        return False
    return (
        not (session.keys / channel).exists() and not session.channels() and not session.trusted()
    )


def publishing_ring(
    session: Session, channel: str, *, default_store: bool, say: Callable[[str], object]
) -> KeyRing:
    """Return the keys to publish with.

    The keys of the first channel of a new default store are made now.

    Args:
        default_store: As for :func:`begins`.
        say: Called with the place of new keys.

    Raises:
        MissingKeys: The keys are not here. ``keys init`` makes those of other channels and of named
            stores.
    """
    if begins(session, channel, default_store=default_store):
        try:
            init(channel, session.keys)
        except UsageError:
            if not (session.keys / channel).exists():
                raise
            # Another command made them meanwhile.
        else:
            say(
                f"this is the first publication: keys of the channel {channel} are made in "
                f"{session.keys / channel}"
            )
            say(
                as_called(
                    f"keep a copy; to put them under a passphrase: invoke keys protect {channel}"
                )
            )
    ring = session.ring(channel)
    ring.require("targets")
    return ring
