"""The store on a web server: the reading half of the contract over TLS, and what servers and
enemies answer.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import resource
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from slipway.channels.download import Wanted, download
from slipway.errors import StoreError, UsageError, VerificationError
from slipway.records.reference import ReleaseRef
from slipway.stores import NotFound, Store, TooLarge, open_store, read_only
from slipway.stores.https import HttpsStore
from store_contract import ReadingContract
from web_server import WebServer, certificate, web_server

pytestmark = [pytest.mark.timeout(60), pytest.mark.integration]
MIB = 1 << 20


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def server(pem: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WebServer]:
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with web_server(pem) as running:
        yield running


@pytest.fixture
def store(server: WebServer) -> Store:
    return open_store(f"{server.url}/some/prefix/")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slipway.stores._pace.PATIENCE_S", 0.5)


class TestReadingContract(ReadingContract):
    @pytest.fixture
    def filled(self, server: WebServer) -> Callable[[Mapping[str, bytes]], Store]:
        def fill(objects: Mapping[str, bytes]) -> Store:
            server.objects.update({f"p/{key}": data for key, data in objects.items()})
            return open_store(f"{server.url}/p")

        return fill


class TestWithoutRanges(TestReadingContract):
    @pytest.fixture(autouse=True)
    def without(self, server: WebServer) -> None:
        server.ranges = server.etags = server.head = False


class TestForbiddenInsteadOfMissing(TestReadingContract):
    missing = "no/thing is not there or not public in {url} (403)"

    @pytest.fixture(autouse=True)
    def forbidden(self, server: WebServer) -> None:
        server.missing = 403


def test_every_way_to_write_and_the_listing_are_refused(store: Store) -> None:
    assert read_only(store)
    acts: list[Callable[[], object]] = [
        lambda: store.create("a", b""),
        lambda: store.create_file("a", Path(__file__), sha256="0" * 64),
        lambda: store.swap("a", b"", etag=None),
        lambda: store.delete("a"),
        lambda: store.renew("a"),
        lambda: store.sweep(0),
        store.now,
    ]
    for act in acts:
        with pytest.raises(StoreError) as caught:
            act()
        assert str(caught.value) == (
            f"error: {store.url} can only be read\n"
            "  hint: change it where it is kept: name its folder, or its s3:// URL"
        )
        assert caught.value.exit_code == 6
    with pytest.raises(StoreError) as caught:
        store.list("metadata/")
    assert str(caught.value) == (
        f"error: {store.url} cannot be listed: web servers do not say what they have\n"
        "  hint: ask where it is kept: name its folder, or its s3:// URL"
    )


@pytest.mark.parametrize(
    ("url", "message", "hint"),
    [
        ("http://host/p", "http://host/p is not encrypted", "write https://host/p"),
        ("https://", "https:// names no host", "write https://host/prefix"),
        ("https://[", "https://[ is not a URL: Invalid IPv6 URL", "write https://host/prefix"),
        (
            "https://me:secret@host/p",
            "a store on a web server takes no credentials and no options",
            "write https://host/p",
        ),
        (
            "https://host/p?region=x",
            "a store on a web server takes no credentials and no options",
            "write https://host/p",
        ),
    ],
)
def test_a_url_that_is_wrong(url: str, message: str, hint: str) -> None:
    with pytest.raises((StoreError, UsageError)) as caught:
        open_store(url)
    assert (caught.value.message, caught.value.hint) == (message, hint)


def test_a_certificate_of_somebody_else_is_refused(
    store: Store, server: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.objects["some/prefix/a"] = b"1"
    for other in (certificate(tmp_path), certificate(tmp_path, "elsewhere.example")):
        monkeypatch.setenv("SSL_CERT_FILE", str(other))
        with pytest.raises(StoreError) as caught:
            open_store(store.url).read("a")
        assert caught.value.message.startswith(f"{store.url} has no valid certificate: ")
    assert server.requests == []


def test_a_server_for_another_name_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pem = certificate(tmp_path, "elsewhere.example")
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    with web_server(pem) as server, pytest.raises(StoreError) as caught:
        open_store(server.url).read("a")
    assert "has no valid certificate" in caught.value.message


def raw(*parts: bytes, again: bytes = b"", pause_s: float = 0.0) -> Callable[[Any], None]:
    """Send bytes as they are, the last ones again and again with pauses, until the client hangs
    up.
    """

    def misdeed(handler: Any) -> None:
        handler.wfile.write(b"".join(parts))
        ended = time.monotonic() + 40
        while again and time.monotonic() < ended:
            handler.wfile.write(again)
            time.sleep(pause_s)

    return misdeed


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
SLOW = "sends a too slowly: less than 4096 bytes a second for 0.5 seconds"
MUCH = "sends more than 30000 bytes for a"
DRIPS = {
    "body": raw(OK, b"Content-Length: 9000\r\n\r\n", again=b"x", pause_s=0.05),
    "body without a length": raw(OK, b"\r\n", again=b"x", pause_s=0.05),
    "chunks": raw(CHUNKED, again=b"1\r\nx\r\n", pause_s=0.05),
    "a chunk's size": raw(CHUNKED, again=b"0", pause_s=0.05),
    "headers": raw(OK, b"X: ", again=b"x", pause_s=0.05),
    "the status": raw(b"HTTP/1.1 ", again=b" ", pause_s=0.05),
    "interim answers": raw(again=b"HTTP/1.1 100 Continue\r\n\r\n", pause_s=0.05),
    "an error's body": raw(b"HTTP/1.1 500 No\r\n\r\n", again=b"x", pause_s=0.05),
    "silence": raw(OK, b"Content-Length: 9\r\n\r\n1", again=b"", pause_s=0),
}
FLOODS = {
    "interim answers": raw(again=b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
    "trailers": raw(CHUNKED, b"1\r\nx\r\n0\r\n", again=b"X: y\r\n" * 1000),
    "chunk extensions": raw(CHUNKED, again=b"1;" + b"x" * 60_000 + b"\r\nx\r\n"),
}


@pytest.mark.parametrize(
    "what", [name for name in DRIPS if name not in ("silence", "an error's body")]
)
@pytest.mark.usefixtures("impatient")
def test_what_drips_ends_in_an_error(store: Store, server: WebServer, what: str) -> None:
    server.misdeed = DRIPS[what]
    for act in (lambda: store.read("a", limit=10_000), lambda: store.read_range("a", 0, 10_000)):
        started = time.monotonic()
        with pytest.raises(StoreError) as caught:
            act()
        assert caught.value.message == f"{store.url} {SLOW}"
        assert time.monotonic() - started < 15


@pytest.mark.parametrize("what", FLOODS)
def test_what_floods_around_a_body_ends_in_an_error(
    store: Store, server: WebServer, what: str
) -> None:
    server.misdeed = FLOODS[what]
    with pytest.raises(StoreError) as caught:
        store.read("a", limit=10_000)
    assert caught.value.message == f"{store.url} {MUCH}"


@pytest.mark.parametrize(
    "length", [b"", b"Content-Length: 99999999999\r\n", b"Transfer-Encoding: chunked\r\n"]
)
def test_an_endless_body_is_read_up_to_the_limit(
    store: Store, server: WebServer, length: bytes
) -> None:
    chunk = b"x" * 65_536
    again = b"10000\r\n" + chunk + b"\r\n" if b"chunked" in length else chunk
    server.misdeed = raw(OK, length, b"\r\n", again=again)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(TooLarge) as caught:
        store.read("a", limit=MIB)
    assert caught.value.message == f"a in {store.url} is larger than {MIB} bytes"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB
    assert len(store.read_range("a", 0, MIB)) == MIB


def test_a_body_that_ends_too_early_is_an_error(store: Store, server: WebServer) -> None:
    server.misdeed = raw(OK, b"Content-Length: 9\r\n\r\n12345")
    for act in (lambda: store.read("a"), lambda: store.read_range("a", 0, 9)):
        with pytest.raises(StoreError) as caught:
            act()
        assert caught.value.message == f"{store.url}: IncompleteRead(5 bytes read, 4 more expected)"
    assert len(server.requests) == 6  # each was tried three times


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            OK + b"Content-Length: -5\r\n\r\n",
            "{url} sent an invalid answer for a: a length of '-5'",
        ),
        (
            OK + b"Content-Length: many\r\n\r\n",
            "{url} sent an invalid answer for a: a length of 'many'",
        ),
        (b"nonsense\r\n\r\n", None),
        (b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n", "{url} asks for credentials for a (401)"),
        (b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", "{url} answers 503 for a"),
        (b"HTTP/1.1 204 No\r\n\r\n", "{url} answers 204 for a"),
        (b"HTTP/1.1 206 Part\r\nContent-Length: 0\r\n\r\n", "{url} answers 206 for a"),
        (
            OK
            + b"Content-Encoding: gzip\r\nContent-Length: 40\r\n\r\n"
            + gzip.compress(b"x" * 100_000)[:40],
            "{url} sends a compressed: 'gzip'",
        ),
    ],
)
def test_an_answer_that_is_no_good(
    store: Store, server: WebServer, answer: bytes, message: str | None
) -> None:
    server.misdeed = raw(answer)
    with pytest.raises(StoreError) as caught:
        store.read("a")
    if message:
        assert caught.value.message == message.format(url=store.url)


@pytest.mark.parametrize(
    ("said", "body"),
    [
        (b"", b"123"),
        (b"Content-Range: bytes 5-7/9\r\n", b"123"),
        (b"Content-Range: bytes x\r\n", b"123"),
    ],
)
def test_another_range_than_asked_for_is_refused(
    store: Store, server: WebServer, said: bytes, body: bytes
) -> None:
    server.misdeed = raw(b"HTTP/1.1 206 Part\r\n", said, b"Content-Length: 3\r\n\r\n", body)
    with pytest.raises(StoreError) as caught:
        store.read_range("a", 2, 3)
    assert caught.value.message.startswith(f"{store.url} answers with another range of a: ")


def test_a_range_that_is_longer_than_asked_for_is_cut(store: Store, server: WebServer) -> None:
    server.misdeed = raw(
        b"HTTP/1.1 206 Part\r\nContent-Range: bytes 2-4/9\r\n\r\n", again=b"x" * 9000
    )
    assert store.read_range("a", 2, 3) == b"xxx"


def redirect(place: str) -> Callable[[Any], None]:
    return raw(f"HTTP/1.1 302 Found\r\nLocation: {place}\r\nContent-Length: 0\r\n\r\n".encode())


def test_redirects_lead_to_https_alone_and_are_counted(
    store: Store, server: WebServer, pem: Path
) -> None:
    with web_server(pem) as other, web_server(None) as plain:
        for each in (other, plain):
            each.objects["there"] = b"1"
        server.misdeed = redirect(f"{other.url}/there")
        assert store.read("a").data == b"1"
        for place in (
            f"{plain.url}/there",
            "file:///etc/passwd",
            "",
            f"https://me:secret@{other.url[8:]}/there",
            "https://[",
        ):
            server.misdeed = redirect(place)
            with pytest.raises(StoreError):
                store.read("a")
        assert plain.requests == []
    server.misdeed = redirect("/again")
    server.requests.clear()
    with pytest.raises(StoreError) as caught:
        store.read("a")
    assert caught.value.message == f"{store.url} redirects a more than 5 times"
    assert len(server.requests) == 6


def test_an_object_that_changes_between_two_ranges_is_noticed(
    store: Store, server: WebServer
) -> None:
    server.objects["some/prefix/a"] = b"0123456789"
    assert store.read_range("a", 0, 5) == b"01234"
    server.objects["some/prefix/a"] = b"abcdefghij"
    with pytest.raises(StoreError) as caught:
        store.read_range("a", 5, 5)
    assert str(caught.value) == (
        f"error: a in {store.url} was changed while it was read\n  hint: run the command again"
    )
    assert store.read_range("a", 5, 5) == b"fghij"


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_goes_on_where_it_was_stopped(
    store: Store, server: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ranges: bool
) -> None:
    monkeypatch.setattr("slipway.channels.download._RANGE", MIB)
    data = os.urandom(10 * MIB + 5)
    digest = hashlib.sha256(data).hexdigest()
    wanted = Wanted(ref=ReleaseRef("x", "1.0.0-a"), file="disk", size=len(data), sha256=digest)
    path = f"some/prefix/{wanted.key}"
    server.objects[path] = data
    server.ranges = ranges
    calls = count()
    inner = HttpsStore.read_range

    def cut(self: HttpsStore, key: str, start: int, length: int) -> bytes:
        if next(calls) == 6:
            raise StoreError("the network is gone")
        return inner(self, key, start, length)

    monkeypatch.setattr(HttpsStore, "read_range", cut)
    with pytest.raises(StoreError):
        download(store, wanted, tmp_path, threads=2)
    before = len(server.requests)
    assert download(store, wanted, tmp_path).read_bytes() == data
    if ranges:
        assert 5 <= len(server.requests) - before <= 8
    else:
        assert len(server.requests) < 16  # not one whole object for each range
    server.objects[path] = data[:-1] + bytes([data[-1] ^ 1])
    with pytest.raises(VerificationError):
        download(open_store(store.url), wanted, tmp_path / "other")


def test_a_server_that_is_not_there_is_an_error_with_a_hint(server: WebServer, pem: Path) -> None:
    with web_server(pem) as gone:
        url = gone.url
    with pytest.raises(StoreError) as caught:
        open_store(url).read("a")
    assert caught.value.hint == "check its address and the network; what was downloaded is kept"
    assert "Connection refused" in caught.value.message


def test_a_proxy_of_the_environment_is_used(
    server: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "")
    with web_server(None) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        with pytest.raises(StoreError):
            open_store(server.url).read("a")
    assert server.requests == []


def test_plain_http_is_for_loopback_alone() -> None:
    with web_server(None) as server:
        server.objects["a"] = b"1"
        assert open_store(server.url).read("a").data == b"1"


def test_a_missing_object_is_told_from_one_that_is_there(store: Store, server: WebServer) -> None:
    server.missing = 410
    with pytest.raises(NotFound):
        store.read("a")
