"""A read-only store behind any web server: no account, no key and no listing.

What goes in: ``https://host/prefix``; plain ``http://`` only for this machine's loopback. Keys are
paths below it. Invariants: certificates are verified; a redirect leads to https, or from loopback
to loopback; content is never unpacked on the way; a body is read up to its reader's limit and no
further (:mod:`slipway.stores._pace`); nothing is written.
"""

from __future__ import annotations

import hashlib
import re
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar
from urllib.parse import quote, urljoin, urlsplit

import urllib3

from slipway.errors import StoreError, UsageError
from slipway.stores import MAX_READ, Blob, NotFound, Status, TooLarge, check_key, require_writable
from slipway.stores._pace import allowed, paced

__all__ = ["HttpsStore", "open_url"]

_T = TypeVar("_T")
#: The seconds after each attempt.
_PAUSES_S: Final = (0.2, 0.5, 0.0)
_REDIRECTS: Final = 5
_TIMEOUT: Final = urllib3.Timeout(connect=10, read=30)
#: Temporary failures, worth a retry (RFC 9110, 15.6; RFC 6585, 4).
_PASSING: Final = (429, 500, 502, 503, 504)
_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
_RANGE: Final = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")


def open_url(url: str) -> HttpsStore:
    """Open the store of ``https://host/prefix``.

    Raises:
        StoreError: The URL is not https, or names no host.
        UsageError: The URL has a user name, a password or options.
    """
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  read for its ValueError
    except ValueError as error:
        raise StoreError(
            f"{url} is not a URL: {error}", hint="write https://host/prefix"
        ) from error
    if parts.username is not None or parts.query or parts.fragment:
        kept = parts._replace(
            netloc=parts.netloc.rpartition("@")[2], query="", fragment=""
        ).geturl()
        raise UsageError(
            "a store on a web server takes no credentials and no options", hint=f"write {kept}"
        )
    if not parts.hostname:
        raise StoreError(f"{url} names no host", hint="write https://host/prefix")
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        raise StoreError(
            f"{url} is not encrypted", hint=f"write https://{url.removeprefix('http://')}"
        )
    return HttpsStore(url.rstrip("/"))


class _Passing(Exception):
    """A temporary failure of the server, worth a retry."""


class HttpsStore:
    """See :class:`slipway.stores.Store`. The version of an object is its ETag."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._etags: dict[str, str] = {}
        self._whole = _Whole(self)

    def read(self, key: str, *, limit: int = MAX_READ) -> Blob:
        """See :meth:`slipway.stores.Store.read`."""

        def once() -> Blob:
            with self.answer("GET", key) as answer:
                announced = int(answer.headers.get("Content-Length", "0"))
                data = take(answer, limit + 1) if announced <= limit else b""
            if max(announced, len(data)) > limit:
                raise TooLarge(f"{key} in {self.url} is larger than {limit} bytes")
            return Blob(
                data=data, etag=answer.headers.get("ETag") or hashlib.sha256(data).hexdigest()
            )

        return self._asked(key, limit, once)

    def read_range(self, key: str, start: int, length: int) -> bytes:
        """See :meth:`slipway.stores.Store.read_range`.

        If the server has no ranges, its whole answer is used in order.
        """
        if length <= 0:
            check_key(key)
            return b""

        def once() -> bytes | None:
            with self.answer("GET", key, self._range(key, start, length)) as answer:
                if answer.status == 416:
                    return b""  # it ends before
                self._require_same(key, start, answer)
                if answer.status == 200 and start:
                    return None
                if answer.status == 206:
                    self._require_range(key, start, answer)
                return take(answer, length)

        data = None if self._whole.has(key) else self._asked(key, length, once)
        return self._whole.read(key, start, length) if data is None else data

    def stat(self, key: str) -> Status | None:
        """See :meth:`slipway.stores.Store.stat`."""

        def once() -> Status:
            with self.answer("HEAD", key, also=(405, 501)) as answer:
                if answer.status == 200 and "Content-Length" in answer.headers:
                    return _status(key, answer.headers["Content-Length"], answer)
            return self._stat_by_range(key)

        try:
            return self._asked(key, 0, once)
        except NotFound:
            return None

    def _stat_by_range(self, key: str) -> Status:
        with self.answer("GET", key, {"Range": "bytes=0-0"}) as answer:
            found = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
            size = found[3] if found else answer.headers.get("Content-Length", "*")
            if answer.status == 416:
                size = "0"
        if size == "*":
            raise StoreError(
                f"{self.url} does not say how large {key} is",
                hint="use a server that supports HEAD or range requests",
            )
        return _status(key, size, answer)

    def list(self, prefix: str = "") -> Iterator[Status]:
        """Refuse: a web server has no listing.

        Raises:
            StoreError: Always.
        """
        hint = "ask where it is kept: name its folder, or its s3:// URL"
        raise StoreError(
            f"{self.url} cannot be listed: web servers do not say what they have", hint=hint
        )

    def create(self, key: str, data: bytes) -> bool:
        """Refuse."""
        self._refuse()

    def create_file(self, key: str, path: Path, *, sha256: str) -> bool:
        """Refuse."""
        self._refuse()

    def swap(self, key: str, data: bytes, *, etag: str | None) -> str:
        """Refuse."""
        self._refuse()

    def delete(self, key: str) -> None:
        """Refuse."""
        self._refuse()

    def renew(self, key: str) -> None:
        """Refuse."""
        self._refuse()

    def now(self) -> float:
        """Refuse: only writers use the store's clock."""
        self._refuse()

    def sweep(self, before: float) -> int:
        """Refuse."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        require_writable(self)
        raise AssertionError(self.url)

    def _range(self, key: str, start: int, length: int) -> dict[str, str]:
        headers = {"Range": f"bytes={start}-{start + length - 1}"}
        if start and key in self._etags:
            headers["If-Range"] = self._etags[key]
        return headers

    def _require_same(self, key: str, start: int, answer: Any) -> None:
        """Refuse a part of another version than the parts before it.

        Only a strong ETag identifies a version (RFC 9110, 8.8.3).
        """
        etag = answer.headers.get("ETag", "")
        if start and etag and self._etags.get(key, etag) != etag:
            self._etags.pop(key)
            raise StoreError(
                f"{key} in {self.url} was changed while it was read", hint="run the command again"
            )
        if etag.startswith('"'):
            self._etags[key] = etag

    def _require_range(self, key: str, start: int, answer: Any) -> None:
        said = answer.headers.get("Content-Range", "")
        found = _RANGE.fullmatch(said)
        if found is None or int(found[1]) != start:
            raise StoreError(
                f"{self.url} answers with another range of {key}: {said[:60]!r}",
                hint="use a server with range requests",
            )

    def _asked(self, key: str, size: int, once: Callable[[], _T]) -> _T:
        """Ask, with retries after temporary failures; all attempts share the same limits."""
        check_key(key)
        with allowed(self.url, key, size * len(_PAUSES_S)):
            for pause_s in _PAUSES_S:
                try:
                    return once()
                except _Passing as error:
                    problem = StoreError(
                        f"{self.url} answers {error} for {key}", hint="try again later"
                    )
                except (ValueError, OverflowError) as error:
                    raise StoreError(
                        f"{self.url} sent an invalid answer for {key}: {error}"
                    ) from error
                except urllib3.exceptions.SSLError as error:
                    hint = "if its authority is your own: SSL_CERT_FILE=FILE names its certificate"
                    raise StoreError(
                        f"{self.url} has no valid certificate: {_reason(error)}", hint=hint
                    ) from error
                except urllib3.exceptions.HTTPError as error:
                    hint = "check its address and the network; what was downloaded is kept"
                    problem = StoreError(f"{self.url}: {_reason(error)}", hint=hint)
                time.sleep(pause_s)
        raise problem

    @contextmanager
    def answer(
        self,
        method: str,
        key: str,
        headers: dict[str, str] | None = None,
        *,
        also: tuple[int, ...] = (),
    ) -> Iterator[Any]:
        """Send one request, follow its redirects, and yield the answer.

        The connection is closed after the block if anything is left on it.

        Raises:
            NotFound: The object does not exist or is not public; many servers do not tell which.
            StoreError: The server sends it packed, wants credentials, or redirects too often or not
                to https.
        """
        place = f"{self.url}/{quote(check_key(key), safe='/~')}"
        wanted = {"Accept-Encoding": "identity", "User-Agent": "slipway", **(headers or {})}
        for _ in range(_REDIRECTS + 1):
            answer = self._manager(place).request(
                method,
                place,
                headers=wanted,
                preload_content=False,
                decode_content=False,
                redirect=False,
                retries=False,
            )
            try:
                if answer.status not in (301, 302, 303, 307, 308):
                    self._require_success(
                        key, answer, (200, 206, 416) if "Range" in wanted else (200, *also)
                    )
                    yield answer
                    return
                place = self._redirected(place, answer.headers.get("Location", ""))
            finally:
                answer.close()
        raise StoreError(
            f"{self.url} redirects {key} more than {_REDIRECTS} times", hint="check its address"
        )

    def _redirected(self, place: str, location: str) -> str:
        target = urljoin(place, location)
        parts = urlsplit(target)
        local = (
            self.url.startswith("http:") and parts.scheme == "http" and parts.hostname in _LOOPBACK
        )
        if (
            not location
            or not (parts.scheme == "https" or local)
            or not parts.hostname
            or parts.username is not None
        ):
            raise StoreError(
                f"{self.url} redirects to {location!r}, which is not https",
                hint="tell its administrator",
            )
        return target

    def _require_success(self, key: str, answer: Any, good: tuple[int, ...]) -> None:
        status = answer.status
        if status in (404, 410):
            raise NotFound(f"there is no {key} in {self.url}")
        if status == 403:
            hint = "check the URL, and that anybody may read there"
            raise NotFound(f"{key} is not there or not public in {self.url} (403)", hint=hint)
        if status == 401:
            hint = "its administrator can let anybody read"
            raise StoreError(f"{self.url} asks for credentials for {key} (401)", hint=hint)
        if status in _PASSING:
            raise _Passing(str(status))
        if status not in good:
            raise StoreError(f"{self.url} answers {status} for {key}", hint="check its address")
        _require_length(answer.headers.get("Content-Length", "0"))
        packed = answer.headers.get("Content-Encoding", "identity").strip().lower()
        if packed != "identity":
            raise StoreError(
                f"{self.url} sends {key} compressed: {packed[:40]!r}",
                hint="its server has to send files as they are",
            )

    def _manager(self, place: str) -> Any:
        """Return the connections for a URL, through the environment's proxy if it has one."""
        parts = urlsplit(place)
        proxy = (
            None
            if urllib.request.proxy_bypass(parts.hostname or "")
            else urllib.request.getproxies().get(parts.scheme)
        )
        if proxy not in self._managers:
            options: dict[str, Any] = {
                "ssl_context": ssl.create_default_context(),
                "timeout": _TIMEOUT,
                "maxsize": 8,
            }
            if proxy is None:
                manager = urllib3.PoolManager(**options)
            else:
                auth = urllib3.util.parse_url(proxy).auth
                secret = urllib3.make_headers(proxy_basic_auth=auth) if auth else None
                manager = urllib3.ProxyManager(proxy, proxy_headers=secret, **options)
            pools = {
                "http": paced(urllib3.HTTPConnectionPool),
                "https": paced(urllib3.HTTPSConnectionPool),
            }
            manager.pool_classes_by_scheme = pools
            self._managers[proxy] = manager
        return self._managers[proxy]

    @cached_property
    def _managers(self) -> dict[str | None, Any]:
        return {}


class _Whole:
    """An object sent only whole by its server: one answer, read from begin to end, range by range.

    Concurrent readers take turns, the lowest range first. A range before the current position makes
    the server begin again.
    """

    def __init__(self, store: HttpsStore) -> None:
        self._store = store
        self._turn = threading.Condition()
        self._waiting: list[int] = []
        self._busy = False
        self._key = ""
        self._at = 0
        self._open: Any = None

    def has(self, key: str) -> bool:
        """Return True if this object is known to be sent only whole."""
        return self._key == key

    def read(self, key: str, start: int, length: int) -> bytes:
        """Return a range."""
        with self._in_turn(start):
            if self._key != key or self._open is None or start < self._at:
                self._close()
                self._key = key
            return self._store._asked(key, start + length, lambda: self._take(key, start, length))

    def _take(self, key: str, start: int, length: int) -> bytes:
        try:
            if self._open is None:
                self._open = self._store.answer("GET", key)
                self._answer = self._open.__enter__()
            while self._at < start:
                skipped = take(self._answer, min(1 << 20, start - self._at))
                if not skipped:
                    return b""
                self._at += len(skipped)
            data = take(self._answer, length)
            self._at += len(data)
        except BaseException:
            self._close()
            raise
        return data

    def _close(self) -> None:
        if self._open is not None:
            self._open.__exit__(None, None, None)
        self._open, self._at = None, 0

    @contextmanager
    def _in_turn(self, start: int) -> Iterator[None]:
        with self._turn:
            self._waiting.append(start)
            self._turn.wait_for(lambda: not self._busy and start == min(self._waiting))
            self._waiting.remove(start)
            self._busy = True
        try:
            yield
        finally:
            with self._turn:
                self._busy = False
                self._turn.notify_all()


def take(answer: Any, limit: int) -> bytes:
    """Read an answer's body, at most ``limit`` bytes."""
    parts = []
    while limit and (data := answer.read(min(limit, 1 << 20))):
        parts.append(data)
        limit -= len(data)
    return b"".join(parts)


def _status(key: str, size: str, answer: Any) -> Status:
    _require_length(size)
    said = answer.headers.get("Last-Modified")
    return Status(
        key=key, size=int(size), modified=parsedate_to_datetime(said).timestamp() if said else 0.0
    )


def _require_length(text: str) -> None:
    if not re.fullmatch("[0-9]{1,18}", text):
        raise ValueError(f"a length of {text[:40]!r}")


def _reason(error: Exception) -> str:
    """Return the innermost reason of an error, on one line."""
    while isinstance(error.args[-1] if error.args else None, Exception):
        error = error.args[-1]
    return (str(error).strip().partition("\n")[0] or type(error).__name__)[:300]
