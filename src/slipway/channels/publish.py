"""Create the objects of a release in a store from a finished build: images first, SHA256SUMS last.

Keys (docs/reference/store.md): ``targets/<appliance>/<release>/<sha256>.<file>`` for every file,
and last ``releases/<appliance>/<release>/SHA256SUMS``.

Invariants: The local build decides the content of a release, or the channel's verified metadata if
it lists the release already; the store never does. Existing objects are read and compared. Nothing
is ever replaced. An interrupted publication is completed by a later run.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from slipway.channels.layout import sums_key, target_key
from slipway.channels.lists import (
    RECORDS,
    Files,
    artifacts_of,
    require_bytes,
    require_list,
    require_same_images,
    sums_text,
)
from slipway.errors import BuildError
from slipway.records.reference import ReleaseRef
from slipway.records.release import Release, read_release, verify_release
from slipway.stores import AlreadyExists, Store

__all__ = ["Published", "publish", "require_boot"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """The result of publishing: the release, and the keys created or already there.

    ``files`` are the files to list. ``kept`` are the records of an earlier build that stay listed
    instead of this one's.
    """

    ref: ReleaseRef
    created: tuple[str, ...]
    existing: tuple[str, ...]
    store: str
    files: Files = field(default_factory=dict, compare=False)
    kept: tuple[str, ...] = field(default=(), compare=False)


def publish(
    store: Store,
    build: Path | Release,
    *,
    channel: str = "nightly",
    listed: Files | None = None,
    started: Callable[[str], None] = lambda key: None,
) -> Published:
    """Create the objects missing from the store, and compare the others.

    Args:
        build: A folder by :func:`slipway.records.release.write_release`, or the release read from
            it.
        channel: The channel that is going to list it.
        listed: The files of this release in the channel's verified metadata, if it lists the
            release.
        started: Called with each key before its object is created.

    Raises:
        BuildError: The build is incomplete, or has no passing boot.
        StoreError: The store refused, or holds something else under one of these keys.
    """
    release = build if isinstance(build, Release) else read_release(build)
    ref = release.manifest.ref
    require_boot(release)
    verify_release(release)
    if listed is not None:
        require_same_images(ref, release.files, listed)
    files = release.files if listed is None else listed
    replaced_by = channel if listed is None else None
    there = require_list(store, ref, files, replaced_by=replaced_by)
    created: list[str] = []
    existing: list[str] = []
    for file in (*sorted(artifacts_of(files)), *RECORDS):
        size, sha256 = files[file]
        key = target_key(ref, file, sha256)
        started(key)
        mine = release.files[file] == (size, sha256)
        new = _bring(store, key, release.folder / file if mine else None, size, sha256)
        (created if new else existing).append(key)
    key = sums_key(ref)
    started(key)
    try:
        new = not there and store.create(key, sums_text(files))
    except AlreadyExists:
        # Somebody published the release in between, perhaps another build of the same images.
        require_list(store, ref, files, replaced_by=replaced_by)
        new = False
    (created if new else existing).append(key)
    kept = tuple(file for file in RECORDS if files[file] != release.files[file])
    return Published(
        ref=ref,
        created=tuple(created),
        existing=tuple(existing),
        store=store.url,
        files=files,
        kept=kept,
    )


def _bring(store: Store, key: str, path: Path | None, size: int, sha256: str) -> bool:
    """Create an object from a file; return False if it exists, after comparing it.

    Raises:
        StoreError: The object differs, or is missing and there is no file for it.
    """
    if path is not None and store.stat(key) is None:
        with suppress(AlreadyExists):
            if store.create_file(key, path, sha256=sha256):
                return True
    require_bytes(store, key, size, sha256)
    return False


def require_boot(release: Release) -> None:
    """Refuse a build without a passing boot.

    Raises:
        BuildError: The build has no passing boot, or its records have other names.
    """
    manifest = release.manifest
    if release.records != RECORDS:
        raise BuildError(
            f"{manifest.ref} has records of other names: {', '.join(release.records)}",
            hint=f"run: invoke build {manifest.appliance}",
        )
    if manifest.boot_passed:
        return
    if manifest.boot is None:
        problem = "was never booted"
    elif any(
        artifact.uncompressed_sha256 != manifest.booted_disk_sha256
        for artifact in manifest.artifacts
    ):
        problem = "was booted from another disk than its artifacts were made from"
    else:
        failed = ", ".join(manifest.boot_problems)
        problem = f"did not pass its checks{f': {failed}' if failed else ''}"
    raise BuildError(
        f"{manifest.ref} {problem}, so it is not published",
        hint=f"run: invoke build {manifest.appliance}",
    )
