"""What became of channels, for people: a change of one, and those that cannot be read.

What goes in: changes and errors. What comes out: lines, or one error that names every channel.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from slipway.channels.expiry import Expired, way_out
from slipway.channels.moves import Moved
from slipway.channels.state import Channel
from slipway.errors import HostError, StoreError, UserError, VerificationError
from slipway.records.manifest import PackageChanges
from slipway.terminal import one_line

__all__ = ["Untrusted", "describe", "holding_rows", "require_none", "unread_rows"]


class Untrusted(HostError):
    """No root of a channel is known here (exit code 4)."""


def require_none(problems: Mapping[str, UserError]) -> None:
    """Raise if there are channels that cannot be read or have expired: the gravest kind of error, which names all.

    A channel that is merely not trusted here is none of them: the listing has a line of it.

    Raises:
        VerificationError: One is not what its keys signed, or makes no sense.
        StoreError: The store does not have one whole.
        HostError: The root of one is not known here.
    """
    problems = {name: error for name, error in problems.items() if not isinstance(error, Untrusted)}
    if not problems:
        return
    kinds = (VerificationError, StoreError, HostError)
    errors = [(kind, error) for kind in kinds for error in problems.values() if isinstance(error, kind)]
    listing = "".join(f"\n  {name}: {error.message}" for name, error in problems.items())
    kind, gravest = errors[0] if errors else (StoreError, next(iter(problems.values())))
    old = sum(isinstance(error, Expired) for error in problems.values())
    count = f"{len(problems)} channel{'s' * (len(problems) != 1)}"
    fault = "expired" if old == len(problems) else "cannot be read or expired" if old else "cannot be read"
    hint = way_out(error.todo for error in problems.values() if isinstance(error, Expired)) if old == len(problems) else gravest.hint
    raise kind(f"{count} {fault}:{listing}", hint=hint)


def holding_rows(read: Iterable[Channel], problems: Mapping[str, UserError]) -> list[dict[str, str | None]]:
    """Return what channels hold, for people; those that have expired say so in each row."""
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


def unread_rows(problems: Mapping[str, UserError]) -> list[str]:
    """Return a line for each channel that has to be read with care, or cannot be read."""
    kinds = {Untrusted: "not trusted here", Expired: "expired"}
    return [one_line(f"{name}  {kinds.get(type(error), 'cannot be read')}: {error.message}") for name, error in problems.items()]


def describe(moved: Moved, changes: PackageChanges | None = None) -> list[str]:
    """A change of a channel for people."""
    if not moved.written:
        return [f"{moved.appliance}: {moved.channel} has {moved.release} already, nothing changed"]
    lines = [f"{moved.appliance}: {moved.channel} now has {moved.release or 'no release'} (before: {moved.before or 'none'})"]
    if changes:
        lines += [f"  + {name} {version}" for name, version in sorted(changes.added.items())]
        lines += [f"  - {name} {version}" for name, version in sorted(changes.removed.items())]
        lines += [f"  {name} {before} -> {after}" for name, (before, after) in sorted(changes.changed.items())]
    return [one_line(line) for line in lines]
