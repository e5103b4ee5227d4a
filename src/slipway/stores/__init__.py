"""Where releases are kept: objects by key, of which almost all are created once and never change.

A kind of store is one module of this package with a function ``open_url(url)``; its name is the
URL's scheme. Invariants that every store keeps: an object is there whole or not at all; ``create``
never replaces; of several writers who swap the same version exactly one succeeds.
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

#: The bytes that :meth:`Store.read` reads at most where the caller knows no closer limit.
MAX_READ: Final = 16 << 20
#: The objects that a listing has at most; a store with a year's releases of twelve appliances has
#: about 10,000.
MAX_LISTED: Final = 250_000

#: S3 allows keys of 1,024 bytes, file systems names of 255.
_MAX_KEY = 1024
_MAX_PART = 255


class AlreadyExists(StoreError):
    """The key exists and holds something else."""


class Conflict(StoreError):
    """The object is not, or is no longer, in the version that was to be replaced."""


class NotFound(StoreError):
    """There is no such object."""


class TooLarge(StoreError):
    """The object is larger than the caller's limit; nothing of it was kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """An object that was read; ``etag`` is its version, for :meth:`Store.swap`, and means nothing
    else.
    """

    data: bytes
    etag: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """An object in a listing: its size in bytes, and when it was last written, in seconds since
    1970 by the store's clock.
    """

    key: str
    size: int
    modified: float


class Store(Protocol):
    """What every store does.

    Every method raises StoreError when the store cannot be reached or refuses.
    """

    url: str

    def create(self, key: str, data: bytes) -> bool:
        """Create an object; False if it exists already with the same content, as after a retry.

        Raises:
            AlreadyExists: It exists with another content.
        """
        ...

    def create_file(self, key: str, path: Path, *, sha256: str) -> bool:
        """Create an object from a file that may be larger than memory; as :meth:`create` otherwise.

        Raises:
            AlreadyExists: It exists with another content.
            StoreError: The file's SHA-256 is not the one given; nothing was created.
        """
        ...

    def swap(self, key: str, data: bytes, *, etag: str | None) -> str:
        """Replace an object in the version that was read, or create it where ``etag`` is None.

        Returns the new version.

        Raises:
            Conflict: Somebody else was first.
        """
        ...

    def read(self, key: str, *, limit: int = MAX_READ) -> Blob:
        """Return an object's whole content.

        Raises:
            NotFound: There is none.
            TooLarge: It has more than ``limit`` bytes; not much more than those were read.
        """
        ...

    def read_range(self, key: str, start: int, length: int) -> bytes:
        """Return a part of an object, never more than ``length`` bytes; less where the object ends.

        Raises:
            NotFound: There is none.
        """
        ...

    def list(self, prefix: str = "") -> Iterator[Status]:
        """Return all objects whose keys begin so, sorted by key.

        Names that no key has are left out.

        Raises:
            StoreError: There are more than :data:`MAX_LISTED`.
        """
        ...

    def stat(self, key: str) -> Status | None:
        """An object's size and time, None if there is none."""
        ...

    def delete(self, key: str) -> None:
        """Remove an object; nothing happens if there is none."""
        ...

    def renew(self, key: str) -> None:
        """Make an object count as written now; its content stays.

        Raises:
            NotFound: There is none.
        """
        ...

    def now(self) -> float:
        """The time by the clock that :attr:`Status.modified` is told by, in seconds since 1970."""
        ...

    def sweep(self, before: float) -> int:
        """Remove what uploads left that were stopped, if they began before that time.

        Returns how many.
        """
        ...


class _Module(Protocol):
    def open_url(self, url: str) -> Store: ...


def kinds() -> tuple[str, ...]:
    """The kinds of stores that exist, sorted."""
    names = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(sorted(name for name in names if not name.startswith("_")))


def read_only(store: Store) -> bool:
    """Return True for a store on a web server: it can be neither changed nor listed."""
    return store.url.startswith(("https://", "http://"))


def require_writable(store: Store) -> None:
    """Refuse a store that can only be read.

    Raises:
        StoreError: It is on a web server.
    """
    if read_only(store):
        hint = "change it where it is kept: name its folder, or its s3:// URL"
        raise StoreError(f"{store.url} can only be read", hint=hint)


def too_many(url: str, limit: int) -> StoreError:
    """Return the error for a listing that goes on beyond its limit."""
    hint = "no store of Slipway has so many: look at what fills it"
    return StoreError(f"{url} lists more than {limit} objects", hint=hint)


def open_store(url: str, **options: str) -> Store:
    """The store of a URL: ``scheme://...``, or a directory's path, which is made when something is
    first written.

    Options that are not empty are added to the URL's query: what they mean is up to the kind of
    store.

    Raises:
        StoreError: No such kind of store exists.
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
    """Refuse what looks like a URL without its slashes, and would else become a folder.

    Raises:
        StoreError: It does.
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
    """The key, if every store can hold it: parts between slashes, none of them empty, hidden, ``.``
    or ``..``.

    Raises:
        StoreError: It is none.
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
