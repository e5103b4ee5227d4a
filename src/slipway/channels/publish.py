"""A finished build -> a release in a store, create-only: images first, what refers to them after them.

Keys (docs/store.md): ``targets/<appliance>/<release>/<sha256>.<file>`` for every file, and last
``releases/<appliance>/<release>/SHA256SUMS``, which makes it a release. Invariants: nothing is ever replaced; whatever
this writes before it is stopped, a later run completes; a release that is there is left as it is, also if the same
artifacts were built again later and only the records around them differ.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from slipway.errors import BuildError, StoreError, VerificationError
from slipway.records.release import SUMS, Release, read_release, verify_release
from slipway.records.sums import parse_sums
from slipway.stores import AlreadyExists, NotFound, Store

__all__ = ["Published", "publish", "sums_key", "target_key"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What publishing did: the release, and the keys that it created and those that were there already."""

    appliance: str
    release: str
    created: tuple[str, ...]
    existing: tuple[str, ...]
    store: str

    @property
    def summary(self) -> str:
        """One line for people."""
        what = f"{len(self.created)} objects created" if self.created else "nothing to do, it is there"
        return f"published {self.appliance} {self.release} to {self.store}: {what}"


def target_key(appliance: str, release: str, file: str, sha256: str) -> str:
    """Where a file of a release is."""
    return f"targets/{appliance}/{release}/{sha256}.{file}"


def sums_key(appliance: str, release: str) -> str:
    """Where a release's SHA256SUMS is; its lines say where everything else is."""
    return f"releases/{appliance}/{release}/{SUMS}"


def publish(store: Store, release_dir: Path, *, started: Callable[[str], None] = lambda key: None) -> Published:
    """Create what is not in the store yet.

    Args:
        release_dir: A folder as :func:`slipway.records.release.write_release` leaves it.
        started: Called with each key before its object is created.

    Raises:
        BuildError: The build is not whole, or was not booted with success.
        StoreError: The store refused, or holds another build under this release's name.
    """
    release = read_release(release_dir)
    manifest = release.manifest
    _require_boot(release)
    done = _published(store, release)
    if done is not None:
        return done
    verify_release(release)
    created: list[str] = []
    existing: list[str] = []
    files = [*sorted(artifact.file for artifact in manifest.artifacts), *release.records]
    for file in files:
        key = target_key(manifest.appliance, manifest.release, file, release.hashes[file])
        started(key)
        new = store.create_file(key, release.folder / file, sha256=release.hashes[file])
        (created if new else existing).append(key)
    key = sums_key(manifest.appliance, manifest.release)
    started(key)
    try:
        new = store.create(key, release.sums)
    except AlreadyExists:
        # Somebody published the release since it was looked for, perhaps from another build of the same artifacts.
        done = _published(store, release)
        if done is None:
            raise
        return Published(appliance=done.appliance, release=done.release, created=tuple(created), existing=(*existing, key), store=store.url)
    (created if new else existing).append(key)
    return Published(
        appliance=manifest.appliance, release=manifest.release, created=tuple(created), existing=tuple(existing), store=store.url
    )


def _require_boot(release: Release) -> None:
    manifest = release.manifest
    if manifest.boot_passed:
        return
    if manifest.boot is None:
        problem = "was never booted"
    elif any(artifact.uncompressed_sha256 != manifest.booted_disk_sha256 for artifact in manifest.artifacts):
        problem = "was booted from another disk than its artifacts were made from"
    else:
        failed = ", ".join(manifest.boot_problems)
        problem = f"did not pass its checks{f': {failed}' if failed else ''}"
    raise BuildError(
        f"{manifest.appliance} {manifest.release} {problem}, so it is not published", hint=f"run: invoke build {manifest.appliance}"
    )


def _published(store: Store, release: Release) -> Published | None:
    """What the store has of this release, if it is there; None if it is not.

    Raises:
        StoreError: It is there with other artifacts.
    """
    manifest = release.manifest
    key = sums_key(manifest.appliance, manifest.release)
    try:
        sums = parse_sums(store.read(key).data, source=f"{store.url}/{key}")
    except NotFound:
        return None
    except VerificationError as error:
        raise StoreError(error.message, hint="the store was changed by something else") from error
    ours = {artifact.file: artifact.sha256 for artifact in manifest.artifacts}
    theirs = {file: digest for file, digest in sums.items() if file not in release.records}
    if ours != theirs:
        differing = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
        raise StoreError(
            f"{manifest.appliance} {manifest.release} is published with other artifacts: {', '.join(differing)}",
            hint="a release never changes: raise the version, or find out why the same inputs gave another image",
        )
    keys = [target_key(manifest.appliance, manifest.release, file, digest) for file, digest in sums.items()]
    return Published(appliance=manifest.appliance, release=manifest.release, created=(), existing=(*keys, key), store=store.url)
