"""Describe a change before it is made: the text of a question, and of ``--dry-run``.

Nothing is changed here. Input: a session, and the request. Output: lines with the state before and
after.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from slipway.channels.publish import require_boot
from slipway.channels.session import Session
from slipway.channels.shelf import Shelf, find_release
from slipway.channels.tombstones import require_not_withdrawn
from slipway.errors import StoreError, UserError
from slipway.records.reference import ReleaseRef
from slipway.records.release import read_release, verify_release

__all__ = ["older", "promotion", "publication", "refreshed", "rollback", "withdrawal"]


def older(shelf: Shelf, release: str, created: int) -> str:
    """Return a warning if a release is older than the current one of a shelf, else no text."""
    current = shelf.releases.get(shelf.current or "")
    return (
        f"; {release} is older than {shelf.current}"
        if current and created < current.created
        else ""
    )


def promotion(session: Session, ref: ReleaseRef, source: str, target: str) -> str:
    """Describe a promotion."""
    appliance, release = ref.appliance, ref.release
    mine = session.read(target).shelf(appliance) if target in session.channels() else Shelf()
    entry = session.read(source).shelf(appliance).releases[release]
    if mine.current == release:
        return f"promote {ref} from {source} to {target}, where it is current already"
    now = f"in place of {mine.current}" if mine.current else f"the first {appliance} there"
    return f"promote {ref} from {source} to {target}, {now}{older(mine, release, entry.created)}"


def rollback(session: Session, appliance: str, channel: str, to: str | None) -> tuple[str, str]:
    """Return the target of a rollback, and its description.

    Raises:
        StoreError: There is no such release, or none was current before.
    """
    there = session.read(channel)
    shelf, known = there.shelf(appliance), there.appliances
    named = to or not shelf.current
    target = find_release(shelf, appliance, channel, to, known=known) if named else shelf.previous()
    if target is None:
        raise StoreError(
            f"{channel} has no release of {appliance} to go back to: {shelf.current} is the first",
            hint="see: invoke channels",
        )
    if target == shelf.current:
        return target, f"leave {appliance} in {channel} as it is: {target} is current already"
    current = shelf.releases.get(shelf.current or "")
    newer = (
        f"; {target} is newer"
        if current and shelf.releases[target].created > current.created
        else ""
    )
    return target, f"roll {appliance} in {channel} back from {shelf.current} to {target}{newer}"


def withdrawal(
    session: Session, appliance: str, build: str, channels: Sequence[str], *, derived: bool
) -> str:
    """Describe a withdrawal."""
    releases, holding = session.withdrawer(channels).preview(appliance, build, derived=derived)
    places = ", ".join(holding) or "no channel: it is in none any more"
    return f"withdraw {appliance} {', '.join(releases)} for good, from {places}"


def publication(
    session: Session, name: str, folders: Iterable[Path], refused: dict[str, UserError]
) -> list[str]:
    """Describe a publication into a channel, one line for each appliance.

    Args:
        name: The channel; it need not exist yet.
        refused: Collects the error of each release that cannot be published.
    """
    there = session.read(name) if name in session.channels() else None
    known = (*([there] if there else []), *session.others(name))
    new: dict[str, list[tuple[int, str]]] = {}
    shelves: dict[str, Shelf] = {}
    for folder in folders:
        label = str(folder)
        try:
            build = read_release(folder)
            ref = build.manifest.ref
            label = str(ref)
            require_boot(build)
            verify_release(build)
            require_not_withdrawn(known, ref)
        except UserError as error:
            refused[label] = error
            continue
        shelves[ref.appliance] = there.shelf(ref.appliance) if there else Shelf()
        new.setdefault(ref.appliance, []).append((build.manifest.created, ref.release))
    return [
        _published(name, appliance, shelves[appliance], found)
        for appliance, found in sorted(new.items())
    ]


def _published(channel: str, appliance: str, shelf: Shelf, found: Sequence[tuple[int, str]]) -> str:
    fresh = [release for _, release in sorted(found) if release not in shelf.releases]
    if not fresh:
        return f"{appliance}: {channel} has {shelf.current} already, nothing would change"
    created, newest = max(found)
    return (
        f"publish {appliance} {', '.join(fresh)} into {channel}, with {newest} as the current one "
        f"(before: {shelf.current or 'none'}){older(shelf, newest, created)}"
    )


def refreshed(session: Session, channels: Sequence[str]) -> list[str]:
    """Return the channels that a refresh would sign anew."""
    return [ring.channel for ring in session.rings(channels)]
