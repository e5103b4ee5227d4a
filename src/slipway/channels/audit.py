"""Read everything that people rely on in a store, and compare it with what is signed.

People rely on more than a channel's metadata: who has only `minisign` and `sha256sum` relies on
each release's SHA256SUMS and its signatures, and everybody on what a manifest says. What goes in
are channels that were read and verified; what comes out are problems, a line each, and things to
see to soon.

Invariants: nothing is changed; one problem does not keep the others from being found; no object is
read further than the signed metadata says it is long.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from slipway.channels.expiry import expired_parts, renewal, root_warning, way_out
from slipway.channels.layout import (
    RELEASES,
    TARGETS,
    signature_key,
    signer_of,
    sums_key,
    target_key,
)
from slipway.channels.minisign import verify
from slipway.channels.state import Channel, Listed
from slipway.errors import UserError, VerificationError
from slipway.records.manifest import Manifest, read_manifest
from slipway.records.reference import ReleaseRef
from slipway.records.release import MANIFEST, PROVENANCE, SBOM, SUMS
from slipway.records.sums import parse_sums
from slipway.stores import NotFound, Store

if TYPE_CHECKING:
    from securesystemslib.signer import Key

__all__ = ["Audited", "examine", "examine_rest"]

_RECORDS: Final = (MANIFEST, SBOM, PROVENANCE)
_RANGE: Final = 8 << 20
_LIST_BYTES: Final = 1 << 20  # SHA256SUMS and its signatures: a few lines
_CHANGED: Final = (
    "somebody or something else than slipway changed the store: publish those builds again, "
    "or withdraw them"
)
Started = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Audited:
    """What was read, in objects and bytes, and what was found.

    Attributes:
        problems: What is not as its keys signed it.
        expired: What has ended, by its sentence: the publisher's command for it.
        warnings: What comes next.
        lines: What was found in order, for people.
    """

    objects: int = 0
    size: int = 0
    problems: tuple[str, ...] = ()
    expired: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()

    @property
    def all_problems(self) -> list[str]:
        """Everything that is wrong, each thing once."""
        return list(dict.fromkeys((*self.expired, *self.problems)))

    def require_sound(self) -> None:
        """Refuse what has problems.

        Raises:
            VerificationError: It has; each is a line. Age is never taken for a change.
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


def examine(
    store: Store, channel: Channel, now: float, *, started: Started = lambda key: None
) -> Audited:
    """Audit one channel and everything that it lists.

    Args:
        now: The time, in seconds since 1970.
        started: Called with each key before its object is read.
    """
    problems: list[str] = []
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
    """Look for what no channel vouches for.

    Returns:
        Problems: lists of hashes and signatures that none of the channels' keys have signed, which
        people who download by hand might believe. And the number of objects that belong to no
        channel.
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
                    f"{status.key} is no signature by a key of "
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
    """The keys that sign, or once signed, a channel's lists for minisign: those of every root that
    is trusted.
    """
    keys = {
        keyid: root.signed.keys[keyid]
        for root in (*channel.roots, channel.root)
        for keyid in root.signed.roles["targets"].keyids
        if root.signed.keys[keyid].keytype == "ed25519"
    }
    return list(keys.values())


def _releases(channel: Channel) -> Iterator[tuple[ReleaseRef, Listed]]:
    for appliance in channel.appliances:
        try:
            shelf = channel.shelf(appliance)
        except UserError:
            continue  # it is a problem of its channel
        for release, listed in shelf.releases.items():
            yield ReleaseRef(appliance, release), listed


def _release(
    store: Store, channel: Channel, ref: ReleaseRef, listed: Listed, started: Started
) -> Iterator[str]:
    """The problems of one release."""
    for file, (length, sha256) in listed.files.items():
        key = target_key(ref, file, sha256)
        started(key)
        found = _hash(store, key, length)
        if found is None:
            yield f"{key} is missing"
        elif found != sha256:
            yield f"{key} is not what was published"
        elif file == MANIFEST:
            yield from _manifest(store.read_range(key, 0, length), key, ref, listed)
    for record in _RECORDS:
        if record not in listed.files:
            yield f"{ref} lists no {record}"
    yield from _sums(store, channel, ref, listed)


def _manifest(text: bytes, key: str, ref: ReleaseRef, listed: Listed) -> Iterator[str]:
    """What a manifest says that its channel does not."""
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
    """The problems of a release's SHA256SUMS, and of its signatures by this channel's key."""
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
    """The fields of a trusted comment, written as name:value or name=value."""
    pairs = (part.replace("=", ":", 1).partition(":") for part in comment.split())
    return {name: value for name, _, value in pairs}


def _comment(store: Store, key: str, signature: str, keys: Iterable[Key]) -> str | None:
    """The trusted comment of a signature, if any of the keys made it over this object."""
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


def _hash(store: Store, key: str, length: int) -> str | None:
    """The SHA-256 of an object, read to one byte more than it should have; None if it is not
    there.
    """
    digest = hashlib.sha256()
    try:
        for start in range(0, length + 1, _RANGE):
            digest.update(store.read_range(key, start, min(_RANGE, length + 1 - start)))
    except NotFound:
        return None
    return digest.hexdigest()
