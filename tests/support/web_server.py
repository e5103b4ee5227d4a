"""A web server on loopback, with TLS and a certificate of its own authority, that serves objects
and misbehaves on demand.
"""

from __future__ import annotations

import datetime
import ipaddress
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

__all__ = ["Misdeed", "WebServer", "certificate", "web_server"]

#: Writes an answer of its own to a connection; returns when the client has had enough.
Misdeed = Callable[["_Handler"], None]


def certificate(folder: Path, name: str = "localhost") -> Path:
    """Make a certificate of its own authority for loopback; returns a file with it and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName(name), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName(names if name == "localhost" else names[:1]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / f"{name}.pem"
    path.write_bytes(secret + made.public_bytes(serialization.Encoding.PEM))
    return path


@dataclass
class WebServer:
    """What is served: objects by path, or files below a folder.

    ``requests`` notes the method, the path and the range of each; ``misdeed`` answers instead of
    the server where its result is not False; ``missing`` is the status for what is not there.
    """

    objects: dict[str, bytes] = field(default_factory=dict)
    folder: Path | None = None
    misdeed: Misdeed | None = None
    ranges: bool = True
    head: bool = True
    etags: bool = True
    missing: int = 404
    url: str = ""
    requests: list[tuple[str, str, str]] = field(default_factory=list)

    def content(self, path: str) -> bytes | None:
        """Return an object's content; None if it is not there."""
        if self.folder is None:
            return self.objects.get(path)
        file = self.folder / path
        return file.read_bytes() if file.is_file() else None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    served: WebServer

    def do_GET(self) -> None:
        path = unquote(self.path.lstrip("/"))
        self.served.requests.append((self.command, path, self.headers.get("Range", "")))
        if self.served.misdeed is not None:
            self.close_connection = True
            with suppress(OSError):
                self.served.misdeed(self)
            return
        data = self.served.content(path)
        if data is None:
            self._answer(self.served.missing, b"no", {})
        elif self.command == "HEAD" and not self.served.head:
            self._answer(405, b"", {})
        else:
            self._content(data)

    do_HEAD = do_GET

    def _content(self, data: bytes) -> None:
        etag = f'"{hash(data)}"'
        fields = {"ETag": etag} if self.served.etags else {}
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if not asked or not self.served.ranges or self.headers.get("If-Range", etag) != etag:
            return self._answer(200, data, fields)
        start, end = int(asked[1]), min(int(asked[2]), len(data) - 1)
        if start >= len(data):
            return self._answer(416, b"", {"Content-Range": f"bytes */{len(data)}"})
        self._answer(
            206,
            data[start : end + 1],
            fields | {"Content-Range": f"bytes {start}-{end}/{len(data)}"},
        )

    def _answer(self, status: int, body: bytes, fields: Mapping[str, str]) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Last-Modified", self.date_time_string())
        for name, value in fields.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            with suppress(OSError):
                self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def handle_error(self, *_: Any) -> None:
        """Say nothing: clients hang up on purpose."""

    def shutdown_request(self, request: Any) -> None:
        with suppress(OSError):
            request.shutdown(socket.SHUT_RDWR)
        self.close_request(request)


@contextmanager
def web_server(certificate: Path | None) -> Iterator[WebServer]:
    """Run a server; without a certificate it speaks plain HTTP."""
    served = WebServer()
    handler = type("Handler", (_Handler,), {"served": served})
    server = _Server(("127.0.0.1", 0), handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    served.url = f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
