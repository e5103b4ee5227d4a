"""python-tuf's own client, with nothing of ours but where it reads from: what it says of a channel
is what users get.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import FetcherInterface, Updater

from slipway.stores import NotFound, Store

__all__ = ["Judge"]


class _Fetcher(FetcherInterface):
    def __init__(self, store: Store) -> None:
        super().__init__()
        self.store = store
        self.fetched: list[tuple[str, int]] = []

    def _fetch(self, url: str) -> Iterator[bytes]:
        try:
            data = self.store.read(unquote(url)).data
        except NotFound as error:
            raise DownloadHTTPError(str(error), 404) from error
        self.fetched.append((url, len(data)))
        return iter([data])


class Judge:
    """A user who has trusted a root since the beginning.

    Each look is a new run of his client, with its memory.
    """

    def __init__(self, store: Store, channel: str, root: bytes, folder: Path) -> None:
        self.store, self.channel, self.root, self.folder = store, channel, root, folder
        folder.mkdir(parents=True, exist_ok=True)
        self.fetched: list[tuple[str, int]] = []

    def updater(self) -> Updater:
        """A client that has just read the channel."""
        fetcher = _Fetcher(self.store)
        self.fetched = fetcher.fetched
        updater = Updater(
            metadata_dir=str(self.folder),
            metadata_base_url=f"metadata/{self.channel}/",
            target_dir=str(self.folder),
            target_base_url="targets/",
            fetcher=fetcher,
            bootstrap=self.root,
        )
        updater.refresh()
        return updater

    def download(self, path: str) -> bytes | None:
        """A target's content; None if the channel does not have it."""
        updater = self.updater()
        info = updater.get_targetinfo(path)
        return (
            None
            if info is None
            else Path(updater.download_target(info, str(self.folder / "download"))).read_bytes()
        )

    def has(self, path: str) -> bool:
        """Whether the channel lists a target, and it can be downloaded."""
        return self.download(path) is not None
