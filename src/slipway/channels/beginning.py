"""The first channel of a store that begins on a person's own machine.

What goes in: a session, a channel, and where its store comes from. What comes out: the channel's
keys. Invariants: keys are made for the default channel alone, in the default folder alone, where no
channel is known at all: a mistyped channel, or an empty variable of CI, never makes one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from slipway.channels.keys import KeyRing, init
from slipway.channels.session import Session
from slipway.errors import UsageError, as_called

__all__ = ["DEFAULT", "begins", "publishing_ring"]

#: The channel that a publication goes into unless something else is said.
DEFAULT: Final = "nightly"


def begins(session: Session, channel: str, *, default_store: bool) -> bool:
    """Return True if publishing into a channel makes its keys: nothing is known here of any channel
    yet.

    Args:
        default_store: Nobody named a store: it is the folder ``build/store``.
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

    Those of the first channel of a new default store are made now.

    Args:
        default_store: As for :func:`begins`.
        say: Called with where new keys are.

    Raises:
        MissingKeys: They are not here: another channel, or one in a store that was named, is made
            by ``keys init``.
    """
    if begins(session, channel, default_store=default_store):
        try:
            init(channel, session.keys)
        except UsageError:
            if not (session.keys / channel).exists():
                raise
            # Another command has made them meanwhile.
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
