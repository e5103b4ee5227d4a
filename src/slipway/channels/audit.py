"""Audit a store: compare everything people rely on with the signed metadata.

This is more than the metadata of channels. People with only `minisign` and `sha256sum` rely on each
release's SHA256SUMS and its signatures. Everybody relies on the manifests.

Input: a session and the names of channels, or verified channels. Output: problems, one line each,
and warnings of things due soon.

Invariants: Nothing is changed. One problem does not hide the others. An object is read at most one
byte beyond its signed length, a list or signature at most 1 MiB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from slipway.channels.expiry import Expired, expired_parts, renewal, root_warning, way_out
from slipway.channels.layout import (
    RELEASES,
    TARGETS,
    metadata_key,
    signature_key,
    signer_of,
    sums_key,
    target_key,
)
from slipway.channels.lists import RECORDS, hash_of
from slipway.channels.minisign import verify
from slipway.channels.report import NoChannel, Untrusted
from slipway.channels.session import Session
from slipway.channels.state import Channel, Listed, load
from slipway.errors import HostError, UserError, VerificationError
from slipway.records.manifest import Manifest, read_manifest
from slipway.records.reference import ReleaseRef
from slipway.records.release import MANIFEST, SUMS
from slipway.records.sums import parse_sums
from slipway.stores import NotFound, Store, read_only

if TYPE_CHECKING:
    from securesystemslib.signer import Key
    from tuf.api.metadata import Metadata, Root

__all__ = ["Audited", "audit", "examine", "examine_rest"]

_LIST_BYTES: Final = 1 << 20  # SHA256SUMS and its signatures: a few lines
_CHANGED: Final = (
    "somebody or something else than slipway changed the store: publish those builds again, "
    "or withdraw them"
)
Started = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Audited:
    """The result of an audit: the numbers of objects and bytes read, and the findings.

    Attributes:
        problems: Differences from the signed metadata.
        expired: Sentences about expired metadata, each with the publisher's command for it.
        warnings: Expiries due soon.
        lines: The findings in order, for people.
    """

    objects: int = 0
    size: int = 0
    problems: tuple[str, ...] = ()
    expired: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()

    @property
    def all_problems(self) -> list[str]:
        """Everything wrong, without repeats."""
        return list(dict.fromkeys((*self.expired, *self.problems)))

    def require_sound(self) -> None:
        """Refuse a store with problems.

        Raises:
            VerificationError: There are problems, one per line. Expiry is never reported as a
                change.
        """
        found = self.all_problems
        if not found:
            return
        hints = [_CHANGED] if self.problems else []
        hints += [way_out(self.expired.values())] if self.expired else []
        count = f"{len(found)} problem{'s' if len(found) > 1 else ''}"
        raise VerificationError(
            "\n  ".join((f"{count} in the store:", *found)), hint="; ".join(hints)
        )


def audit(session: Session, channels: Sequence[str], started: Started) -> Audited:
    """Verify whole channels; a problem in one does not stop the others.

    Raises:
        StoreError: A named channel does not exist, and was never seen here.
        HostError: A named channel has no trusted root here, or none of the channels has one.
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
    for name in dict.fromkeys(channels or session.known()):
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
    session: Session, name: str, started: Started, *, asked: bool
) -> tuple[Channel | None, Audited]:
    """Return one channel, or None if it cannot be read, with the findings.

    Raises:
        Untrusted: The channel was asked for, and has no trusted root here.
        NoChannel: The channel was asked for, and is missing; a web server has no listing.
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
        if asked and isinstance(error, NoChannel):
            raise
        return None, Audited(problems=(f"{name}: {error.message}",))


def _examined(session: Session, channel: Channel, started: Started) -> Audited:
    """Examine one channel, also as its users see it, and add the lines of the report."""
    found = examine(session.store, channel, session.clock(), started=started)
    lines = [f"warning: {warning}" for warning in found.warnings]
    if not found.all_problems:
        # python-tuf's own client, with its memory
        session.client(channel.name)
        said = f"{found.objects} objects, {found.size} bytes, signatures and hashes right"
        lines.insert(0, f"{channel.name}: {said}")
    return replace(found, lines=tuple(lines))


def _require_one_trusted(session: Session) -> None:
    """Refuse to call a store sound if none of its channels could be read.

    Raises:
        HostError: The store has channels.
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


def examine(
    store: Store, channel: Channel, now: float, *, started: Started = lambda key: None
) -> Audited:
    """Audit one channel and everything it lists.

    Args:
        now: The time, in seconds since 1970.
        started: Called with each key before its object is read.
    """
    problems = [f"{channel.name}: {problem}" for problem in _first_root(store, channel)]
    objects = size = 0
    for appliance in channel.appliances:
        try:
            releases = channel.shelf(appliance).releases
        except UserError as error:
            problems.append(f"{channel.name}: {error.message}")
            continue
        for release, listed in releases.items():
            ref = ReleaseRef(appliance, release)
            problems += [
                f"{channel.name}: {problem}"
                for problem in _release(store, channel, ref, listed, started)
            ]
            objects += len(listed.files)
            size += sum(length for length, _ in listed.files.values())
    name = channel.name
    expired = {
        f"{name}: its {role} metadata {rest}": renewal(name, role)
        for role, rest in expired_parts(channel, now)
    }
    ending = root_warning(channel, now)
    return Audited(
        objects=objects,
        size=size,
        problems=tuple(problems),
        expired=expired,
        warnings=(ending,) if ending else (),
    )


def examine_rest(store: Store, channels: Iterable[Channel]) -> tuple[list[str], int]:
    """Look for objects no channel vouches for.

    Returns:
        The problems: SHA256SUMS and signatures not signed by the channels' keys. People who
        download by hand might believe them. And the number of objects in no channel.
    """
    known = {channel.name: (channel, targets_keys(channel)) for channel in channels}
    listed = {sums_key(ref) for channel, _ in known.values() for ref, _ in _releases(channel)}
    signed: set[str] = set()
    problems: list[str] = []
    unlisted: list[str] = []
    for status in store.list(RELEASES):
        folder, _, file = status.key.rpartition("/")
        name = signer_of(status.key)
        if file == SUMS:
            unlisted += [] if status.key in listed else [status.key]
        elif name is not None:
            keys = [
                key
                for channel, keys in known.values()
                if name in ("", channel.name)
                for key in keys
            ]
            if _comment(store, f"{folder}/{SUMS}", status.key, keys) is None:
                problems.append(
                    f"{status.key} is not a signature by a key of "
                    f"{f'the channel {name}' if name else 'any channel'}"
                )
            else:
                signed.add(folder)
    if all(keys for _, keys in known.values()):
        unsigned = [key for key in unlisted if key.rpartition("/")[0] not in signed]
        problems += [
            f"{key} belongs to no channel, and no channel's key has signed it" for key in unsigned
        ]
    referred = {
        target_key(ref, file, sha256)
        for channel, _ in known.values()
        for ref, entry in _releases(channel)
        for file, (_, sha256) in entry.files.items()
    }
    return problems, sum(status.key not in referred for status in store.list(TARGETS))


def targets_keys(channel: Channel) -> list[Key]:
    """Return the ed25519 targets keys of all trusted roots of a channel.

    They sign its lists for minisign, or once did.
    """
    keys = {
        keyid: root.signed.keys[keyid]
        for root in (*channel.roots, channel.root)
        for keyid in root.signed.roles["targets"].keyids
        if root.signed.keys[keyid].keytype == "ed25519"
    }
    return list(keys.values())


def _first_root(store: Store, channel: Channel) -> Iterator[str]:
    """Yield a problem of the stored copy of the trusted root: newcomers may begin with it.

    Only later roots were read from the store and verified.
    """
    trusted = channel.roots[0]
    try:
        found: Metadata[Root] = load(store, channel.name, "root", trusted.signed.version)
    except NotFound:
        return
    except UserError as error:
        yield error.message
        return
    if found.signed_bytes != trusted.signed_bytes:
        key = metadata_key(channel.name, "root", trusted.signed.version)
        yield f"{key} is another root than the trusted one"


def _releases(channel: Channel) -> Iterator[tuple[ReleaseRef, Listed]]:
    for appliance in channel.appliances:
        try:
            shelf = channel.shelf(appliance)
        except UserError:
            continue  # reported as a problem of its channel
        for release, listed in shelf.releases.items():
            yield ReleaseRef(appliance, release), listed


def _release(
    store: Store, channel: Channel, ref: ReleaseRef, listed: Listed, started: Started
) -> Iterator[str]:
    """Yield the problems of one release."""
    for file, (length, sha256) in listed.files.items():
        key = target_key(ref, file, sha256)
        started(key)
        found = hash_of(store, key, length)
        if found is None:
            yield f"{key} is missing"
        elif found != sha256:
            yield f"{key} is not what was published"
        elif file == MANIFEST:
            yield from _manifest(store.read_range(key, 0, length), key, ref, listed)
    for record in RECORDS:
        if record not in listed.files:
            yield f"{ref} lists no {record}"
    yield from _sums(store, channel, ref, listed)


def _manifest(text: bytes, key: str, ref: ReleaseRef, listed: Listed) -> Iterator[str]:
    """Yield the problems of a manifest, compared with its channel's list."""
    try:
        manifest: Manifest = read_manifest(text, source=key, of=ref)
    except VerificationError as error:
        yield error.message
        return
    if not manifest.boot_passed:
        yield f"{key} has no passing boot report"
    said = {artifact.file: (artifact.size, artifact.sha256) for artifact in manifest.artifacts}
    said |= {
        record.file: (record.size, record.sha256) for record in (manifest.sbom, manifest.provenance)
    }
    there = {file: entry for file, entry in listed.files.items() if file != MANIFEST}
    differing = _differences(said, there)
    if differing:
        yield f"{key} is about other files than its channel lists: {differing}"


def _sums(store: Store, channel: Channel, ref: ReleaseRef, listed: Listed) -> Iterator[str]:
    """Yield the problems of a release's SHA256SUMS, and of its signatures by this channel's key."""
    key = sums_key(ref)
    try:
        text = store.read_range(key, 0, _LIST_BYTES)
    except NotFound:
        yield f"{key} is missing"
        return
    try:
        differing = _differences(
            parse_sums(text, source=key),
            {file: sha256 for file, (_, sha256) in listed.files.items()},
        )
        if differing:
            yield f"{key} is not what its channel lists: {differing}"
    except VerificationError as error:
        yield error.message
    keys = targets_keys(channel)
    if not keys:
        return
    own, first = signature_key(channel.name, ref), f"{key}.minisig"
    comments = {name: _comment(store, key, name, keys) for name in (own, first)}
    if comments[own] is None:
        yield f"{key} has no signature by the key of the channel {channel.name}"
    expected = {"appliance": ref.appliance, "release": ref.release, "channel": channel.name}
    for name, comment in comments.items():
        said = {} if comment is None else _fields(comment)
        wrong = sorted(
            field for field, value in expected.items() if said.get(field, value) != value
        )
        unsaid = sorted(expected.keys() - said.keys())
        if wrong:
            yield f"a signature of {key} is for another {' and '.join(wrong)}: {comment}"
        elif comment is not None and unsaid and name == own:
            yield (
                f"{own} does not say of which {' and '.join(unsaid)} it is: publish or promote "
                "that release again"
            )


def _fields(comment: str) -> dict[str, str]:
    """Return the fields of a trusted comment, written as name:value or name=value."""
    pairs = (part.replace("=", ":", 1).partition(":") for part in comment.split())
    return {name: value for name, _, value in pairs}


def _comment(store: Store, key: str, signature: str, keys: Iterable[Key]) -> str | None:
    """Return a signature's trusted comment, or None unless one of the keys signed this object."""
    try:
        data, text = (
            store.read_range(key, 0, _LIST_BYTES),
            store.read_range(signature, 0, _LIST_BYTES),
        )
    except NotFound:
        return None
    found = (verify(data, text, each) for each in keys)
    return next((comment for comment in found if comment is not None), None)


def _differences(one: Mapping[str, object], other: Mapping[str, object]) -> str:
    return ", ".join(
        sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
    )
