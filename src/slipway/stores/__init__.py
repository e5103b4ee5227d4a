"""Stores of releases: objects by key, almost all created once and never changed.

Each kind of store is one module of this package with a function ``open_url(url)``; the module's
name is the URL's scheme. Invariants of every store: an object exists whole or not at all;
``create`` never replaces; of several writers swapping the same version, exactly one succeeds.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, cast
from urllib.parse import urlencode

from slipway.errors import StoreError, UsageError

__all__ = [
    "MAX_LISTED",
    "MAX_READ",
    "AlreadyExists",
    "Blob",
    "Conflict",
    "NotFound",
    "Status",
    "Store",
    "TooLarge",
    "check_key",
    "kinds",
    "open_store",
    "read_only",
    "require_writable",
    "too_many",
]

#: The limit of :meth:`Store.read` in bytes, for callers without a closer one.
MAX_READ: Final = 16 << 20
#: The limit of a listing; a store with a year's releases of twelve appliances has about 10,000
#: objects.
MAX_LISTED: Final = 250_000

#: S3 allows keys of 1,024 bytes, file systems names of 255.
_MAX_KEY = 1024
_MAX_PART = 255


class AlreadyExists(StoreError):
    """The key exists with other content."""


class Conflict(StoreError):
    """The object is not, or no longer, in the version to be replaced."""


class NotFound(StoreError):
    """There is no such object."""


class TooLarge(StoreError):
    """The object is larger than the caller's limit; nothing of it was kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """An object's content and version; ``etag`` is opaque, for :meth:`Store.swap` only."""

    data: bytes
    etag: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """An object in a listing: its size in bytes and the time of its last write.

    ``modified`` is in seconds since 1970, by the store's clock.
    """

    key: str
    size: int
    modified: float


class Store(Protocol):
    """The interface of every store.

    Every method raises StoreError if the store cannot be reached or refuses.
    """

    url: str

    def create(self, key: str, data: bytes) -> bool:
        """Create an object; return False if an identical one exists, such as after a retry.

        Raises:
            AlreadyExists: The key exists with other content.
        """
        ...

    def create_file(self, key: str, path: Path, *, sha256: str) -> bool:
        """Create an object from a file, possibly larger than memory; otherwise as :meth:`create`.

        Raises:
            AlreadyExists: The key exists with other content.
            StoreError: The file's SHA-256 differs from ``sha256``; nothing was created.
        """
        ...

    def swap(self, key: str, data: bytes, *, etag: str | None) -> str:
        """Replace an object if its version is ``etag``; create it if ``etag`` is None.

        Returns:
            The new version.

        Raises:
            Conflict: Another writer was first.
        """
        ...

    def read(self, key: str, *, limit: int = MAX_READ) -> Blob:
        """Return an object's whole content.

        Raises:
            NotFound: The object does not exist.
            TooLarge: The object has more than ``limit`` bytes; hardly more than those were read.
        """
        ...

    def read_range(self, key: str, start: int, length: int) -> bytes:
        """Return part of an object: at most ``length`` bytes, fewer at the object's end.

        Raises:
            NotFound: The object does not exist.
        """
        ...

    def list(self, prefix: str = "") -> Iterator[Status]:
        """Yield all objects whose keys begin with ``prefix``, sorted by key.

        Names unfit as keys are left out.

        Raises:
            StoreError: There are more than :data:`MAX_LISTED`.
        """
        ...

    def stat(self, key: str) -> Status | None:
        """Return an object's size and time, or None if it does not exist."""
        ...

    def delete(self, key: str) -> None:
        """Remove an object; a no-op if it does not exist."""
        ...

    def renew(self, key: str) -> None:
        """Set an object's time to now; its content stays.

        Raises:
            NotFound: The object does not exist.
        """
        ...

    def now(self) -> float:
        """Return the time by the clock of :attr:`Status.modified`, in seconds since 1970."""
        ...

    def sweep(self, before: float) -> int:
        """Remove the remains of interrupted uploads begun before a time.

        Returns:
            Their number.
        """
        ...


class _Module(Protocol):
    def open_url(self, url: str) -> Store: ...


def kinds() -> tuple[str, ...]:
    """Return the kinds of stores, sorted."""
    names = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(sorted(name for name in names if not name.startswith("_")))


def read_only(store: Store) -> bool:
    """Return True for a store on a web server: it can be neither changed nor listed."""
    return store.url.startswith(("https://", "http://"))


def require_writable(store: Store) -> None:
    """Refuse a read-only store.

    Raises:
        StoreError: The store is on a web server.
    """
    if read_only(store):
        hint = "change it where it is kept: name its folder, or its s3:// URL"
        raise StoreError(f"{store.url} can only be read", hint=hint)


def too_many(url: str, limit: int) -> StoreError:
    """Return the error for a listing longer than its limit."""
    hint = "no store of Slipway has so many: look at what fills it"
    return StoreError(f"{url} lists more than {limit} objects", hint=hint)


def open_store(url: str, **options: str) -> Store:
    """Open the store of a URL (``scheme://...``) or of a directory's path.

    A directory is made at the first write. Options with a value are added to the URL's query; their
    meaning depends on the kind of store.

    Raises:
        StoreError: No such kind of store exists.
        UsageError: Options are given for a plain path.
    """
    known = ", ".join(f"{name}://" for name in kinds())
    given = urlencode({name: value for name, value in options.items() if value})
    scheme, separator, _ = url.partition("://")
    if not separator:
        _require_path(url, known)
    if given and not separator:
        names = ", ".join(f"--{name.replace('_', '-')}" for name, value in options.items() if value)
        raise UsageError(f"a directory takes no {names}", hint="leave it out")
    if scheme == "file" and separator:
        scheme, url = "directory", f"directory{url.removeprefix('file')}"
    url += ("&" if "?" in url else "?") * bool(given) + given
    kind = {"": "directory", "http": "https"}.get(scheme if separator else "", scheme)
    if kind not in kinds():
        raise StoreError(
            f"there is no kind of store for {url}", hint=f"give a directory, or one of: {known}"
        )
    module = cast(_Module, importlib.import_module(f"{__name__}.{kind}"))
    return module.open_url(url)


def _require_path(text: str, known: str) -> None:
    """Refuse a URL without its slashes, which would otherwise become a folder.

    Raises:
        StoreError: The text begins like a URL.
    """
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):(/*)(.*)", text, re.DOTALL)
    if match is None:
        return
    kind, slashes, rest = match.groups()
    meant = f"give a directory, or one of: {known}"
    if kind in kinds():
        meant = f"write {slashes}{rest}" if kind == "directory" else f"write {kind}://{rest}"
    raise StoreError(
        f"there is no kind of store for {text}", hint=f"{meant}; a folder of this name is ./{text}"
    )


def check_key(key: str) -> str:
    """Return a key if every store can hold it.

    Its parts between slashes are neither empty nor hidden, so none is ``.`` or ``..``.

    Raises:
        StoreError: The key is invalid.
    """
    parts = key.split("/")
    bad = any(
        not part or part.startswith(".") or len(part.encode(errors="replace")) > _MAX_PART
        for part in parts
    )
    if (
        bad
        or len(key.encode(errors="replace")) > _MAX_KEY
        or re.search(r"[\x00-\x1f\x7f\\\ud800-\udfff]", key)
    ):
        raise StoreError(f"not a key of a store: {key[:100]!r}")
    return key
