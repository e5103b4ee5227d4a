"""What users do with a channel: see what it holds, download from it. python-tuf's own client verifies.

Invariants: metadata that a client has accepted is kept, so that an older state is refused later; a file gets its name
only when it is whole and is what the channel's signed metadata says.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from slipway.cache import sha256_of
from slipway.channels.memory import client_folder
from slipway.channels.moves import find_release
from slipway.channels.publish import target_key
from slipway.channels.shelf import Shelf, to_shelf
from slipway.errors import HostError, StoreError, VerificationError
from slipway.progress import Progress, size
from slipway.records.manifest import Manifest, read_manifest
from slipway.records.release import MANIFEST
from slipway.stores import NotFound, Store

if TYPE_CHECKING:
    from tuf.ngclient import FetcherInterface, Updater

__all__ = ["Client", "Wanted", "download", "fetch_image", "fetch_manifest"]

_CHUNK: Final = 1 << 20
_RANGE: Final = 8 << 20


def store_fetcher(store: Store) -> FetcherInterface:
    """How python-tuf's client reads from a store: URLs are keys."""
    from tuf.api.exceptions import DownloadHTTPError
    from tuf.ngclient import FetcherInterface

    class Fetcher(FetcherInterface):
        def _fetch(self, url: str) -> Iterator[bytes]:
            key = unquote(url)
            try:
                first = store.read_range(key, 0, _CHUNK)
            except NotFound as error:
                raise DownloadHTTPError(f"{key} is not there", 404) from error

            def chunks() -> Iterator[bytes]:
                chunk, start = first, 0
                while chunk:
                    yield chunk
                    start += len(chunk)
                    chunk = store.read_range(key, start, _CHUNK) if len(chunk) == _CHUNK else b""

            return chunks()

    return Fetcher()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A file of a release as a channel lists it: its size in bytes, and what it must hash to."""

    appliance: str
    release: str
    file: str
    size: int
    sha256: str

    @property
    def key(self) -> str:
        """Where it is in the store."""
        return target_key(self.appliance, self.release, self.file, self.sha256)


class Client:
    """A channel as python-tuf's client sees it.

    Args:
        root: The root metadata that is trusted to begin with.
        memory: A folder for what was accepted, one for every store and channel.
    """

    def __init__(self, store: Store, channel: str, root: bytes, memory: Path) -> None:
        from tuf.ngclient import Updater

        self.store, self.channel = store, channel
        folder = client_folder(memory, store, channel, root)
        with _verified(channel, store):
            self._updater: Updater = Updater(
                metadata_dir=str(folder),
                metadata_base_url=f"metadata/{channel}/",
                target_base_url="targets/",
                fetcher=store_fetcher(store),
                bootstrap=root,
            )
            self._updater.refresh()

    def shelf(self, appliance: str) -> Shelf:
        """An appliance's releases.

        Raises:
            StoreError: The channel does not have it.
            VerificationError: It is not signed as it must be.
        """
        from tuf.api.metadata import Metadata

        with _verified(self.channel, self.store):
            # Asking for any of its targets makes the client read and verify the role; nothing has this name.
            self._updater.get_targetinfo(f"{appliance}/-/-")
        trusted: Any = self._updater._trusted_set  # the one way to what it verified
        role = trusted.get(appliance) if appliance not in ("root", "timestamp", "snapshot", "targets") else None
        if role is None:
            raise StoreError(f"{self.channel} has no {appliance}", hint="see: invoke channels")
        return to_shelf(Metadata(role), appliance, self.channel)

    def wanted(self, appliance: str, release: str, file: str) -> Wanted:
        """A file that python-tuf's client vouches for.

        Raises:
            StoreError: The release has no such file.
        """
        with _verified(self.channel, self.store):
            info = self._updater.get_targetinfo(f"{appliance}/{release}/{file}")
        if info is None:
            raise StoreError(f"{appliance} {release} has no {file} in {self.channel}", hint="see: invoke channels --json")
        return Wanted(appliance=appliance, release=release, file=file, size=info.length, sha256=info.hashes["sha256"])


@contextmanager
def _verified(channel: str, store: Store) -> Iterator[None]:
    """What python-tuf refuses, as an error for people."""
    from tuf.api.exceptions import DownloadError, ExpiredMetadataError, RepositoryError

    try:
        yield
    except ExpiredMetadataError as error:
        raise VerificationError(
            f"the channel {channel} has expired: {error}", hint="its publisher has to run: invoke refresh; if he did, this is an old copy"
        ) from error
    except RepositoryError as error:
        raise VerificationError(
            f"the channel {channel} cannot be trusted: {error}", hint="nothing was changed here; tell its publisher"
        ) from error
    except DownloadError as error:
        cause = error.__cause__
        if isinstance(cause, StoreError) and not isinstance(cause, NotFound):
            raise cause from error
        raise StoreError(f"{store.url} has no whole channel {channel}: {error}", hint="see: invoke channels") from error


def fetch_manifest(client: Client, appliance: str, build: str | None) -> Manifest:
    """The manifest of a release, the current one if none is named.

    Raises:
        StoreError: The channel has no such release.
        VerificationError: It is not what the channel's signed metadata says.
    """
    release = find_release(client.shelf(appliance), appliance, client.channel, build)
    wanted = client.wanted(appliance, release, MANIFEST)
    text = client.store.read_range(wanted.key, 0, wanted.size + 1)
    if hashlib.sha256(text).hexdigest() != wanted.sha256:
        raise VerificationError(f"{wanted.key} is not what its channel says", hint="the store was changed; nothing was kept")
    return read_manifest(text, source=wanted.key, of=(appliance, release))


def fetch_image(client: Client, appliance: str, build: str | None, form: str, directory: Path, progress: Progress) -> Path:
    """Download a release's image in a format, by what its manifest says.

    Raises:
        StoreError: The channel has no such release, or the release has no such format.
        VerificationError: Something is not what the channel's signed metadata says.
    """
    manifest = fetch_manifest(client, appliance, build)
    formats = {artifact.format: artifact.file for artifact in manifest.artifacts}
    if form not in formats:
        raise StoreError(
            f"{appliance} {manifest.release} was not made as {form}",
            hint=f"there is: {', '.join(sorted(formats))}; invoke export makes others of raw",
        )
    image = client.wanted(appliance, manifest.release, formats[form])
    with progress.step("fetch") as step:

        def show(done: int) -> None:
            step.detail = f"{size(done)} of {size(image.size)} ({100 * done // max(1, image.size)} %)"

        return download(client.store, image, directory, progress=show)


def download(
    store: Store, wanted: Wanted, directory: Path, *, threads: int = 4, progress: Callable[[int], None] = lambda done: None
) -> Path:
    """Fetch a file in ranges side by side; what an earlier run that was stopped has fetched is used.

    Args:
        progress: Called with the number of bytes that are here.

    Raises:
        VerificationError: What came is something else than what the channel says; nothing is left of it.
        HostError: It cannot be written.
    """
    target = directory / wanted.file
    if target.is_file() and target.stat().st_size == wanted.size and sha256_of(target) == wanted.sha256:
        return target
    part, state = directory / f".{wanted.file}.{wanted.sha256[:16]}.part", directory / f".{wanted.file}.{wanted.sha256[:16]}.json"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with part.open("r+b" if part.exists() else "w+b") as file:
            done = _known(state) if file.seek(0, os.SEEK_END) == wanted.size else set()
            file.truncate(wanted.size)
            _fetch_ranges(store, wanted, file.fileno(), done, state, threads, progress)
            os.fsync(file.fileno())
        found = sha256_of(part)
        if found != wanted.sha256:
            raise VerificationError(
                f"{wanted.key} has the SHA-256 {found}, its channel says {wanted.sha256}", hint="the store was changed; nothing was kept"
            )
        part.replace(target)
        state.unlink(missing_ok=True)
    except OSError as error:
        raise HostError(f"{target} cannot be written: {error.strerror}", hint="give another directory: --out DIR") from error
    except VerificationError:
        part.unlink(missing_ok=True)
        state.unlink(missing_ok=True)
        raise
    return target


def _fetch_ranges(
    store: Store, wanted: Wanted, descriptor: int, done: set[int], state: Path, threads: int, progress: Callable[[int], None]
) -> None:
    def fetch(start: int) -> int:
        length = min(_RANGE, wanted.size - start)
        data = store.read_range(wanted.key, start, length)
        if len(data) != length:
            raise VerificationError(f"{wanted.key} ends after {start + len(data)} bytes, its channel says {wanted.size}")
        os.pwrite(descriptor, data, start)
        return start

    starts = [start for start in range(0, wanted.size, _RANGE) if start not in done]
    with ThreadPoolExecutor(threads) as workers:
        futures = [workers.submit(fetch, start) for start in starts]
        try:
            for future in futures:
                done.add(future.result())
                # Written after the range: a list that is too short costs a range, one that is too long the whole file.
                state.write_text(json.dumps(sorted(done)))
                progress(min(wanted.size, len(done) * _RANGE))
        finally:
            workers.shutdown(cancel_futures=True)


def _known(state: Path) -> set[int]:
    try:
        return {int(start) for start in json.loads(state.read_text())}
    except (OSError, ValueError, TypeError):
        return set()
