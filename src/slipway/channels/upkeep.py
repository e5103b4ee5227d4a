"""Upkeep of channels, every night: renew signatures before they expire, and drop old releases.

Pruning takes releases out of a channel and removes no byte. :mod:`slipway.channels.collect` removes
the bytes a week later.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from slipway.channels.commit import Committed, commit
from slipway.channels.expiry import Expired, clock_says, renewal, root_warning
from slipway.channels.keys import EXPIRY_DAYS, Clock, KeyRing
from slipway.channels.state import Channel, Shelf
from slipway.channels.watch import read_own
from slipway.errors import HostError
from slipway.stores import Store

__all__ = ["Policy", "half_over", "kept", "prune", "refresh", "warnings"]

#: From this many days before the end of the targets metadata, a refresh without the targets key
#: fails: a warning was not enough.
_LAST_DAYS: Final = EXPIRY_DAYS["snapshot"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The numbers of days, weeks and months that keep their newest release.

    Periods without a release do not count. The current release and the one before are always kept.
    """

    days: int = 14
    weeks: int = 8
    months: int = 12


_PERIODS: Final[tuple[tuple[str, str], ...]] = (
    ("days", "%Y-%m-%d"),
    ("weeks", "%G-%V"),
    ("months", "%Y-%m"),
)


def kept(shelf: Shelf, policy: Policy) -> set[str]:
    """Return the releases that a policy keeps.

    A release belongs to the day, week and month of its build, in UTC.
    """
    keep = {name for name in (shelf.current, shelf.previous()) if name}
    newest_first = sorted(
        reversed(shelf.releases), key=lambda name: shelf.releases[name].created, reverse=True
    )
    for unit, pattern in _PERIODS:
        periods: dict[str, str] = {}
        for name in newest_first:
            periods.setdefault(
                datetime.fromtimestamp(shelf.releases[name].created, UTC).strftime(pattern), name
            )
        keep |= set(list(periods.values())[: getattr(policy, unit)])
    return keep


def prune(
    store: Store,
    ring: KeyRing,
    policy: Policy | None = None,
    *,
    clock: Clock = time.time,
    dry_run: bool = False,
) -> dict[str, list[str]]:
    """Drop the releases that a policy does not keep from a channel; return them by appliance.

    Args:
        dry_run: Change nothing.
    """
    dropped: dict[str, list[str]] = {}

    def drop(channel: Channel) -> None:
        dropped.clear()
        for appliance in channel.appliances:
            shelf = channel.shelf(appliance)
            keep = kept(shelf, policy or Policy())
            gone = [name for name in shelf.releases if name not in keep]
            for name in gone:
                del shelf.releases[name]
            if gone:
                dropped[appliance] = gone

    if dry_run:
        drop(read_own(store, ring, clock))
    else:
        commit(store, ring, drop, clock=clock)
    return dropped


def refresh(store: Store, ring: KeyRing, *, clock: Clock = time.time) -> Committed:
    """Sign a channel anew: timestamp and snapshot always, the rest when half of its time is over.

    Timestamp and snapshot keep a channel alive, so they are signed even without the targets key.

    Raises:
        Expired: The root has ended; nothing is signed.
        HostError: The targets key is needed within :data:`_LAST_DAYS`; the rest was signed.
    """

    def mark(channel: Channel) -> None:
        _require_root(channel, clock)
        if not ring.has("targets"):
            return
        for name in channel.appliances:
            role = channel.role(name)
            if role and half_over(role.signed.expires, clock):
                channel.shelf(name)
                channel.resign.add(name)
        if channel.targets and half_over(channel.targets.signed.expires, clock):
            channel.resign.add("targets")

    done = commit(store, ring, mark, clock=clock, force=True)
    end = _targets_end(done.channel, ring, clock)
    if end and end.timestamp() - clock() < _LAST_DAYS * 86400:
        raise HostError(
            _needs_targets(ring, end),
            hint=f"where that key is kept, run: invoke refresh --channel {ring.channel}",
        )
    return done


def warnings(channel: Channel, ring: KeyRing, clock: Clock = time.time) -> list[str]:
    """Return a channel's coming needs that a refresh without a person does not meet."""
    ending = root_warning(channel, clock())
    found = [ending] if ending else []
    due = _targets_end(channel, ring, clock)
    if due:
        found.append(
            f"{_needs_targets(ring, due)}: where it is kept, run: invoke refresh "
            f"--channel {ring.channel}"
        )
    return found


def _require_root(channel: Channel, clock: Clock) -> None:
    end: datetime = channel.root.signed.expires
    if end.timestamp() <= clock():
        raise Expired(
            f"the root of the channel {channel.name} ended on {end:%Y-%m-%d}: nobody accepts what "
            f"is signed now; {clock_says(clock())}",
            todo=(todo := renewal(channel.name, "root")),
            hint=f"where its root keys are: {todo}",
        )


def _targets_end(channel: Channel, ring: KeyRing, clock: Clock) -> datetime | None:
    """Return the first end of metadata due for the missing targets key; None if nothing is due."""
    if ring.has("targets"):
        return None
    roles = [channel.targets, *(channel.role(name) for name in channel.appliances)]
    ends = [role.signed.expires for role in roles if role is not None]
    return min((end for end in ends if half_over(end, clock)), default=None)


def _needs_targets(ring: KeyRing, end: datetime) -> str:
    return (
        f"the targets metadata of the channel {ring.channel} ends on {end:%Y-%m-%d}, and the "
        "targets key is not here"
    )


def half_over(expires: datetime, clock: Clock) -> bool:
    """Return True if half of the time of targets metadata is over."""
    return expires.timestamp() - clock() < EXPIRY_DAYS["targets"] * 86400 / 2
