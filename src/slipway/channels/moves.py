"""What people do with releases: publish into a channel, promote, roll back, withdraw.

Each is one commit in one channel (withdrawing: one in each channel that has the release, the most trusted first). No
image is copied: a channel points at objects that are there. Invariants: doing the same again changes nothing; what was
withdrawn does not come back.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from slipway.channels.collect import GRACE_S, rescue
from slipway.channels.commit import LIMIT_S, Committed, Deadline, commit, require_valid
from slipway.channels.keys import EXPIRY_DAYS, Clock, KeyRing
from slipway.channels.memory import memory_of
from slipway.channels.minisign import sign
from slipway.channels.publish import Published, publish, sums_key, target_key
from slipway.channels.state import Channel, Listed, Shelf, Tombstone
from slipway.channels.watch import read_watched
from slipway.errors import StoreError, UsageError, VerificationError, suggestion
from slipway.records.manifest import Manifest, PackageChanges, package_changes, read_manifest
from slipway.records.release import MANIFEST, SBOM, SUMS, read_release
from slipway.records.sums import parse_sums
from slipway.stores import Store

__all__ = ["Moved", "find_release", "manifest_of", "package_difference", "promote", "publish_all", "rollback", "withdraw"]

_SIGNATURE: Final = f"{SUMS}.minisig"


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What a change did to a channel: the release that is current now, and the one that was."""

    appliance: str
    channel: str
    release: str | None
    before: str | None
    written: bool
    retries: int = 0
    blobs: Sequence[Published] = field(default=())


def publish_all(
    store: Store,
    ring: KeyRing,
    folders: Iterable[Path],
    *,
    clock: Clock = time.time,
    started: Callable[[str], None] = lambda key: None,
) -> list[Moved]:
    """Bring built releases into a store and, with one commit, into a channel.

    Raises:
        BuildError: A build is not whole, or was not booted with success; nothing is published then.
        StoreError: The store refused, or a release was withdrawn.
    """
    deadline = Deadline()
    builds = [read_release(folder) for folder in folders]
    # The first read: what is listed now stays for D at least.
    channel = read_watched(store, ring.channel, ring.roots[0], memory_of(store, ring, ring.channel), clock=clock)
    require_valid(ring, channel)
    for build in builds:
        channel.shelf(build.manifest.appliance)  # its name is one that can be published
        _require_not_withdrawn(channel, build.manifest.appliance, build.manifest.release)
    blobs = {}
    listed: dict[tuple[str, str], Listed] = {}
    for build in builds:
        appliance, release = build.manifest.appliance, build.manifest.release
        if release not in channel.shelf(appliance).releases:
            rescue(store, appliance, release)
        blobs[appliance, release] = publish(store, build.folder, started=started)
        _sign_sums(store, ring, appliance, release, _SIGNATURE, clock)
        listed[appliance, release] = _look_up(store, appliance, release, int(clock()))
    before: dict[str, str | None] = {}

    def add(channel: Channel) -> None:
        for (appliance, release), entry in listed.items():
            shelf = channel.shelf(appliance)
            before[appliance] = shelf.current
            _require_not_withdrawn(channel, appliance, release)
            if release not in shelf.releases:
                shelf.add(release, entry)

    done = commit(store, ring, add, clock=clock, deadline=deadline)
    return [
        Moved(
            appliance=appliance,
            channel=ring.channel,
            release=done.channel.shelf(appliance).current,
            before=before[appliance],
            written=appliance in done.channel.changed(),
            retries=done.retries,
            blobs=(blobs[appliance, release],),
        )
        for appliance, release in listed
    ]


def promote(
    store: Store,
    ring: KeyRing,
    source: Callable[[], Channel],
    appliance: str,
    build: str | None = None,
    *,
    clock: Clock = time.time,
) -> Moved:
    """List a release of another channel in this one, and make it current; nothing is copied.

    Args:
        source: Reads the source channel, verified, as it is now: asked again after a lost race.
        build: A build id or a release; by default the source's current one.

    Raises:
        StoreError: The source does not have it, or an object is missing.
        VerificationError: The source has expired, or the manifest has no passing boot report.
    """
    deadline = Deadline()
    before: str | None = None
    release = ""

    def move(channel: Channel) -> None:
        nonlocal before, release
        theirs = source()
        theirs.require_fresh(clock())
        shelf = theirs.shelf(appliance)
        theirs.require_fresh(clock())
        release = find_release(shelf, appliance, theirs.name, build)
        _require_not_withdrawn(channel, appliance, release)
        entry = shelf.releases[release]
        _require_blobs(store, appliance, release, entry)
        mine = channel.shelf(appliance)
        before = mine.current
        if release not in mine.releases:
            mine.add(release, Listed(created=entry.created, added=int(clock()), files=entry.files))
        mine.current = release

    done = commit(store, ring, move, clock=clock, deadline=deadline)
    _sign_sums(store, ring, appliance, release, f"{SUMS}.{ring.channel}.minisig", clock)
    return _moved(done, appliance, before)


def rollback(store: Store, ring: KeyRing, appliance: str, to: str | None = None, *, clock: Clock = time.time) -> Moved:
    """Make an older listed release the current one: by default the one that came before.

    Raises:
        StoreError: The channel does not have it, or nothing older.
    """
    before: str | None = None

    def move(channel: Channel) -> None:
        nonlocal before
        shelf = channel.shelf(appliance)
        before = shelf.current
        target = find_release(shelf, appliance, channel.name, to) if to else shelf.before(before)
        if target is None:
            raise StoreError(f"{channel.name} has no release of {appliance} before {before}", hint="see: invoke channels")
        _require_blobs(store, appliance, target, shelf.releases[target])
        shelf.current = target

    return _moved(commit(store, ring, move, clock=clock), appliance, before)


def withdraw(
    store: Store, ring: KeyRing, appliance: str, build: str, reason: str, *, replacement: str | None = None, clock: Clock = time.time
) -> Moved:
    """Take a release out of a channel for good, and leave why.

    Args:
        replacement: What to use instead; by default the release that becomes current.
    """
    before: str | None = None

    def move(channel: Channel) -> None:
        nonlocal before
        shelf = channel.shelf(appliance)
        before = shelf.current
        if any(_matches(name, build) for name in shelf.withdrawn):
            return
        release = find_release(shelf, appliance, channel.name, build)
        if shelf.current == release:
            shelf.current = shelf.before(release) or next((name for name in reversed(shelf.releases) if name != release), None)
        del shelf.releases[release]
        shelf.withdrawn[release] = Tombstone(reason=reason, replacement=replacement or shelf.current, time=int(clock()))

    return _moved(commit(store, ring, move, clock=clock), appliance, before)


def find_release(shelf: Shelf, appliance: str, channel: str, build: str | None) -> str:
    """The release that a build id or a release's name means; the current one for None.

    Raises:
        StoreError: There is none.
    """
    if build is None:
        if shelf.current is None:
            raise StoreError(f"{channel} has no release of {appliance}", hint="see: invoke channels")
        return shelf.current
    found = [name for name in shelf.releases if _matches(name, build)]
    if not found:
        dead = next((stone for name, stone in shelf.withdrawn.items() if _matches(name, build)), None)
        hint = f"it was withdrawn: {dead.reason}" if dead else suggestion(build, shelf.releases) or "see: invoke channels"
        raise StoreError(f"{channel} has no release {build} of {appliance}", hint=hint)
    if len(found) > 1:
        raise UsageError(f"{build} is the build of several releases of {appliance}", hint=f"name one: {', '.join(found)}")
    return found[0]


def manifest_of(store: Store, appliance: str, release: str, entry: Listed) -> Manifest:
    """A release's manifest, verified by what a channel says of it.

    Raises:
        VerificationError: It is another one, or is about another release.
    """
    text = _verified(store, appliance, release, MANIFEST, entry)
    return read_manifest(text, source=f"the manifest of {appliance} {release}", of=(appliance, release))


def package_difference(store: Store, appliance: str, old: tuple[str, Listed] | None, new: tuple[str, Listed]) -> PackageChanges:
    """What differs between the packages of two releases, by their SBOMs."""
    return package_changes(_packages(store, appliance, *old) if old else {}, _packages(store, appliance, *new))


def _packages(store: Store, appliance: str, release: str, entry: Listed) -> dict[str, str]:
    bill = json.loads(_verified(store, appliance, release, SBOM, entry))
    return {item["name"]: item.get("version", "") for item in bill.get("components", ())}


def _verified(store: Store, appliance: str, release: str, file: str, entry: Listed) -> bytes:
    try:
        size, sha256 = entry.files[file]
    except KeyError:
        raise VerificationError(f"{appliance} {release} has no {file}") from None
    key = target_key(appliance, release, file, sha256)
    data = store.read_range(key, 0, size + 1)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise VerificationError(f"{key} is not what was published", hint="the store was changed by something else")
    return data


def _matches(release: str, build: str) -> bool:
    return release == build or release.endswith(f"-{build}")


def _moved(done: Committed, appliance: str, before: str | None) -> Moved:
    current = done.channel.shelf(appliance).current
    return Moved(appliance=appliance, channel=done.channel.name, release=current, before=before, written=done.written, retries=done.retries)


def _require_not_withdrawn(channel: Channel, appliance: str, release: str) -> None:
    stone = channel.shelf(appliance).withdrawn.get(release)
    if stone:
        instead = f"use {stone.replacement}" if stone.replacement else "build a new version"
        raise StoreError(f"{appliance} {release} was withdrawn from {channel.name}: {stone.reason}", hint=instead)


def _require_blobs(store: Store, appliance: str, release: str, entry: Listed) -> None:
    """Every object is there with the right size, and the manifest says that these bytes passed their checks."""
    for file, (size, sha256) in entry.files.items():
        key = target_key(appliance, release, file, sha256)
        found = store.stat(key)
        if found is None or found.size != size:
            problem = "is missing" if found is None else f"has {found.size} bytes, not {size}"
            raise StoreError(f"{key} {problem}", hint="publish the build again, from where it was made")
    manifest = manifest_of(store, appliance, release, entry)
    made = {artifact.file: artifact.sha256 for artifact in manifest.artifacts}
    if not manifest.boot_passed or any(entry.files.get(file, (0, ""))[1] != sha256 for file, sha256 in made.items()):
        raise VerificationError(f"{appliance} {release} has no passing boot report for these images")


def _look_up(store: Store, appliance: str, release: str, added: int) -> Listed:
    """A published release as a channel lists it, by what is in the store: an earlier build of the same may be."""
    key = sums_key(appliance, release)
    sums: Mapping[str, str] = parse_sums(store.read(key).data, source=key)
    files = {}
    for file, sha256 in sums.items():
        found = store.stat(target_key(appliance, release, file, sha256))
        if found is None:
            raise StoreError(f"{target_key(appliance, release, file, sha256)} is missing", hint="run: invoke gc, then publish again")
        files[file] = (found.size, sha256)
    entry = Listed(created=0, added=added, files=files)
    return Listed(created=manifest_of(store, appliance, release, entry).created, added=added, files=files)


def _sign_sums(store: Store, ring: KeyRing, appliance: str, release: str, name: str, clock: Clock) -> None:
    """Sign a release's list of hashes with the channel's key, for minisign; it is signed once."""
    key = f"{sums_key(appliance, release).rpartition('/')[0]}/{name}"
    if store.stat(key) is not None:
        return
    sums = store.read(sums_key(appliance, release)).data
    signature = sign(sums, ring.of("targets")[0], file=SUMS, expires=clock() + EXPIRY_DAYS["root"] * 86400)
    if signature is not None:
        store.create(key, signature)


assert LIMIT_S < GRACE_S
