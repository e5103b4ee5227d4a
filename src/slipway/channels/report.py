"""Report on channels for people: their changes, and those that cannot be read.

Input: changes and errors. Output: lines, or one error that names every channel.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from slipway.channels.expiry import Expired, way_out
from slipway.channels.moves import Moved
from slipway.channels.state import Channel
from slipway.channels.withdrawal import Withdrawal
from slipway.errors import HostError, StoreError, UserError, VerificationError
from slipway.records.manifest import PackageChanges
from slipway.terminal.text import one_line

__all__ = [
    "Untrusted",
    "describe",
    "describe_changes",
    "describe_withdrawal",
    "holding_rows",
    "require_none",
    "require_refreshed",
    "unread_rows",
]


class NoChannel(StoreError):
    """A store has no channel of a name, and none was seen there before (exit code 6)."""


class Untrusted(HostError):
    """A channel has no trusted root here (exit code 4)."""


def require_refreshed(problems: Mapping[str, UserError]) -> None:
    """Raise if a channel could not be renewed.

    Raises:
        UserError: The error of the only such channel. For several, one error of the kind with the
            highest exit code.
    """
    if len(problems) < 2:
        for error in problems.values():
            raise error
        return
    listing = "".join(f"\n  {name}: {error.message}" for name, error in problems.items())
    hints = "; ".join(dict.fromkeys(error.hint for error in problems.values() if error.hint))
    kind = type(min(problems.values(), key=lambda error: -error.exit_code))
    plain = next(each for each in kind.__mro__ if "exit_code" in vars(each))
    raise plain(f"{len(problems)} channels were not refreshed:{listing}", hint=hints or None)


def require_none(problems: Mapping[str, UserError]) -> None:
    """Raise one error for all channels that have expired or cannot be read, of the gravest kind.

    Channels merely without a trusted root here do not count: the listing has a line for each.

    Raises:
        VerificationError: A channel is tampered with, malformed or expired.
        StoreError: The store does not have a whole channel.
        HostError: This machine cannot use its keys or its memory of a channel.
    """
    problems = {name: error for name, error in problems.items() if not isinstance(error, Untrusted)}
    if not problems:
        return
    kinds = (VerificationError, StoreError, HostError)
    errors = [
        (kind, error) for kind in kinds for error in problems.values() if isinstance(error, kind)
    ]
    listing = "".join(f"\n  {name}: {error.message}" for name, error in problems.items())
    kind, gravest = errors[0] if errors else (StoreError, next(iter(problems.values())))
    old = sum(isinstance(error, Expired) for error in problems.values())
    count = f"{len(problems)} channel{'s' * (len(problems) != 1)}"
    fault = (
        "expired"
        if old == len(problems)
        else "cannot be read or expired"
        if old
        else "cannot be read"
    )
    hint = (
        way_out(error.todo for error in problems.values() if isinstance(error, Expired))
        if old == len(problems)
        else gravest.hint
    )
    raise kind(f"{count} {fault}:{listing}", hint=hint)


def holding_rows(
    read: Iterable[Channel], problems: Mapping[str, UserError]
) -> list[dict[str, str | None]]:
    """Return the holdings of channels for people; each row of an expired channel says so."""
    rows: list[dict[str, str | None]] = []
    for channel in read:
        for appliance in channel.appliances:
            shelf = channel.shelf(appliance)
            count, dead = len(shelf.releases), len(shelf.withdrawn)
            rows.append(
                {
                    "channel": channel.name,
                    "appliance": appliance,
                    "current": shelf.current,
                    "releases": f"{count} release{'s' * (count != 1)}",
                    "withdrawn": f"{dead} withdrawn" if dead else "",
                    "state": "expired" if isinstance(problems.get(channel.name), Expired) else "",
                }
            )
    return rows


def describe_withdrawal(done: Withdrawal) -> list[str]:
    """Describe a withdrawal for people: the releases, the channels, and their current releases."""
    releases = ", ".join(done.releases)
    are = "are" if len(done.releases) > 1 else "is"
    if done.moved:
        places = ", ".join(each.channel for each in done.moved)
        lines = [f"{done.appliance} {releases} {are} withdrawn from {places}"]
    else:
        lines = [
            f"{done.appliance} {each} was withdrawn already: {reason}"
            for each, reason in done.already.items()
        ]
    for each in done.moved:
        if each.release != each.before:
            lines += describe(each)
    return [one_line(line) for line in lines]


def unread_rows(problems: Mapping[str, UserError]) -> list[str]:
    """Return a line for each channel that is not trusted here, has expired or cannot be read."""
    kinds = {Untrusted: "not trusted here", Expired: "expired"}
    return [
        one_line(f"{name}  {kinds.get(type(error), 'cannot be read')}: {error.message}")
        for name, error in problems.items()
    ]


def describe(moved: Moved) -> list[str]:
    """Describe a change of a channel for people."""
    if not moved.written:
        return [f"{moved.appliance}: {moved.channel} has {moved.release} already, nothing changed"]
    lines = [
        (
            f"{moved.appliance}: {moved.channel} now has {moved.release or 'no release'} (before: "
            f"{moved.before or 'none'})"
        )
    ]
    if moved.older:
        back = f"invoke rollback {moved.appliance} --channel {moved.channel}"
        lines.append(f"  {moved.release} is older than {moved.before}; to go back: {back}")
    return [one_line(line) for line in lines]


def describe_changes(changes: PackageChanges) -> list[str]:
    """Describe the differences between the packages of two releases for people."""
    lines = [f"  + {name} {version}" for name, version in sorted(changes.added.items())]
    lines += [f"  - {name} {version}" for name, version in sorted(changes.removed.items())]
    lines += [
        f"  {name} {before} -> {after}" for name, (before, after) in sorted(changes.changed.items())
    ]
    return [one_line(line) for line in lines]
