"""Mirrors come from the settings or from the host's apt, never from here."""

from __future__ import annotations

import base64
import dataclasses
import os
import subprocess
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from slipway.errors import BuildError, HostError, redacted
from slipway.host import process
from slipway.packages import mirror
from slipway.packages.mirror import download, find_mirrors, sources, with_sources
from slipway.settings import Settings
from slipway.spec.library import Library
from slipway.spec.model import AptSource

ROOT = Path(__file__).parents[3]
HINT = (
    "say which mirror of Debian to use: SLIPWAY_MIRROR=http://<mirror>/debian, or in slipway.toml: "
    'mirror = "http://<mirror>/debian"'
)


def answer(monkeypatch: pytest.MonkeyPatch, lines: list[str]) -> list[int]:
    """Let apt's answer be these lines; the list grows by one each time it is asked."""
    asked: list[int] = []

    def targets(form: str, *options: str) -> list[str]:
        asked.append(1)
        return [] if options else lines

    monkeypatch.setattr(mirror, "_targets", targets)
    return asked


def test_settings_win(tmp_path: Path) -> None:
    given = {
        "debian": "http://one.example/debian",
        "debian-security": "http://two.example/security",
    }
    assert find_mirrors(Settings(cache=tmp_path, mirror=given)) == given


def served(folder: Path, needed: str) -> tuple[ThreadingHTTPServer, list[str]]:
    """A server on the loopback that shows a folder to those who log in, and the requests that it
    answered.
    """
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *words: Any) -> None:
            super().__init__(*words, directory=str(folder))

        def do_GET(self) -> None:
            if (
                self.headers.get("Authorization")
                == f"Basic {base64.b64encode(needed.encode()).decode()}"
            ):
                asked.append(self.path)
                return super().do_GET()
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="x"')
            self.end_headers()
            return None

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, asked


def test_a_password_reaches_the_mirror_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in no argument, no log and no error.

    The file that apt gets is this user's alone and is gone afterwards.
    """
    (tmp_path / "www/debian").mkdir(parents=True)
    (tmp_path / "www/debian/there").write_text("content")
    server, asked = served(tmp_path / "www", "user:spi@ed")
    ran: list[list[str]] = []
    started = process.run

    def watched(argv: Any, **options: Any) -> process.Completed:
        ran.append([str(word) for word in argv])
        (file,) = [
            word.partition("=")[2] for word in ran[-1] if word.startswith("-oDir::Etc::netrc=")
        ]
        assert Path(file).stat().st_mode & 0o777 == 0o600
        assert "spi@ed" in Path(file).read_text()
        return started(argv, **options)

    monkeypatch.setattr(process, "run", watched)
    host = f"127.0.0.1:{server.server_address[1]}"
    try:
        uris = find_mirrors(
            Settings(cache=tmp_path, mirror={"debian": f"http://user:spi%40ed@{host}/debian"})
        )
        assert uris == {"debian": f"http://{host}/debian"}
        log = tmp_path / "log"
        download([(f"{uris['debian']}/there", tmp_path / "got", "")], log)
        assert (tmp_path / "got").read_text() == "content"
        assert asked == ["/debian/there"]
        with pytest.raises(BuildError) as caught:
            download(
                [(f"http://user:spi%40ed@{host}/debian/missing", tmp_path / "missing", "")], log
            )
    finally:
        server.shutdown()
        server.server_close()
    for text in (str(caught.value), log.read_text(), str(ran)):
        assert "spi" not in text
    (file,) = {word.partition("=")[2] for word in ran[0] if "netrc" in word}
    assert not Path(file).exists()


def test_what_is_remembered_of_the_hosts_mirrors_is_this_users_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch, ["Debian|Debian|http://user:spied@one.example/debian/"])
    before = os.umask(0)
    try:
        found = find_mirrors(Settings(cache=tmp_path))
    finally:
        os.umask(before)
    assert found == {
        "debian": "http://one.example/debian",
        "debian-security": "http://one.example/debian-security",
    }
    for file in tmp_path.rglob("*"):
        assert "spied" not in file.read_text() or file.stat().st_mode & 0o077 == 0, file


def test_no_error_shows_the_password_of_a_uri() -> None:
    error = BuildError(
        "no answer: http://user:spied@one.example/x", hint='try "https://user:spied@two.example"'
    )
    assert (
        str(error)
        == 'error: no answer: http://***@one.example/x\n  hint: try "https://***@two.example"'
    )
    for text in ("mail someone@example.org", "see https://one.example/@user", "s3://bucket/prefix"):
        assert redacted(text) == text


def test_apt_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [
        "Other|Debian|http://other.example/",
        "Debian|Debian|cdrom:[Debian]/",
        "Debian|Debian Backports|http://ports.example/debian/",
        "Debian|Debian|http://one.example/debian/",
        "Debian|Debian|http://later.example/debian/",
        "Debian|Debian-Security|https://two.example/security/",
    ]
    asked = answer(monkeypatch, lines)
    expected = {
        "debian": "http://one.example/debian",
        "debian-security": "https://two.example/security",
    }
    assert find_mirrors(Settings(cache=tmp_path)) == expected
    assert find_mirrors(Settings(cache=tmp_path)) == expected
    assert len(asked) == 1


def test_of_a_list_of_mirrors_the_first_one_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "debian.list").write_text(
        "# comment\n\nhttp://one.example/debian\tpriority:1\nhttp://two.example/debian\n"
    )
    answer(monkeypatch, [f"Debian|Debian|mirror+file:{tmp_path}/debian.list/"])
    assert find_mirrors(Settings(cache=tmp_path)) == {
        "debian": "http://one.example/debian",
        "debian-security": "http://one.example/debian-security",
    }


def test_a_host_of_another_distribution_has_to_be_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch, ["Ubuntu|Ubuntu|http://ubuntu.example/ubuntu/"])
    with pytest.raises(HostError) as caught:
        find_mirrors(Settings(cache=tmp_path))
    assert (
        str(caught.value)
        == f"error: this host's package sources hold no mirror of Debian\n  hint: {HINT}"
    )


CLOUD = """\
system_info:
   package_mirrors:
     - arches: [default]
       failsafe:
         primary: https://public.example/debian
         security: https://public.example/debian-security
"""


def test_an_image_gets_the_mirror_that_is_set_for_it() -> None:
    base = dataclasses.replace(Library(ROOT).base("debian-13"), components=("main", "contrib"))
    assert sources(base, {"debian": "http://one.example:8080/debian"}) == (
        "Types: deb\nURIs: http://one.example:8080/debian\nSuites: trixie trixie-updates\n"
        "Components: main contrib\n"
        "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n"
        "Types: deb\nURIs: @security@\nSuites: trixie-security\nComponents: main contrib\n"
        "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
    )


def finish(tree: Path, text: str, cloud: str) -> subprocess.CompletedProcess[str]:
    """Run what replaces the marks in a tree's sources."""
    (tree / "etc/apt/sources.list.d").mkdir(parents=True)
    (tree / "etc/cloud").mkdir()
    (tree / "etc/apt/sources.list.d/debian.sources").write_text(text)
    (tree / "etc/cloud/cloud.cfg").write_text(cloud)
    script = ROOT / "templates/mmdebstrap/mirrors.sh"
    return subprocess.run(
        ["sh", script, tree], capture_output=True, text=True, timeout=20, check=False
    )


def test_an_image_gets_the_public_mirrors_that_its_own_cloud_init_names(tmp_path: Path) -> None:
    base = Library(ROOT).base("debian-13")
    assert finish(tmp_path, sources(base, {}), CLOUD).returncode == 0
    given = {
        "debian": "https://public.example/debian",
        "debian-security": "https://public.example/debian-security",
    }
    assert (tmp_path / "etc/apt/sources.list.d/debian.sources").read_text() == sources(base, given)


@pytest.mark.parametrize(
    "cloud",
    [
        "",
        CLOUD.replace("https:", "file:"),
        CLOUD + "         primary: http://other.example/debian\n",
    ],
)
def test_a_tree_that_names_no_one_public_mirror_is_an_error(tmp_path: Path, cloud: str) -> None:
    done = finish(tmp_path, sources(Library(ROOT).base("debian-13"), {}), cloud)
    message = (
        "error: /etc/cloud/cloud.cfg of this tree does not name one primary mirror: say which with "
        "SLIPWAY_IMAGE_MIRROR\n"
    )
    assert (done.returncode, done.stderr) == (1, message)


def test_a_source_of_a_spec_can_be_fetched_from_somewhere_else() -> None:
    source = AptSource(
        name="vendor",
        url="https://vendor.example/apt/",
        suite="stable",
        signed_by="/etc/apt/keyrings/vendor.asc",
    )
    assert with_sources({"debian": "http://m"}, [source])["vendor"] == "https://vendor.example/apt"
    assert (
        with_sources({"debian": "http://m", "vendor": "http://localhost/v"}, [source])["vendor"]
        == "http://localhost/v"
    )
