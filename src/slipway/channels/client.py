"""Show a channel to its users and download from it, verified by python-tuf's own client.

Invariants: Accepted metadata is kept, so an older state is refused later. A file gets its name only
when it is whole and matches the channel's signed metadata.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from slipway.channels.download import Wanted, download
from slipway.channels.expiry import Expired, clock_says, renewal
from slipway.channels.layout import TARGETS, metadata_folder
from slipway.channels.places import client_folder
from slipway.channels.shelf import Shelf, find_release, nearest, to_shelf
from slipway.channels.state import load_listed
from slipway.channels.verified import manifest_of
from slipway.errors import StoreError, UserError, VerificationError
from slipway.formats import file_name, load
from slipway.records.manifest import Manifest
from slipway.records.reference import ReleaseRef
from slipway.records.release import MANIFEST
from slipway.stores import NotFound, Store
from slipway.terminal.progress import Progress

if TYPE_CHECKING:
    from tuf.ngclient import FetcherInterface, Updater

__all__ = ["Client", "Wanted", "fetch_image", "fetch_manifest", "withdrawn_images"]

_CHUNK: Final = 1 << 20


def store_fetcher(store: Store) -> FetcherInterface:
    """Return a fetcher for python-tuf's client: it reads a store, with keys as URLs."""
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


class Client:
    """A channel as seen by python-tuf's client.

    Args:
        root: The trusted root to begin with.
        memory: The folder for accepted metadata, shared by all stores and channels.
    """

    def __init__(self, store: Store, channel: str, root: bytes, memory: Path) -> None:
        from tuf.ngclient import Updater

        self.store, self.channel = store, channel
        folder = client_folder(memory, store, channel, root)
        with self._verified():
            self._updater: Updater = Updater(
                metadata_dir=str(folder),
                metadata_base_url=metadata_folder(channel),
                target_base_url=TARGETS,
                fetcher=store_fetcher(store),
                bootstrap=root,
            )
            self._updater.refresh()

    def shelf(self, appliance: str) -> Shelf:
        """Return an appliance's releases.

        Raises:
            StoreError: The channel does not have the appliance.
            VerificationError: The appliance's metadata is malformed, or not signed by the right
                keys.
        """
        from tuf.api.metadata import Metadata

        with self._verified():
            # Asking for any of its targets makes the client read and verify the role; nothing has
            # this name.
            self._updater.get_targetinfo(f"{appliance}/-/-")
        trusted: Any = self._updater._trusted_set  # the one way to what it verified
        role = (
            trusted.get(appliance)
            if appliance not in ("root", "timestamp", "snapshot", "targets")
            else None
        )
        if role is None:
            raise StoreError(
                f"{self.channel} has no {appliance}", hint=nearest(appliance, self._appliances())
            )
        return to_shelf(Metadata(role), appliance, self.channel)

    def _appliances(self) -> list[str]:
        """Return the appliances in the channel's verified list."""
        trusted: Any = self._updater._trusted_set
        delegations = trusted.targets.delegations
        return list(delegations.roles or ()) if delegations else []

    def wanted(self, ref: ReleaseRef, file: str) -> Wanted:
        """Return a file of a release, verified by python-tuf's client.

        Raises:
            StoreError: The release has no such file.
        """
        with self._verified():
            info = self._updater.get_targetinfo(f"{ref.path}/{file}")
        if info is None:
            raise StoreError(
                f"{ref} has no {file} in {self.channel}",
                hint="see: invoke channels --json",
            )
        return Wanted(ref=ref, file=file, size=info.length, sha256=info.hashes["sha256"])

    @contextmanager
    def _verified(self) -> Iterator[None]:
        """Turn python-tuf's refusals into errors for people."""
        from tuf.api.exceptions import DownloadError, ExpiredMetadataError, RepositoryError

        try:
            yield
        except ExpiredMetadataError as error:
            raise self._expired(str(error)) from error
        except RepositoryError as error:
            raise VerificationError(
                f"the channel {self.channel} cannot be trusted: {error}",
                hint="nothing was changed here; tell its publisher",
            ) from error
        except DownloadError as error:
            cause = error.__cause__
            if isinstance(cause, StoreError) and not isinstance(cause, NotFound):
                raise cause from error
            raise StoreError(
                f"{self.store.url} has no whole channel {self.channel}: {error}",
                hint="see: invoke channels",
            ) from error

    def _expired(self, said: str) -> Expired:
        """Return the error for expired metadata, with its date.

        Args:
            said: python-tuf's words: they name the role and no date.
        """
        found = re.fullmatch(r"(?:Final |New )?([a-z0-9-]+?)(?:\.json)? is expired", said)
        role = found[1] if found else ""
        end = ""
        with suppress(KeyError, UserError):
            end = f" on {self._end(role):%Y-%m-%d}"
        subject = (
            f"the {role} metadata of the channel {self.channel}"
            if role
            else f"the channel {self.channel}"
        )
        return Expired(
            f"{subject} expired{end}; {clock_says(time.time())}", todo=renewal(self.channel, role)
        )

    def _end(self, role: str) -> datetime:
        """Return the end of a role's metadata.

        python-tuf keeps verified metadata, but drops an expired list of targets. That one is read
        again.
        """
        trusted: Any = self._updater._trusted_set
        if role in ("root", "timestamp", "snapshot"):
            end: datetime = trusted[role].expires
            return end
        listed = trusted["snapshot"].meta[f"{role}.json"]
        ending: datetime = load_listed(self.store, self.channel, role, listed).signed.expires
        return ending


@contextmanager
def _whole_store() -> Iterator[None]:
    """Add a hint to errors about listed objects missing from the store."""
    try:
        yield
    except NotFound as error:
        hint = (
            "the store has lost it: its publisher sees what is missing by: invoke verify; "
            "another release: --build ID"
        )
        raise StoreError(error.message, hint=hint) from error


def fetch_manifest(
    client: Client, appliance: str, build: str | None, architecture: str | None = None
) -> Manifest:
    """Return the manifest of a release, by default of the current one.

    Args:
        architecture: The required architecture, if any.

    Raises:
        StoreError: The channel has no such release, or it is for another architecture.
        VerificationError: The manifest differs from the channel's signed metadata, or is about
            another release.
    """
    shelf = client.shelf(appliance)
    ref = ReleaseRef(appliance, find_release(shelf, appliance, client.channel, build))
    wanted = client.wanted(ref, MANIFEST)
    with _whole_store():
        manifest = manifest_of(client.store, ref, {MANIFEST: (wanted.size, wanted.sha256)})
    if architecture not in (None, manifest.architecture):
        raise StoreError(
            f"{ref} in {client.channel} is for {manifest.architecture}, not {architecture}",
            hint=f"give --arch {manifest.architecture}, or another release: --build ID",
        )
    return manifest


def withdrawn_images(
    client: Client, appliance: str, directory: Path
) -> dict[Path, tuple[str, str]]:
    """Return the files of withdrawn releases in a download folder, each with release and reason."""
    withdrawn = client.shelf(appliance).withdrawn
    starts = {f"{appliance}-{release}.": release for release in withdrawn}
    found = {}
    for path in sorted(directory.iterdir()) if starts and directory.is_dir() else ():
        release = next(
            (release for start, release in starts.items() if path.name.startswith(start)), None
        )
        if release:
            found[path] = (release, withdrawn[release].reason)
    return found


def fetch_image(
    client: Client, manifest: Manifest, form: str, directory: Path, progress: Progress
) -> Path:
    """Download a release's image in one format.

    Its name is made here from appliance, release, architecture and format.

    Args:
        manifest: The result of :func:`fetch_manifest`.

    Raises:
        StoreError: The release has no such format.
        VerificationError: The manifest or the image differs from the channel's signed metadata.
        HostError: The image cannot be written, or something else has its name.
    """
    ref = manifest.ref
    made = [artifact for artifact in manifest.artifacts if artifact.format == form]
    if not made:
        formats = ", ".join(sorted({artifact.format for artifact in manifest.artifacts}))
        raise StoreError(
            f"{ref} was not made as {form}",
            hint=f"choose from: {formats}; invoke export makes others of raw",
        )
    image = client.wanted(ref, made[0].file)
    if len(made) > 1 or (made[0].size, made[0].sha256) != (image.size, image.sha256):
        raise VerificationError(
            f"the manifest of {ref} and the channel {client.channel} do not agree on its {form}",
            hint="nothing was fetched; tell its publisher",
        )
    name = file_name(ref.appliance, ref.release, manifest.architecture, load(form))
    with _whole_store(), progress.step("fetch") as step:

        def show(done: int) -> None:
            step.transferred(done, image.size)

        path = download(client.store, image, directory, name=name, progress=show)
        step.detail = step.transfer
        return path
