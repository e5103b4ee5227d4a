"""Report expired metadata together with this host's clock: a wrong clock looks like an old copy.

Input: verified metadata, and a time in seconds since 1970. Output: sentences and errors. Invariant:
every refusal for age names the date in the metadata and the time here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from slipway.errors import VerificationError

if TYPE_CHECKING:
    from tuf.api.metadata import Metadata

    from slipway.channels.state import Channel

__all__ = [
    "ROOT_WARNING_DAYS",
    "Expired",
    "clock_says",
    "expired_parts",
    "renewal",
    "require_fresh",
    "root_warning",
    "way_out",
]

#: From this many days before its end, a root brings a warning.
ROOT_WARNING_DAYS: Final = 30


class Expired(VerificationError):
    """Expired metadata with valid signatures.

    Args:
        todo: The publisher's command for it (:func:`renewal`).
        hint: The next step (default: that of a reader).
    """

    def __init__(self, message: str, *, todo: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint or way_out((todo,)))
        self.todo = todo


def renewal(channel: str, role: str) -> str:
    """Return the publisher's command for an expired role of a channel.

    Nothing is signed on top of an expired timestamp, so `recover` comes first. A root is replaced
    by new keys.
    """
    if role == "root":
        return f"invoke keys rotate {channel} --role root, then: invoke refresh --channel {channel}"
    return (
        f"invoke recover {channel}"
        if role == "timestamp"
        else f"invoke refresh --channel {channel}"
    )


def way_out(todo: Iterable[str]) -> str:
    """Return the hint for expired metadata.

    Args:
        todo: The publishers' commands.
    """
    commands = "; ".join(dict.fromkeys(todo))
    return (
        f"if this clock is right, the publisher has to run: {commands}; if that was done, "
        "this store is an old copy"
    )


def clock_says(now: float) -> str:
    """Return the time of this host, in words for a message about a date."""
    return f"this host's clock says {datetime.fromtimestamp(now, UTC):%Y-%m-%d %H:%M} UTC"


def expired_parts(channel: Channel, now: float) -> Iterator[tuple[str, str]]:
    """Yield each expired role of a channel, with the rest of the sentence.

    Only the parts already read count.
    """
    moment = datetime.fromtimestamp(now, UTC)
    parts: dict[str, Metadata[Any] | None] = {
        "root": channel.root,
        "timestamp": channel.timestamp,
        "snapshot": channel.snapshot,
        "targets": channel.targets,
        **channel.roles,
    }
    for role, metadata in parts.items():
        if metadata is not None and metadata.signed.is_expired(moment):
            yield role, f"expired on {metadata.signed.expires:%Y-%m-%d}; {clock_says(now)}"


def require_fresh(channel: Channel, now: float) -> None:
    """Refuse a channel if any part already read has expired.

    Raises:
        Expired: A part has expired. The message names the first one, its date and this host's
            clock.
    """
    for role, rest in expired_parts(channel, now):
        raise Expired(
            f"the {role} metadata of the channel {channel.name} {rest}",
            todo=renewal(channel.name, role),
        )


def root_warning(channel: Channel, now: float) -> str | None:
    """Return a warning if a root ends within :data:`ROOT_WARNING_DAYS`, with the way to replace it.

    Returns:
        None if it ends later, or has ended.
    """
    end: datetime = channel.root.signed.expires
    days = int((end.timestamp() - now) // 86400)
    if not 0 <= days < ROOT_WARNING_DAYS:
        return None
    name = channel.name
    when = "within a day" if days == 0 else f"in {days} day{'s' if days > 1 else ''}"
    return (
        f"the root of the channel {name} ends on {end:%Y-%m-%d}, {when} ({clock_says(now)}): "
        f"where its root keys are, run: {renewal(name, 'root')}"
    )
