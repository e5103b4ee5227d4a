"""An S3 server that sends without an end, or so slowly that no socket is ever late.

Its bucket belongs to an enemy.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from slipway.errors import StoreError
from slipway.stores import MAX_LISTED, TooLarge
from slipway.stores.s3 import S3Store
from slipway.stores.s3.options import parse
from web_server import WebServer, web_server

pytestmark = [pytest.mark.timeout(60), pytest.mark.integration]
MIB = 1 << 20
OK = b"HTTP/1.1 200 OK\r\nETag: x\r\n"


@pytest.fixture
def server() -> Iterator[WebServer]:
    with web_server(None) as running:
        yield running


@pytest.fixture
def store(server: WebServer, monkeypatch: pytest.MonkeyPatch) -> S3Store:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "no_proxy": "127.0.0.1",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    store = S3Store(parse(f"s3://bucket?endpoint_url={server.url}&addressing=path&single_writer=1"))
    _ = store.client  # reading botocore's descriptions takes a second that is not the server's
    return store


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slipway.stores._pace.PATIENCE_S", 0.5)


def raw(*parts: bytes, again: bytes = b"", pause_s: float = 0.0) -> Callable[[Any], None]:
    """Send bytes as they are, the last ones again and again, until the client hangs up."""

    def misdeed(handler: Any) -> None:
        handler.wfile.write(b"".join(parts))
        ended = time.monotonic() + 40
        while again and time.monotonic() < ended:
            handler.wfile.write(again)
            time.sleep(pause_s)

    return misdeed


@pytest.mark.parametrize("length", [b"", b"Content-Length: 99999999999\r\n"])
def test_an_endless_body_is_read_up_to_the_limit(
    store: S3Store, server: WebServer, length: bytes
) -> None:
    server.misdeed = raw(OK, length, b"\r\n", again=b"x" * 65_536)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(TooLarge) as caught:
        store.read("a", limit=MIB)
    assert caught.value.message == f"a in s3://bucket is larger than {MIB} bytes"
    assert len(store.read_range("a", 0, MIB)) == MIB
    with pytest.raises(StoreError):
        store.create_file("a", Path(__file__), sha256="0" * 64)
    assert store._same("a", b"small") is None
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    "misdeed",
    [
        raw(OK, b"Content-Length: 9000\r\n\r\n", again=b"x", pause_s=0.05),
        raw(OK, b"X: ", again=b"x", pause_s=0.05),
        raw(again=b"HTTP/1.1 100 Continue\r\n\r\n", pause_s=0.05),
        raw(b"HTTP/1.1 404 No\r\n\r\n", again=b"x", pause_s=0.05),
    ],
    ids=["body", "headers", "interim answers", "an error's body"],
)
def test_what_drips_ends_in_an_error(
    store: S3Store, server: WebServer, misdeed: Callable[[Any], None]
) -> None:
    server.misdeed = misdeed
    acts: list[tuple[str, Callable[[], object]]] = [
        ("a", lambda: store.read("a")),
        ("a", lambda: store.read_range("a", 0, 10_000)),
        ("the list of m/", lambda: list(store.list("m/"))),
    ]
    for what, act in acts:
        started = time.monotonic()
        with pytest.raises(StoreError) as caught:
            act()
        assert caught.value.message == (
            f"s3://bucket sends {what} too slowly: less than 4096 bytes a second for 0.5 seconds"
        )
        assert time.monotonic() - started < 20


@pytest.mark.parametrize("status", [b"200 OK", b"404 No", b"500 No"])
def test_an_endless_answer_without_an_object_is_cut(
    store: S3Store, server: WebServer, status: bytes
) -> None:
    """botocore itself would read the whole of a listing or of an error's page into memory."""
    server.misdeed = raw(b"HTTP/1.1 " + status + b"\r\n\r\n<x>", again=b"<a/>" * 20_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(StoreError) as caught:
        list(store.list("m/"))
    assert (
        caught.value.message == f"s3://bucket sends more than {16 * MIB} bytes for the list of m/"
    )
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


def pages(server: WebServer, entries: Callable[[int], list[str]]) -> None:
    """Answer each request with one more page of a listing that never ends."""
    numbers = count()
    entry = (
        "<Contents><Key>{}</Key><Size>1</Size>"
        "<LastModified>2026-01-01T00:00:00Z</LastModified></Contents>"
    )

    def misdeed(handler: Any) -> None:
        number = next(numbers)
        listed = "".join(entry.format(key) for key in entries(number))
        body = (
            f"<ListBucketResult><IsTruncated>true</IsTruncated>{listed}"
            f"<NextContinuationToken>{number}</NextContinuationToken></ListBucketResult>"
        ).encode()
        handler.wfile.write(OK + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)

    server.misdeed = misdeed


def test_a_listing_that_goes_round_is_noticed(store: S3Store, server: WebServer) -> None:
    pages(server, lambda number: [f"m/{number % 2}"])
    with pytest.raises(StoreError) as caught:
        list(store.list("m/"))
    assert str(caught.value) == (
        "error: s3://bucket lists 'm/0' out of order\n  hint: use a server that sorts its listings"
    )


def test_a_listing_of_other_keys_than_asked_for_is_refused(
    store: S3Store, server: WebServer
) -> None:
    pages(server, lambda number: [f"other/{number}"])
    with pytest.raises(StoreError):
        list(store.list("m/"))


@pytest.mark.parametrize(
    "entries", [lambda number: [], lambda number: [f"m/{number:09}"]], ids=["empty pages", "keys"]
)
def test_a_listing_without_an_end_has_one(
    store: S3Store,
    server: WebServer,
    monkeypatch: pytest.MonkeyPatch,
    entries: Callable[[int], list[str]],
) -> None:
    assert MAX_LISTED == 250_000
    monkeypatch.setattr("slipway.stores.s3.MAX_LISTED", 20)
    pages(server, entries)
    with pytest.raises(StoreError) as caught:
        list(store.list("m/"))
    assert caught.value.message == "s3://bucket lists more than 20 objects"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n<xx>",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 500 No\r\nContent-Length: 1\r\n\r\n<",
    ],
)
def test_nonsense_is_an_error_and_no_traceback(
    store: S3Store, server: WebServer, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    server.misdeed = raw(answer)
    acts: list[Callable[[], object]] = [
        lambda: store.read("a", limit=2),
        lambda: store.read_range("a", 2, 2),
        lambda: store.stat("a"),
        lambda: store.swap("a", b"1", etag="x"),
        store.now,
        lambda: store.renew("a"),
        lambda: store.sweep(0),
    ]
    failed = 0
    for act in acts:
        try:
            act()
        except StoreError:
            failed += 1
    assert failed >= 3
