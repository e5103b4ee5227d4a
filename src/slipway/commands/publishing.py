"""Publish releases to a store, and do a night's work.

Takes arguments; prints lines, or JSON.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from slipway.commandline.answer import Answer
from slipway.commandline.invocation import option, task
from slipway.commands.apart import built_apart
from slipway.commands.channel_shapes import Cataloged, Failed, Night, Published
from slipway.commands.options import (
    MADE,
    Place,
    Recipe,
    described,
    require_folder,
    require_words,
    shared,
)
from slipway.commands.options import folders as folders_of
from slipway.commands.output import say, warn, would
from slipway.commands.records import failed_records, moved_records, published_record
from slipway.commands.summaries import publication_table
from slipway.terminal.text import one_line

if TYPE_CHECKING:
    from slipway.channels.session import Session
    from slipway.errors import UserError
    from slipway.job import Workshop

__all__ = ["TASKS", "TITLE", "publish_into"]

TITLE: Final = "Publish"


def publish_into(
    shop: Workshop, session: Session, folders: Sequence[Path], channel: str, answer: Answer
) -> None:
    """Publish releases, and print the changes.

    Raises:
        UserError: Some releases were refused; the others are published.
    """
    from slipway import pipeline
    from slipway.channels.session import describe

    refused: dict[str, UserError] = {}
    moves = pipeline.publish(shop, folders, session, channel, refused)
    answer.tell(
        Published(
            store=session.store.url,
            channel=channel,
            moved=moved_records(moves),
            releases=[published_record(blobs) for moved in moves for blobs in moved.blobs],
            refused=failed_records(refused),
        )
    )
    publication_table(moves, channel, refused)
    for moved in moves:
        created = sum(len(blobs.created) for blobs in moved.blobs)
        say("\n".join(describe(moved)))
        print(f"  in {session.store.url}, {created} objects created", flush=True)
        kept = [file for blobs in moved.blobs for file in blobs.kept]
        if kept:
            print(f"  it was published before: {', '.join(kept)} of that build stay", flush=True)
    pipeline.require_published(refused)


@dataclass(frozen=True, slots=True)
class _Publication:
    """The releases to publish, and their channel."""

    all: bool = shared("all", False)
    channel: str = option("nightly", "into this channel")
    folder: str = option("", "releases that were built elsewhere: all below this folder")
    only: str = option(
        "",
        "refuse other appliances than this one in --folder; 'build-*': each folder is for the one "
        "that it is named after",
    )
    dry_run: bool = shared("dry_run", False)


@task(help=described("names", format=MADE))
def publish(
    names: list[str],
    *,
    at: Place,
    recipe: Recipe,
    format: list[str],
    wanted: _Publication,
    answer: Answer,
) -> None:
    """Put built releases into a store and, with one commit, into a channel of it.

    Doing it again is a no-op.
    """
    from slipway.channels import preview
    from slipway.channels.folders import builds_below
    from slipway.errors import UsageError
    from slipway.host.credentials import seal
    from slipway.pipeline import require_published

    seal()
    require_words(recipe.builder, format)
    # report missing parts first, before anything is made
    shop, session, ring = at.publishing(wanted.channel, dry_run=True)
    if not wanted.dry_run:
        session.require_writable(keys=ring is None)
    if wanted.folder:
        if names or wanted.all or format:
            raise UsageError("name appliances, with --format, or give --folder, not both")
        folders = builds_below(Path(wanted.folder), wanted.only)
    elif wanted.only:
        raise UsageError(
            "--only goes with --folder", hint=f"without it: invoke publish {wanted.only}"
        )
    else:
        # Appliances are read by a process without keys.
        words = [
            *names,
            *["--all"] * wanted.all,
            *recipe.words(),
            *at.words(),
            f"--root={at.root}",
            *(f"--format={each}" for each in format),
        ]
        done = built_apart(shop, "releases", words, json=answer.json)
        if done.ended:
            raise done.ended
        folders = done.folders
    shop, session, ring = at.publishing(wanted.channel, dry_run=wanted.dry_run)
    if wanted.dry_run:
        refused: dict[str, UserError] = {}
        begun = (
            []
            if ring
            else [f"make keys of the channel {wanted.channel} in {session.keys / wanted.channel}"]
        )
        deeds = [*begun, *preview.publication(session, wanted.channel, folders, refused)]
        answer.tell(
            Published(
                store=session.store.url,
                channel=wanted.channel,
                would=deeds,
                refused=failed_records(refused),
            )
        )
        would(deeds)
        require_published(refused)
        return
    publish_into(shop, session, folders, wanted.channel, answer)


@dataclass(frozen=True, slots=True)
class _Night:
    """The use of a night's builds."""

    channel: str = option("nightly", "into this channel")
    no_publish: bool = option(False, "build only: this needs no keys")
    built: str = shared("built", "")


@task(help=described("names"))
def nightly(names: list[str], *, at: Place, recipe: Recipe, answer: Answer, wanted: _Night) -> None:
    """Do a night's work: lock, build, check, publish, refresh, prune.

    Locks are renewed; changed appliances are built, booted and published with one commit.
    """
    from slipway.errors import UsageError
    from slipway.host.credentials import leave_behind, seal
    from slipway.outputs import announce
    from slipway.pipeline import require_published
    from slipway.workflows.nightly import build_all, deliver

    require_words(recipe.builder, ())
    require_folder("--built", wanted.built)
    names = folders_of(names)
    if wanted.no_publish:
        leave_behind()
        night = build_all(at.workshop(), names=names, builder=recipe.builder, arch=recipe.arch)
        for name, folder in night.releases.items():
            announce(wanted.built, name, folder)
        folders = {name: str(folder) for name, folder in night.releases.items()}
        answer.tell(
            Night(releases=folders, report=night.lines, failed=failed_records(night.failed))
        )
        print("\n".join(night.lines), flush=True)
        night.require_success()
        return
    seal()
    shop, session, ring = at.publishing(wanted.channel, dry_run=True)  # before hours of work
    session.require_writable(keys=ring is None)
    words = [*names, "--no-publish", *recipe.words(), *at.words(), f"--root={at.root}"]
    done = built_apart(shop, "nightly", words, json=answer.json)
    if done.ended and (
        done.ended.code == UsageError.exit_code or (ring is None and not done.folders)
    ):
        raise done.ended  # nothing was begun, and no keys are made for nothing
    shop, session, ring = at.publishing(wanted.channel)
    lines, problems = deliver(shop, session, done.folders, wanted.channel)
    answer.tell(
        Night(
            store=session.store.url,
            channel=wanted.channel,
            releases={folder.parent.name: str(folder) for folder in done.folders},
            report=[*done.told.get("report", ()), *lines],
            failed=[
                *(Failed(**each) for each in done.told.get("failed", ())),
                *failed_records(problems),
            ],
        )
    )
    print("\n".join(lines), flush=True)
    if done.ended:
        raise done.ended
    require_published(problems)


@task(help=described("dry_run"))
def catalog(*, at: Place, answer: Answer, dry_run: bool = False) -> None:
    """Write a store's pages for people, and indexes for Incus, LXD and vSphere.

    Every later change of a channel then keeps them up to date.
    """
    from slipway.workflows.indexing import write_catalog

    shop, session = at.open(dry_run=dry_run)
    left_out: list[str] = []
    done = write_catalog(shop, session, left_out=left_out, dry_run=dry_run)
    deeds = [f"write {key}" for key in done.changed] or ["change nothing"]
    answer.tell(
        Cataloged(
            store=session.store.url,
            would=deeds * dry_run,
            written=[] if dry_run else done.changed,
            shown=done.shown,
            left_out=left_out,
            hidden=done.hidden,
            warnings=done.warnings,
        )
    )
    for line in (*left_out, *(f"left out: {each}" for each in done.hidden)):
        print(one_line(line))
    if dry_run:
        would(deeds)
    else:
        print("\n".join(done.changed) or "nothing changed")
    for line in done.warnings:
        warn(one_line(line))
    if not done.shown:
        warn("no current release was made as incus or ova: only the pages show anything")


TASKS: Final = (
    publish,
    nightly,
    catalog,
)
