"""Channels: show and remove them, move releases between them, and keep them in order.

Takes arguments; prints lines, or JSON.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import Final

from slipway.commandline.answer import Answer, stamp
from slipway.commandline.invocation import option, task
from slipway.commands.channel_shapes import (
    Channels,
    ChannelState,
    Collected,
    Dropped,
    Failed,
    Object,
    Promoted,
    Pruned,
    Recovered,
    Refreshed,
    RolledBack,
    Withdrawn,
)
from slipway.commands.options import Place, described, shared
from slipway.commands.output import confirm, say, show, warn, would
from slipway.commands.records import channel_record, failed_records, held_record, moved_records
from slipway.terminal.text import one_line

__all__ = ["TASKS", "TITLE"]

TITLE: Final = "Channels of a store"


@dataclass(frozen=True, slots=True)
class _Removal:
    """The precautions for removing a channel."""

    yes: bool = shared("yes", False)
    force: bool = option(False, "with remove: even if others may still use it")
    dry_run: bool = shared("dry_run", False)


@task(
    help=described(
        action="remove: take a whole channel out of the store", channel="the channel to remove"
    )
)
def channels(
    action: str = "", channel: str = "", *, at: Place, answer: Answer, care: _Removal
) -> None:
    """Show the releases in each channel of a store, or remove a channel."""
    from slipway.channels.report import holding_rows, require_none, unread_rows
    from slipway.errors import UsageError

    if action == "remove":
        _remove(channel, at, answer, yes=care.yes, force=care.force, dry_run=care.dry_run)
        return
    if action:
        raise UsageError(f'channels has no action "{action}"', hint="choose from: remove")
    if care.yes or care.force or care.dry_run:
        raise UsageError("--yes, --force and --dry-run go with: channels remove CHANNEL")
    _shop, session = at.open(reading=True)
    warnings: list[str] = []
    read, problems = session.holdings(warnings.append)
    answer.tell(
        Channels(
            store=session.store.url,
            channels=[channel_record(each) for each in read],
            holdings=[held_record(each, name) for each in read for name in each.appliances],
            warnings=warnings,
            problems=failed_records(problems),
        )
    )
    for line in warnings:
        warn(line)
    show(holding_rows(read, problems))
    for line in unread_rows(problems):
        say(line)
    sys.stdout.flush()
    require_none(problems)


def _remove(
    channel: str, at: Place, answer: Answer, *, yes: bool, force: bool, dry_run: bool
) -> None:
    """Remove a channel."""
    from slipway.channels.removal import Removal, remove
    from slipway.errors import UsageError
    from slipway.workflows.indexing import update_catalog

    if not channel:
        raise UsageError(
            "channels remove needs a CHANNEL", hint="invoke channels shows which there are"
        )
    shop, session = at.open(dry_run=dry_run)
    removal = Removal.of(session, channel)
    deed = (
        f"remove the channel {channel} from {session.store.url} for good: "
        f"{len(removal.keys)} objects"
    )
    if not force:
        removal.require_unused()
    if dry_run:
        answer.tell(Channels(store=session.store.url, would=[deed]))
        would([deed])
        return
    confirm(deed, yes)
    remove(session, removal)
    answer.tell(Channels(store=session.store.url, removed=channel))
    say(f"{channel} is removed, and what it alone had goes with: invoke gc")
    if (session.keys / channel).exists():
        print(
            f"its keys are still in {session.keys / channel}: without them it can "
            "never be made again"
        )
    update_catalog(shop, session)


@dataclass(frozen=True, slots=True)
class _Promotion:
    """The release to promote, and the precautions."""

    build: str = shared("build", "")
    from_: str = shared("from_", "nightly")
    to: str = option("candidate", "the channel that gets it")
    yes: bool = shared("yes", False)
    dry_run: bool = shared("dry_run", False)


@task(help=described("name"))
def promote(name: str, *, at: Place, answer: Answer, wanted: _Promotion) -> None:
    """List a release of one channel in another, and make it current there; no image is copied."""
    from slipway.channels import preview
    from slipway.channels.report import describe, describe_changes
    from slipway.errors import UsageError
    from slipway.workflows.indexing import update_catalog

    if wanted.from_ == wanted.to:
        raise UsageError(
            f"--from and --to are both {wanted.to}",
            hint="name two channels; invoke rollback moves within one",
        )
    shop, session = at.open(dry_run=wanted.dry_run)
    ref, changes, promotion = session.promotion(name, wanted.build or None, wanted.from_, wanted.to)
    for line in describe_changes(changes):
        print(line)
    deed = preview.promotion(session, ref, wanted.from_, wanted.to)
    told = Promoted(
        store=session.store.url,
        appliance=name,
        release=ref.release,
        source=wanted.from_,
        target=wanted.to,
        added=changes.added,
        removed=changes.removed,
        updated=changes.changed,
    )
    if wanted.dry_run:
        answer.tell(replace(told, would=[deed]))
        would([deed])
        return
    confirm(deed, wanted.yes)
    moved = promotion()
    answer.tell(replace(told, moved=moved_records([moved])))
    say("\n".join(describe(moved)))
    update_catalog(shop, session)


@dataclass(frozen=True, slots=True)
class _Rollback:
    """The release to make current again, and the precautions."""

    channel: str = option("stable", "in this channel")
    to: str = option("", "the same as --build")
    build: str = option("", "to this build id or release (default: the previous one)")
    yes: bool = shared("yes", False)
    dry_run: bool = shared("dry_run", False)


@task(help=described("name"))
def rollback(name: str, *, at: Place, answer: Answer, back: _Rollback) -> None:
    """Make the previous release current again, or another one of the channel."""
    from slipway.channels import preview
    from slipway.channels.report import describe
    from slipway.errors import UsageError
    from slipway.workflows.indexing import update_catalog

    if back.to and back.build:
        raise UsageError("--to and --build are the same", hint="give one of them")
    shop, session = at.open(dry_run=back.dry_run)
    session.ring(back.channel).require("targets")
    wanted = back.to or back.build or None
    target, deed = preview.rollback(session, name, back.channel, wanted)
    told = RolledBack(store=session.store.url, appliance=name, channel=back.channel, release=target)
    if back.dry_run:
        answer.tell(replace(told, would=[deed]))
        would([deed])
        return
    confirm(deed, back.yes)
    moved = session.rollback(name, back.channel, wanted)
    answer.tell(replace(told, moved=moved_records([moved])))
    say("\n".join(describe(moved)))
    if moved.release != target:
        warn(f"{back.channel} was changed meanwhile: it was to be {target}")
    update_catalog(shop, session)


@dataclass(frozen=True, slots=True)
class _Withdrawn:
    """The release to withdraw, and the precautions."""

    build: str = option("", "a build id, or a release")
    reason: str = option("", "why, for those who have it")
    yes: bool = shared("yes", False)
    derived: bool = option(
        False, "also the builds after it that name it as their parent, and those with the same disk"
    )
    dry_run: bool = shared("dry_run", False)


@task(help=described("name", "channel"))
def withdraw(
    name: str, *, at: Place, answer: Answer, channel: list[str], wanted: _Withdrawn
) -> None:
    """Take a release out of every channel, the most trusted first; a tombstone gives the reason."""
    from slipway.channels import preview
    from slipway.channels.report import describe_withdrawal
    from slipway.errors import UsageError
    from slipway.workflows.indexing import update_catalog

    if not wanted.build or not wanted.reason:
        raise UsageError(
            "withdraw needs --build and --reason",
            hint="the reason is shown to everybody who has that release",
        )
    shop, session = at.open(dry_run=wanted.dry_run)
    deed = preview.withdrawal(session, name, wanted.build, channel, derived=wanted.derived)
    if wanted.dry_run:
        answer.tell(
            Withdrawn(store=session.store.url, appliance=name, reason=wanted.reason, would=[deed])
        )
        would([deed])
        return
    confirm(deed, wanted.yes)
    done = session.withdraw(name, wanted.build, wanted.reason, channel, derived=wanted.derived)
    answer.tell(
        Withdrawn(
            store=session.store.url,
            appliance=name,
            reason=wanted.reason,
            releases=done.releases,
            moved=moved_records(done.moved),
            unreached=[
                Failed(name=each, message=problem) for each, problem in done.unreached.items()
            ],
        )
    )
    for line in describe_withdrawal(done):
        say(line)
    update_catalog(shop, session)
    done.require_whole()


@task(help=described("channel", "dry_run"))
def refresh(channel: list[str], *, at: Place, answer: Answer, dry_run: bool = False) -> None:
    """Renew the signatures of channels before they expire; run this every night."""
    from slipway.channels import preview

    _shop, session = at.open(dry_run=dry_run)
    if dry_run:
        names = preview.refreshed(session, channel)
        deeds = [f"sign {name} anew" for name in names]
        answer.tell(Refreshed(store=session.store.url, would=deeds))
        would(deeds)
        return
    signed: list[ChannelState] = []
    warnings: list[str] = []
    answer.tell(Refreshed(store=session.store.url, channels=signed, warnings=warnings))

    def note(line: str) -> None:
        warnings.append(line)
        warn(line)

    done = session.refresh(channel, note, lambda each: signed.append(channel_record(each)))
    print(f"refreshed: {', '.join(done)}")


@task(
    help=described(
        "yes",
        "dry_run",
        channel="the channel",
        version="restore this version (default: the newest)",
    )
)
def recover(
    channel: str,
    *,
    at: Place,
    answer: Answer,
    version: int = 0,
    yes: bool = False,
    dry_run: bool = False,
) -> None:
    """Repair a channel refused by publishers: show its known states, and sign its newest anew."""
    _shop, session = at.open(new=True, dry_run=True)
    found = session.findings(channel, version or None)
    told = Recovered(store=session.store.url, channel=channel, known=found.lines)
    answer.tell(told)
    print("\n".join(found.lines), flush=True)
    if found.problem is None and not version:
        return
    deed = f"sign version {found.chosen} of {channel} anew"
    if found.chosen is None:
        deed = f"forget what was seen of {channel}: nothing of it is left, and it begins again"
    if dry_run:
        answer.tell(replace(told, would=[deed]))
        would([deed])
        return
    session.require_writable(keys=False)
    confirm(deed, yes)
    after = session.recover(found)
    answer.tell(replace(told, version=found.chosen))
    if after is None:
        print(
            f"{channel} begins again with the next publish; who knows the old one refuses it: "
            "restore a backup if there is one"
        )
    else:
        print(f"{channel} goes on from version {found.chosen}")


@task(help=described("channel", "dry_run"))
def prune(channel: list[str], *, at: Place, answer: Answer, dry_run: bool = False) -> None:
    """Take old releases out of channels.

    The newest of 14 days, 8 weeks and 12 months stay, and the current one and the one before.
    """
    _shop, session = at.open(dry_run=dry_run)
    found = session.prune(channel, dry_run=dry_run)
    dropped = [
        Dropped(channel=name, appliance=appliance, releases=releases)
        for name, by_appliance in found.items()
        for appliance, releases in by_appliance.items()
    ]
    deeds = [
        f"drop {each.appliance} {', '.join(each.releases)} from {each.channel}" for each in dropped
    ] or ["drop nothing"]
    answer.tell(
        Pruned(
            store=session.store.url, would=deeds * dry_run, channels=list(found), dropped=dropped
        )
    )
    for each in dropped:
        print(
            f"{each.channel}: {each.appliance}: {'would drop' if dry_run else 'dropped'} "
            f"{', '.join(each.releases)}"
        )
    if not dropped:
        print(f"nothing to drop from {', '.join(found)}")


@task(help=described("dry_run"))
def gc(*, at: Place, answer: Answer, dry_run: bool = False) -> None:
    """Remove objects that no channel has referred to for a week."""
    from slipway.channels.session import Untrusted, require_none
    from slipway.terminal.progress import size

    _shop, session = at.open(dry_run=dry_run)
    collected = session.collect(dry_run=dry_run)
    answer.tell(
        Collected(
            store=session.store.url,
            would=[f"remove {len(collected.removed)} objects"] * dry_run,
            removed=[
                Object(key=each.key, size=each.size, modified=stamp(each.modified))
                for each in collected.removed
            ],
            size=collected.size,
            uploads=collected.uploads,
            problems=failed_records(collected.problems),
        )
    )
    for status in collected.removed:
        print(f"{'would remove' if dry_run else 'removed'} {status.key}")
    print(
        f"{len(collected.removed)} objects, {size(collected.size)}; {collected.uploads} "
        "unfinished uploads",
        flush=True,
    )
    for name, error in collected.problems.items():
        if isinstance(error, Untrusted):
            print(
                one_line(f"{name}  not trusted here, so every release is kept: {error.message}"),
                flush=True,
            )
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
