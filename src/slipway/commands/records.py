"""Things of slipway -> their records in the documents of ``--json``.

What goes in: builds, changes of channels, errors and files. What comes out: the dataclasses of
:mod:`slipway.commands.shapes` and :mod:`slipway.commands.channel_shapes`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.commandline.answer import stamp
from slipway.commands.channel_shapes import (
    ChannelState,
    Expiry,
    Failed,
    Held,
    Image,
    Key,
    Keys,
    ListedFile,
    ListedRelease,
    Move,
    PublishedRelease,
    Role,
    SeedFile,
    Tombstone,
)
from slipway.commands.shapes import Artifact, Check, FaultProof, Machine, Release

if TYPE_CHECKING:
    from slipway.boot.report import BootReport
    from slipway.channels.keys import KeyRing
    from slipway.channels.moves import Moved
    from slipway.channels.publish import Published
    from slipway.channels.state import Channel
    from slipway.errors import UserError
    from slipway.records.release import Release as Finished
    from slipway.seeds.seed import Seed
    from slipway.workflows.faults import Proof

__all__ = [
    "channel_record",
    "failed_records",
    "held_record",
    "image_record",
    "keys_record",
    "machine_record",
    "moved_records",
    "proof_record",
    "published_record",
    "release_record",
    "seed_record",
]


def failed_records(problems: Mapping[str, UserError]) -> list[Failed]:
    """Return the records of errors by name."""
    return [
        Failed(name=name, message=error.message, hint=error.hint)
        for name, error in problems.items()
    ]


def moved_records(moves: Iterable[Moved]) -> list[Move]:
    """Return the records of changes of channels."""
    return [
        Move(
            appliance=each.appliance,
            channel=each.channel,
            release=each.release,
            before=each.before,
            changed=each.written,
        )
        for each in moves
    ]


def published_record(done: Published) -> PublishedRelease:
    """Return the record of a published release."""
    return PublishedRelease(
        appliance=done.ref.appliance,
        release=done.ref.release,
        size=sum(size for size, _ in done.files.values()),
        files={file: sha256 for file, (_, sha256) in done.files.items()},
        created=done.created,
        kept=done.kept,
    )


def release_record(release: Finished) -> Release:
    """Return the record of a finished build."""
    from slipway.records.release import MANIFEST

    manifest = release.manifest
    return Release(
        appliance=manifest.appliance,
        release=manifest.release,
        version=manifest.version,
        build=manifest.build,
        architecture=manifest.architecture,
        created=stamp(manifest.created),
        booted=manifest.boot_passed,
        folder=str(release.folder),
        manifest=str(release.folder / MANIFEST),
        manifest_sha256=release.hashes[MANIFEST],
        artifacts=[
            Artifact(
                format=each.format,
                file=each.file,
                path=str(release.folder / each.file),
                size=each.size,
                sha256=each.sha256,
                disk_sha256=each.uncompressed_sha256,
            )
            for each in manifest.artifacts
        ],
    )


def machine_record(name: str, report: BootReport, only: Iterable[str] = ()) -> Machine:
    """Return the record of a booted and checked machine."""
    checks = [
        Check(
            place=each.place,
            name=each.name,
            outcome=each.outcome,
            duration_s=each.duration_s,
            attempts=each.attempts,
        )
        for each in report.checks
    ]
    return Machine(
        appliance=name,
        firmware=report.firmware,
        accelerator=report.accelerator,
        passed=report.passed,
        checks=checks,
        only=sorted(only),
    )


def proof_record(name: str, proof: Proof) -> FaultProof:
    """Return the record of an appliance's fault."""
    return FaultProof(
        appliance=name,
        fault=proof.fault.name,
        summary=proof.fault.summary,
        caught_by=proof.fault.caught_by,
        failed=f"{proof.failed.place}/{proof.failed.name}" if proof.failed else None,
        good=proof.good,
        problem=proof.problem,
    )


def image_record(form: str, path: Path, sha256: str | None = None) -> Image:
    """Return the record of an image file.

    Args:
        sha256: Its hash, if known.
    """
    from slipway.cache import sha256_of

    return Image(
        format=form, path=str(path), size=path.stat().st_size, sha256=sha256 or sha256_of(path)
    )


def channel_record(channel: Channel) -> ChannelState:
    """Return the record of a channel and its dates."""
    roles = {name: role for name in channel.appliances if (role := channel.role(name)) is not None}
    return ChannelState(
        name=channel.name,
        version=channel.snapshot.signed.version if channel.snapshot else None,
        expires=Expiry(
            root=stamp(channel.root.signed.expires.timestamp()),
            targets=stamp(channel.targets.signed.expires.timestamp()) if channel.targets else None,
            appliances={
                name: stamp(role.signed.expires.timestamp()) for name, role in roles.items()
            },
            snapshot=stamp(channel.snapshot.signed.expires.timestamp())
            if channel.snapshot
            else None,
            timestamp=stamp(channel.timestamp.signed.expires.timestamp())
            if channel.timestamp
            else None,
        ),
    )


def held_record(channel: Channel, appliance: str) -> Held:
    """Return the record of an appliance in a channel."""
    from slipway.channels.layout import target_key
    from slipway.records.reference import ReleaseRef

    shelf = channel.shelf(appliance)
    return Held(
        channel=channel.name,
        appliance=appliance,
        current=shelf.current,
        releases=[
            ListedRelease(
                release=release,
                current=release == shelf.current,
                created=stamp(listed.created),
                added=stamp(listed.added),
                files=[
                    ListedFile(
                        file=file,
                        size=size,
                        sha256=sha256,
                        key=target_key(ReleaseRef(appliance, release), file, sha256),
                    )
                    for file, (size, sha256) in sorted(listed.files.items())
                ],
            )
            for release, listed in shelf.releases.items()
        ],
        withdrawn=[
            Tombstone(
                release=release,
                reason=stone.reason,
                time=stamp(stone.time),
                replacement=stone.replacement,
            )
            for release, stone in shelf.withdrawn.items()
        ],
    )


def keys_record(ring: KeyRing, would: Iterable[str] = ()) -> Keys:
    """Return the record of a channel's public keys."""
    from slipway.channels.keys import ROLES, fingerprint
    from slipway.channels.minisign import public_key

    signing = ring.public("targets")
    line = public_key(signing[0], ring.channel) if signing else None
    return Keys(
        channel=ring.channel,
        folder=str(ring.folder) if ring.folder else None,
        roles=[
            Role(
                role=role,
                here=ring.has(role),
                keys=[
                    Key(keyid=str(key.keyid), fingerprint=fingerprint(key))
                    for key in ring.public(role)
                ],
            )
            for role in ROLES
        ],
        minisign=line.splitlines()[1] if line else None,
        would=list(would),
    )


def seed_record(path: Path, seed: Seed) -> SeedFile:
    """Return the record of a seed's file, without its values."""
    return SeedFile(path=str(path), id=seed.id, parameters=seed.names, secrets=sorted(seed.secrets))
