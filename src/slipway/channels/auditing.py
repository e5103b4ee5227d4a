"""Channels of a store, verified whole.

What goes in: a session, and the names of channels. What comes out: an
:class:`~slipway.channels.audit.Audited` of all of them. Nothing is changed here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from slipway.channels.audit import Audited, examine, examine_rest
from slipway.channels.expiry import Expired
from slipway.channels.report import Untrusted
from slipway.channels.session import Session
from slipway.channels.state import Channel
from slipway.errors import HostError, UserError
from slipway.stores import read_only

__all__ = ["audit"]


def audit(session: Session, channels: Sequence[str], started: Callable[[str], None]) -> Audited:
    """Verify channels whole; whatever is wrong in one channel, the others are looked at.

    Raises:
        StoreError: There is no such channel, and none was seen here.
        HostError: No channel is trusted here.
    """
    if not channels:
        session.require_visible()
    for name in () if read_only(session.store) else channels:
        if name not in session.known():
            raise session.unknown(name)
    lines: list[str] = []
    problems: list[str] = []
    expired: dict[str, str] = {}
    read = []
    for name in channels or session.known():
        channel, found = _look_at(session, name, started, asked=bool(channels))
        problems += found.problems
        expired |= found.expired
        lines += found.lines
        if channel:
            read.append(channel)
    if read_only(session.store):
        lines.append(
            "not looked at: channels that are not trusted here, and what belongs to no "
            "channel; a web server has no listing"
        )
    elif not channels and len(read) == len(session.known()):
        more, left = examine_rest(session.store, read)
        problems += more
        advice = ": invoke gc removes them when they are a week old" if left else ""
        lines.append(f"{left} objects belong to no channel{advice}")
    if not (channels or read or problems or expired):
        _require_one_trusted(session)
    return Audited(lines=tuple(lines), problems=tuple(problems), expired=expired)


def _look_at(
    session: Session, name: str, started: Callable[[str], None], *, asked: bool
) -> tuple[Channel | None, Audited]:
    """One channel, if it can be read, and what was found.

    Raises:
        Untrusted: It is not trusted here, and was asked for.
    """
    try:
        channel = session.read(name)
        return channel, _examined(session, channel, started)
    except Untrusted as error:
        if asked:
            raise
        return None, Audited(lines=(f"{name}: not looked at: {error.message}",))
    except Expired as error:
        return None, Audited(expired={f"{name}: {error.message}": error.todo})
    except UserError as error:
        return None, Audited(problems=(f"{name}: {error.message}",))


def _examined(session: Session, channel: Channel, started: Callable[[str], None]) -> Audited:
    """One channel, as users see it too, with the lines that say how it is."""
    found = examine(session.store, channel, session.clock(), started=started)
    lines = [f"warning: {warning}" for warning in found.warnings]
    if not found.all_problems:
        # python-tuf's own client, with what it remembers
        session.client(channel.name)
        said = f"{found.objects} objects, {found.size} bytes, signatures and hashes right"
        lines.insert(0, f"{channel.name}: {said}")
    return replace(found, lines=tuple(lines))


def _require_one_trusted(session: Session) -> None:
    """Refuse to call a store right of which nothing could be looked at.

    Raises:
        HostError: It has channels.
    """
    if session.known():
        raise HostError(
            f"no channel of {session.store.url} is trusted here, so nothing was looked at: "
            f"{', '.join(session.known())}",
            hint=(
                "put the root of a channel, from its publisher, "
                f"into {session.trust}/CHANNEL.root.json"
            ),
        )
