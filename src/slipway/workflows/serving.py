"""A store's pages on this machine's loopback: a small web server for stores without one.

What goes in: a store and a port. What comes out: its pages, downloads and feeds over HTTP/1.1, with
byte ranges.

Invariants: it only reads. It listens on 127.0.0.1 and answers only requests with this host. So no
other site's name leads a browser here (DNS rebinding). Objects go through memory in parts.
"""

from __future__ import annotations

import http.server
import mimetypes
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from slipway.errors import HostError, UserError
from slipway.stores import check_key

if TYPE_CHECKING:
    from slipway.stores import Store

__all__ = ["FIRST", "Server"]

FIRST: Final = "www/index.html"
_HOST: Final = "127.0.0.1"
_PART: Final = 8 << 20
#: What a store shows to everybody: not its locks, nor what is being uploaded.
_SHOWN: Final = re.compile(
    r"(?:www|targets|releases|metadata|streams|vsphere)/.+|lib\.json|items\.json"
)
_RANGE: Final = re.compile(r"bytes=([0-9]{1,15})-([0-9]{0,15})")


class Server(http.server.ThreadingHTTPServer):
    """A server until it is stopped.

    Args:
        port: 0 for any free one.

    Raises:
        HostError: The server cannot listen on the port.
    """

    daemon_threads = True

    def __init__(self, store: Store, port: int) -> None:
        self.store = store
        try:
            super().__init__((_HOST, port), _Handler)
        except (OSError, OverflowError) as error:
            raise HostError(
                f"cannot listen on {_HOST}:{port}: {error}", hint="--port 0 takes any that is free"
            ) from error

    @property
    def url(self) -> str:
        """The address of its first page."""
        return f"http://{_HOST}:{self.server_port}/{FIRST}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "slipway", ""
    timeout = 60

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the terminal belongs to its user."""

    def _answer(self, *, body: bool) -> None:
        host = self.headers.get("Host", "").rpartition(":")[0]
        if host not in (_HOST, "localhost"):
            self._refuse(HTTPStatus.MISDIRECTED_REQUEST, "ask 127.0.0.1")
            return
        key = unquote(urlsplit(self.path).path).removeprefix("/")
        if key in ("", "www", "www/"):
            self.send_response(HTTPStatus.FOUND)
            self.send_header("Location", f"/{FIRST}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        try:
            status = self.server.store.stat(check_key(key)) if _SHOWN.fullmatch(key) else None
        except UserError as error:
            self._refuse(HTTPStatus.BAD_GATEWAY, error.message)
            return
        if status is None:
            self._refuse(HTTPStatus.NOT_FOUND, "there is no such object")
        else:
            self._object(key, status.size, body=body)

    def _object(self, key: str, total: int, *, body: bool) -> None:
        asked = _RANGE.fullmatch(self.headers.get("Range", ""))
        start = int(asked[1]) if asked else 0
        end = min(int(asked[2]) + 1, total) if asked and asked[2] else total
        if asked and start >= end:
            self.send_response(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
            self.send_header("Content-Range", f"bytes */{total}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(HTTPStatus.PARTIAL_CONTENT if asked else HTTPStatus.OK)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{total}")
        self.send_header("Content-Type", _type(key))
        self.send_header("Content-Length", str(end - start))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-cache")
        self.end_headers()
        while body and start < end:
            try:
                part = self.server.store.read_range(key, start, min(_PART, end - start))
            except UserError:
                part = b""
            if not part:  # it went away, or the store did: a body that is too short tells
                self.close_connection = True
                return
            self.wfile.write(part)
            start += len(part)

    def _refuse(self, status: HTTPStatus, text: str) -> None:
        data = f"{text}\n".encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def _type(key: str) -> str:
    """Return the media type of an object, as an object store would."""
    kind = mimetypes.guess_type(key)[0] or "application/octet-stream"
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind
