"""Channels: what they hold, moving releases between them, and keeping them in order.

What goes in: arguments. What comes out: lines, or JSON.
"""

from __future__ import annotations

import sys
from typing import Final

from slipway.commands.options import Place, described
from slipway.commands.output import confirm, show
from slipway.invocation import task
from slipway.terminal import one_line

__all__ = ["TASKS", "TITLE"]

TITLE: Final = "Channels of a store"


@task(help=described("json"))
def channels(*, at: Place, json: bool = False) -> None:
    """Show what each channel of a store holds."""
    from slipway.channels.session import require_none

    _shop, session = at.open(reading=True)
    rows, problems = session.holdings(lambda line: print(f"warning: {line}", file=sys.stderr, flush=True))
    if not json:
        for row in rows:
            row["releases"] = f"{len(row['releases'])} releases"
            row["withdrawn"] = f"{len(row['withdrawn'])} withdrawn" if row["withdrawn"] else ""
    show(rows, as_json=json)
    sys.stdout.flush()
    require_none(problems)


@task(help=described("name", "build", "yes", "from_", to="the channel that gets it"))
def promote(name: str, *, at: Place, build: str = "", from_: str = "nightly", to: str = "candidate", yes: bool = False) -> None:
    """List a release of one channel in another, and make it current there; no image is copied."""
    from slipway.channels.session import describe
    from slipway.pipeline import update_catalog

    shop, session = at.open()
    release, changes, deed = session.promotion(name, build or None, from_, to)
    for sign, packages in (("+", changes.added), ("-", changes.removed)):
        for package, version in sorted(packages.items()):
            print(one_line(f"  {sign} {package} {version}"))
    for package, (before, after) in sorted(changes.changed.items()):
        print(one_line(f"  {package} {before} -> {after}"))
    confirm(f"promote {name} {release} from {from_} to {to}?", yes)
    print("\n".join(describe(deed())))
    update_catalog(shop, session)


@task(help=described("name", "yes", channel="in this channel", to="to this release or build; without it the one before"))
def rollback(name: str, *, at: Place, channel: str = "stable", to: str = "", yes: bool = False) -> None:
    """Make an older release of a channel the current one again."""
    from slipway.channels.session import describe
    from slipway.pipeline import update_catalog

    shop, session = at.open()
    confirm(f"roll {name} in {channel} back to {to or 'the release before'}?", yes)
    print("\n".join(describe(session.rollback(name, channel, to or None))))
    update_catalog(shop, session)


@task(
    help=described(
        "name",
        "build",
        "yes",
        "channel",
        reason="why, for those who have it",
        derived="also the builds after it that name it as their parent, and those with the same disk",
    )
)
def withdraw(
    name: str, *, at: Place, channel: list[str], build: str = "", reason: str = "", yes: bool = False, derived: bool = False
) -> None:
    """Take a release out of every channel, the most trusted first; what is left is a note that says why."""
    from slipway.channels.session import describe
    from slipway.errors import UsageError
    from slipway.pipeline import update_catalog

    if not build or not reason:
        raise UsageError("withdraw wants --build and --reason", hint="the reason is shown to everybody who has that release")
    shop, session = at.open()
    confirm(f"withdraw {name} {build}{' and what is derived from it' if derived else ''} for good?", yes)
    done = session.withdraw(name, build, reason, channel, derived=derived)
    for moved in done.moved:
        print("\n".join(describe(moved)), flush=True)
    for release in done.releases if len(done.releases) > 1 or not done.moved else ():
        print(f"  withdrawn: {release}", flush=True)
    update_catalog(shop, session)
    done.require_whole()


@task(help=described("channel"))
def refresh(channel: list[str], *, at: Place) -> None:
    """Renew the signatures of channels before they expire; run this every night."""
    _shop, session = at.open()
    done = session.refresh(channel, lambda line: print(f"warning: {line}", file=sys.stderr, flush=True))
    print(f"refreshed: {', '.join(done) or 'nothing, no channel here has its keys here'}")


@task(help=described("yes", channel="the channel", to="restore this version; without it the newest one"))
def recover(channel: str, *, at: Place, to: int = 0, yes: bool = False) -> None:
    """Go on with a channel that publishers refuse: show what is known of it, and sign its newest state anew."""
    _shop, session = at.open(new=True)
    found = session.findings(channel, to or None)
    print("\n".join(found.lines), flush=True)
    if found.problem is None and not to:
        return
    if found.chosen is None:
        confirm(f"nothing is left of {channel}: forget what was seen, and begin it again?", yes)
    else:
        confirm(f"sign version {found.chosen} of {channel} anew?", yes)
    after = session.recover(found)
    if after is None:
        print(f"{channel} begins again with the next publish; who knows the old one refuses it: restore a backup if there is one")
    else:
        print(f"{channel} goes on from version {found.chosen}")


@task(help=described("channel", "dry_run"))
def prune(channel: list[str], *, at: Place, dry_run: bool = False) -> None:
    """Take old releases out of channels: all but the newest of 14 days, 8 weeks and 12 months, the current and the one before."""
    _shop, session = at.open()
    for name, dropped in session.prune(channel, dry_run=dry_run).items():
        for appliance, releases in dropped.items():
            print(f"{name}: {appliance}: {'would drop' if dry_run else 'dropped'} {', '.join(releases)}")


@task(help=described("dry_run"))
def gc(*, at: Place, dry_run: bool = False) -> None:
    """Remove objects that no channel has referred to for a week."""
    from slipway.channels.session import require_none
    from slipway.progress import size

    _shop, session = at.open()
    collected = session.collect(dry_run=dry_run)
    for status in collected.removed:
        print(f"{'would remove' if dry_run else 'removed'} {status.key}")
    print(f"{len(collected.removed)} objects, {size(collected.size)}; {collected.uploads} unfinished uploads", flush=True)
    require_none(collected.problems)


TASKS: Final = (
    channels,
    promote,
    rollback,
    withdraw,
    refresh,
    recover,
    prune,
    gc,
)
