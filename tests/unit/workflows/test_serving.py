"""A store's pages on loopback: what a browser gets, and what nobody gets."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from slipway.errors import HostError
from slipway.stores.directory import DirectoryStore
from slipway.workflows.serving import Server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    store = DirectoryStore(tmp_path / "store")
    store.create("www/index.html", b"<!DOCTYPE html>")
    store.create("targets/web/1/abc.web.qcow2", bytes(range(256)) * 40_000)
    store.create("elsewhere/secret", b"secret")
    (tmp_path / "beside").write_text("secret")
    (tmp_path / "store/www/link").symlink_to(tmp_path / "beside")
    with Server(store, 0) as running:
        # It asks that often whether it is to end.
        thread = threading.Thread(target=running.serve_forever, args=[0.01])
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def ask(
    server: Server, path: str, method: str = "GET", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """The status, the headers and the body of an answer."""
    link = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    link.request(
        method, path, headers={name.replace("_", "-"): value for name, value in headers.items()}
    )
    answer = link.getresponse()
    body = answer.read()
    link.close()
    return answer.status, dict(answer.getheaders()), body


def test_the_first_page_is_where_a_browser_begins(server: Server) -> None:
    status, headers, _ = ask(server, "/")
    assert (status, headers["Location"]) == (302, "/www/index.html")
    assert server.url.endswith(headers["Location"])
    status, headers, body = ask(server, "/www/index.html?x=1")
    assert (status, headers["Content-Type"], body) == (
        200,
        "text/html; charset=utf-8",
        b"<!DOCTYPE html>",
    )


def test_an_image_comes_whole_in_parts_or_not_at_all(server: Server) -> None:
    whole = bytes(range(256)) * 40_000
    assert ask(server, "/targets/web/1/abc.web.qcow2")[2] == whole
    status, headers, body = ask(server, "/targets/web/1/abc.web.qcow2", Range="bytes=1000-1999")
    assert (status, headers["Content-Range"], body) == (
        206,
        f"bytes 1000-1999/{len(whole)}",
        whole[1000:2000],
    )
    assert ask(server, "/targets/web/1/abc.web.qcow2", Range="bytes=10239990-")[2] == whole[-10:]
    assert ask(server, "/targets/web/1/abc.web.qcow2", Range=f"bytes={len(whole)}-")[0] == 416
    status, headers, body = ask(server, "/targets/web/1/abc.web.qcow2", "HEAD")
    assert (status, headers["Content-Length"], body) == (200, str(len(whole)), b"")


@pytest.mark.parametrize(
    "path",
    [
        "/elsewhere/secret",
        "/.tmp/lock",
        "/www/../elsewhere/secret",
        "/www/%2e%2e/elsewhere/secret",
        "/www/link",
        "/www/none",
        "/www//x",
    ],
)
def test_nothing_but_what_a_store_shows(server: Server, path: str) -> None:
    status, _, body = ask(server, path)
    assert status in (404, 502)
    assert b"secret\n" not in body
    assert body != b"secret"


def test_another_sites_name_leads_no_browser_here(server: Server) -> None:
    assert ask(server, "/www/index.html", Host=f"evil.example:{server.server_port}")[0] == 421
    assert ask(server, "/www/index.html", Host=f"localhost:{server.server_port}")[0] == 200


def test_nothing_can_be_written(server: Server) -> None:
    for method in ("PUT", "POST", "DELETE"):
        assert ask(server, "/www/index.html", method)[0] == 501


def test_a_port_that_is_taken_is_an_error_with_a_way_out(server: Server) -> None:
    with pytest.raises(
        HostError, match=f"cannot listen on 127.0.0.1:{server.server_port}: "
    ) as caught:
        Server(server.store, server.server_port)
    assert caught.value.hint == "--port 0 takes any that is free"
