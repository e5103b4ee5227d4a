"""Publish into a channel, promote, roll back, withdraw.

Each is one commit in one channel. Withdrawing is one in each channel with the release, the most
trusted first. No image is copied: a channel points at existing objects.

Invariants: To repeat a move is a no-op. A withdrawn release does not come back.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypedDict, Unpack

from slipway.channels.collect import GRACE_S, rescue
from slipway.channels.commit import LIMIT_S, Committed, Deadline, commit, require_valid
from slipway.channels.expiry import require_fresh
from slipway.channels.keys import Clock, KeyRing
from slipway.channels.layout import target_key
from slipway.channels.lists import artifacts_of, require_list, require_same_images, settle
from slipway.channels.publish import Published, publish
from slipway.channels.shelf import Shelf, find_release, matches
from slipway.channels.state import Channel, Listed
from slipway.channels.tombstones import (
    Others,
    bury,
    require_not_withdrawn,
    require_still_alive,
    require_still_current,
)
from slipway.channels.verified import manifest_of, read_record
from slipway.channels.watch import read_own
from slipway.errors import StoreError, UserError, VerificationError
from slipway.records.manifest import PackageChanges, package_changes
from slipway.records.reference import ReleaseRef
from slipway.records.release import SBOM, Release, read_release
from slipway.stores import Store

__all__ = [
    "Moved",
    "package_difference",
    "promote",
    "publish_all",
    "rollback",
    "withdraw",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """The change of a channel: the current release after it and before it.

    Attributes:
        older: True if a published or promoted release became current in place of a newer one.
    """

    appliance: str
    channel: str
    release: str | None
    before: str | None
    written: bool
    retries: int = 0
    blobs: Sequence[Published] = field(default=())
    older: bool = False


class Around(TypedDict, total=False):
    """The surroundings of a move.

    ``clock`` tells the time. ``others`` reads the other channels trusted here, as they are now, for
    their tombstones.
    """

    clock: Clock
    others: Others


class Succession(TypedDict, total=False):
    """The successor of a withdrawn release.

    ``replacement`` is the release to use instead (default: the one that becomes current). ``dead``
    are releases withdrawn from other channels: none of them becomes current.
    """

    replacement: str | None
    dead: Container[str]


def publish_all(
    store: Store,
    ring: KeyRing,
    folders: Iterable[Path],
    *,
    started: Callable[[str], None] = lambda key: None,
    refused: dict[str, UserError] | None = None,
    **around: Unpack[Around],
) -> list[Moved]:
    """Bring built releases into a store and, with one commit, into a channel.

    Args:
        refused: Collects the error of each refused release; the others are published. Without it,
            the first error ends all.

    Raises:
        BuildError: A build is incomplete, or has no passing boot.
        StoreError: The store refused, or a release was withdrawn.
        MissingKeys: The targets key is not here.
    """
    clock, others = around.get("clock", time.time), around.get("others", tuple)
    ring.require("targets")  # before anything is uploaded
    deadline = Deadline()
    gate = _Gate(refused)
    # The first read: whatever is listed now stays for D at least.
    channel = read_own(store, ring, clock)
    require_valid(ring, channel)
    known = (channel, *others())
    blobs: dict[ReleaseRef, Published] = {}
    listed: dict[ReleaseRef, Listed] = {}
    for folder in folders:
        with gate.around(str(folder)):
            build = read_release(folder)
            ref = build.manifest.ref
            gate.names[str(folder)] = str(ref)
            done = _bring(store, channel, known, build, started)
            blobs[ref] = done
            listed[ref] = Listed(
                created=build.manifest.created, added=int(clock()), files=done.files
            )
    if refused and not listed:
        return []
    before: dict[str, str | None] = {}
    new: list[ReleaseRef] = []

    def add(channel: Channel) -> None:
        new.clear()
        before.clear()
        new.extend(_add_all(channel, listed, others(), gate, before))

    committed = commit(store, ring, add, clock=clock, deadline=deadline)
    require_still_alive(store, ring, others, new, clock)
    for ref in listed:
        files = committed.channel.shelf(ref.appliance).releases[ref.release].files
        settle(store, ring, ref, files, clock=clock, replace=True)
    return [
        replace(
            _moved(committed, appliance, before[appliance]),
            written=appliance in committed.channel.changed(),
            blobs=tuple(blobs[ref] for ref in listed if ref.appliance == appliance),
            older=_is_older(committed.channel.shelf(appliance), before[appliance]),
        )
        for appliance in dict.fromkeys(ref.appliance for ref in listed)
    ]


class _Gate:
    """A gate for one release after another: it collects their errors, or lets them through."""

    def __init__(self, refused: dict[str, UserError] | None) -> None:
        self.refused = refused
        self.names: dict[str, str] = {}

    @contextmanager
    def around(self, name: str) -> Iterator[None]:
        """Note an error by the release's name, or let it through."""
        try:
            yield
        except UserError as error:
            if self.refused is None:
                raise
            self.refused[self.names.get(name, name)] = error


def _bring(
    store: Store,
    channel: Channel,
    known: Sequence[Channel],
    build: Release,
    started: Callable[[str], None],
) -> Published:
    """Bring one release into a store.

    Raises:
        StoreError: The release was withdrawn, its name is reserved, or the store refuses.
        BuildError: The build is incomplete, or has no passing boot.
    """
    ref = build.manifest.ref
    # Refuses a reserved name.
    there = channel.shelf(ref.appliance).releases.get(ref.release)
    require_not_withdrawn(known, ref)
    if there is None:
        rescue(store, ref)
    return publish(
        store, build, channel=channel.name, listed=there.files if there else None, started=started
    )


def _add_all(
    channel: Channel,
    listed: dict[ReleaseRef, Listed],
    others: Iterable[Channel],
    gate: _Gate,
    before: dict[str, str | None],
) -> list[ReleaseRef]:
    """List releases in a channel, and return those new to it.

    For each appliance with a new one, the newest of the given releases becomes current.
    """
    known = (channel, *others)
    new: list[ReleaseRef] = []
    newest = sorted(listed, key=lambda each: listed[each].created)
    for ref in newest:
        entry, shelf = listed[ref], channel.shelf(ref.appliance)
        before.setdefault(ref.appliance, shelf.current)
        with gate.around(str(ref)):
            require_not_withdrawn(known, ref)
            if ref.release not in shelf.releases:
                shelf.releases[ref.release] = entry
                new.append(ref)
            require_same_images(ref, entry.files, shelf.releases[ref.release].files)
    refused = gate.refused or {}
    for each in [each for each in listed if str(each) in refused]:
        del listed[each]
    for appliance in {ref.appliance for ref in new}:
        channel.shelf(appliance).make_current(
            [each.release for each in newest if each.appliance == appliance and each in listed][-1]
        )
    return new


def promote(
    store: Store,
    ring: KeyRing,
    source: Callable[[], Channel],
    appliance: str,
    build: str | None = None,
    **around: Unpack[Around],
) -> Moved:
    """List a release of another channel in this one, and make it current; nothing is copied.

    Args:
        source: Reads the source channel, verified, as it is now. It is called again after a lost
            race.
        build: A build id or a release (default: the source's current one).

    Raises:
        StoreError: The source does not have the release, or an object is missing.
        VerificationError: The source has expired, or the manifest has no passing boot report.
    """
    clock, others = around.get("clock", time.time), around.get("others", tuple)
    deadline = Deadline()
    before: str | None = None
    ref = ReleaseRef(appliance, "")
    new = False

    def move(channel: Channel) -> None:
        nonlocal before, ref, new
        theirs = source()
        require_fresh(theirs, clock())
        shelf, known = theirs.shelf(appliance), theirs.appliances
        require_fresh(theirs, clock())
        ref = ReleaseRef(appliance, find_release(shelf, appliance, theirs.name, build, known=known))
        require_not_withdrawn((channel, theirs, *others()), ref)
        entry = shelf.releases[ref.release]
        _require_blobs(store, ref, entry)
        require_list(store, ref, entry.files)
        mine = channel.shelf(appliance)
        before = mine.current
        new = ref.release not in mine.releases
        if new:
            mine.releases[ref.release] = Listed(
                created=entry.created, added=int(clock()), files=entry.files
            )
        _require_same_files(channel, theirs, ref)
        mine.make_current(ref.release)

    done = commit(store, ring, move, clock=clock, deadline=deadline)
    everybody = partial(_and, source, others)
    if new:
        require_still_alive(store, ring, everybody, [ref], clock)
    elif done.written:
        require_still_current(store, ring, everybody, ref, before, clock)
    shelf = done.channel.shelf(appliance)
    settle(store, ring, ref, shelf.releases[ref.release].files, clock=clock)
    return replace(_moved(done, appliance, before), older=_is_older(shelf, before))


def rollback(
    store: Store,
    ring: KeyRing,
    appliance: str,
    to: str | None = None,
    **around: Unpack[Around],
) -> Moved:
    """Make an older listed release the current one: by default the one that was current before.

    Raises:
        StoreError: The channel does not have the release, or none older.
    """
    clock, others = around.get("clock", time.time), around.get("others", tuple)
    before: str | None = None
    ref = ReleaseRef(appliance, "")

    def move(channel: Channel) -> None:
        nonlocal before, ref
        shelf = channel.shelf(appliance)
        before = shelf.current
        target = find_release(shelf, appliance, channel.name, to) if to else shelf.previous()
        if target is None:
            raise StoreError(
                f"{channel.name} has no release of {appliance} before {before}",
                hint="see: invoke channels",
            )
        ref = ReleaseRef(appliance, target)
        require_not_withdrawn(others(), ref)
        _require_blobs(store, ref, shelf.releases[target])
        if to and target not in shelf.past:
            shelf.make_current(target)
        else:
            shelf.go_back(target)

    done = commit(store, ring, move, clock=clock)
    if done.written:
        require_still_current(store, ring, others, ref, before, clock)
    return _moved(done, appliance, before)


def withdraw(
    store: Store,
    ring: KeyRing,
    appliance: str,
    build: str | Mapping[str, str],
    reason: str = "",
    *,
    clock: Clock = time.time,
    **succession: Unpack[Succession],
) -> Moved:
    """Take a release out of a channel for good, and leave a tombstone with the reason.

    Args:
        build: A build id or a release; or several releases, each with its reason.
    """
    replacement, dead = succession.get("replacement"), succession.get("dead", ())
    before: str | None = None

    def move(channel: Channel) -> None:
        nonlocal before
        shelf = channel.shelf(appliance)
        before = shelf.current
        if isinstance(build, str):
            listed = any(matches(name, build) for name in shelf.releases)
            if not listed and any(matches(name, build) for name in shelf.withdrawn):
                return
            reasons: Mapping[str, str] = {
                find_release(shelf, appliance, channel.name, build): reason
            }
        else:
            reasons = {name: why for name, why in build.items() if name in shelf.releases}
        bury(shelf, reasons, replacement, dead, int(clock()))

    return _moved(commit(store, ring, move, clock=clock), appliance, before)


def package_difference(
    store: Store, appliance: str, old: tuple[str, Listed] | None, new: tuple[str, Listed]
) -> PackageChanges:
    """Return the differences between the packages of two releases, by their SBOMs."""
    before, after = (
        _packages(store, ReleaseRef(appliance, each[0]), each[1]) if each else {}
        for each in (old, new)
    )
    return package_changes(before, after)


def _packages(store: Store, ref: ReleaseRef, entry: Listed) -> dict[str, str]:
    text = read_record(store, ref, SBOM, entry.files)
    try:
        return {
            str(item["name"]): str(item.get("version", ""))
            for item in json.loads(text).get("components", ())
        }
    except (ValueError, RecursionError, AttributeError, KeyError, TypeError) as error:
        raise VerificationError(
            f"the {SBOM} of {ref} is not a list of packages: {error}"
        ) from error


def _is_older(shelf: Shelf, before: str | None) -> bool:
    """Return True if the current release was built before the one that was current before."""
    now, then = (shelf.releases.get(release or "") for release in (shelf.current, before))
    return now is not None and then is not None and now.created < then.created


def _moved(done: Committed, appliance: str, before: str | None) -> Moved:
    current = done.channel.shelf(appliance).current
    return Moved(
        appliance=appliance,
        channel=done.channel.name,
        release=current,
        before=before,
        written=done.written,
        retries=done.retries,
    )


def _and(source: Callable[[], Channel], others: Others) -> tuple[Channel, ...]:
    return (source(), *others())


def _require_blobs(store: Store, ref: ReleaseRef, entry: Listed) -> None:
    """Refuse a release with incomplete objects, or without a passing boot report for its images."""
    for file, (size, sha256) in entry.files.items():
        key = target_key(ref, file, sha256)
        found = store.stat(key)
        if found is None or found.size != size:
            problem = "is missing" if found is None else f"has {found.size} bytes, not {size}"
            raise StoreError(
                f"{key} {problem}", hint="publish the build again, from where it was made"
            )
    manifest = manifest_of(store, ref, entry.files)
    made = {artifact.file: (artifact.size, artifact.sha256) for artifact in manifest.artifacts}
    if not manifest.boot_passed or made != artifacts_of(entry.files):
        raise VerificationError(f"{ref} has no passing boot report for these images")
    for record in (manifest.sbom, manifest.provenance):
        if entry.files.get(record.file) != (record.size, record.sha256):
            raise VerificationError(
                f"{ref} is listed with another {record.file} than its manifest names"
            )
        read_record(store, ref, record.file, entry.files)


def _require_same_files(one: Channel, other: Channel, ref: ReleaseRef) -> None:
    """Refuse a release that two channels list with different files: one of the lists is forged."""
    mine, theirs = (
        channel.shelf(ref.appliance).releases[ref.release].files for channel in (one, other)
    )
    differing = sorted(
        name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name)
    )
    if differing:
        raise VerificationError(
            f"{one.name} and {other.name} list different files for {ref}: {', '.join(differing)}",
            hint="run: invoke verify; and withdraw it where it is wrong",
        )


assert LIMIT_S < GRACE_S
