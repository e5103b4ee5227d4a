"""A user without an account: a published channel behind a web server with TLS, read by the
commands.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from example_release import write_example
from slipway.channels.keys import init
from web_server import WebServer, certificate, web_server

ROOT = Path(__file__).parents[2]
WRITING = {
    "publish": ("--folder=build",),
    "promote": ("example", "--yes"),
    "rollback": ("example", "--yes"),
    "withdraw": ("example", "--build=b1", "--reason=a test", "--yes"),
    "prune": (),
    "gc": ("--dry-run",),
    "refresh": (),
    "catalog": (),
}


@dataclass
class User:
    """Somebody with a folder, a certificate of the server's authority, and no keys."""

    folder: Path
    server: WebServer
    pem: Path

    def invoke(self, *words: str, status: int = 0, keys: str = "no-keys") -> str:
        """Run a command; returns what it printed, or its error."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("SLIPWAY_", "AWS_")) and name != "CI"
        }
        own = {
            "SLIPWAY_CACHE": str(self.folder / "cache"),
            "SLIPWAY_KEYS": str(self.folder / keys),
            "XDG_STATE_HOME": str(self.folder / f"state-{keys}"),
            "PYTHONPATH": str(ROOT / "src"),
            "SSL_CERT_FILE": str(self.pem),
            "no_proxy": "127.0.0.1",
        }
        argv = [sys.executable, "-P", "-m", "slipway", f"--search-root={self.folder}", *words]
        done = subprocess.run(
            argv, env=kept | own, cwd=self.folder, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout if status == 0 else done.stderr


@pytest.fixture
def user(tmp_path: Path) -> Iterator[User]:
    pem = certificate(tmp_path)
    with web_server(pem) as server:
        user = User(tmp_path, server, pem)
        write_example(tmp_path / "build", 1)
        init("nightly", tmp_path / "keys")
        user.invoke("publish", "--folder=build", "--store=store", keys="keys")
        server.folder = tmp_path / "store"
        yield user


def trust(user: User) -> None:
    (user.folder / "trust").mkdir()
    root = (user.folder / "keys/nightly/1.root.json").read_bytes()
    (user.folder / "trust/nightly.root.json").write_bytes(root)


@pytest.mark.parametrize("missing", [404, 403])
def test_channels_verify_and_fetch_need_a_root_and_nothing_else(user: User, missing: int) -> None:
    user.server.missing = missing
    store = f"--store={user.server.url}"
    trust(user)
    assert user.invoke("channels", store).splitlines()[1].split()[:2] == ["nightly", "example"]
    said = user.invoke("verify", store).splitlines()
    assert said[0].startswith("nightly: ")
    assert said[-1] == (
        "not looked at: channels that are not trusted here, and what belongs to no channel; "
        "a web server has no listing"
    )
    fetched = Path(
        user.invoke("fetch", "example", "--channel=nightly", "--out=images", store)
        .strip()
        .splitlines()[-1]
    )
    (original,) = (user.folder / "build").glob("*.qcow2")
    assert (user.folder / fetched).read_bytes() == original.read_bytes()


@pytest.mark.parametrize("missing", [404, 403])
def test_a_channel_that_was_never_there_is_no_tampering(user: User, missing: int) -> None:
    user.server.missing = missing
    trust(user)
    root = user.folder / "trust/nightly.root.json"
    (user.folder / "trust/nightli.root.json").write_bytes(root.read_bytes())
    for words in ("verify nope", "verify nightli", "verify nightly nope"):
        name = words.split()[-1]
        said = user.invoke(*words.split(), f"--store={user.server.url}", status=6)
        assert said[said.index("error:") :].startswith(
            f"error: {user.server.url} has no channel {name}\n  hint: "
        ), words


def test_a_web_server_without_pages_gets_them_from_its_publisher(user: User) -> None:
    trust(user)
    assert user.invoke("serve", f"--store={user.server.url}", status=6) == (
        f"error: {user.server.url} has no pages\n  hint: its publisher makes them: invoke catalog\n"
    )


def test_a_channel_that_is_not_trusted_here_is_not_asked_for(user: User) -> None:
    for task in ("channels", "verify"):
        said = user.invoke(task, f"--store={user.server.url}", status=4)
        assert said[said.index("error:") :] == (
            f"error: {user.server.url} has no channel that is trusted here, and a web server "
            "cannot be listed\n"
            "  hint: put the root of a channel, from its publisher, "
            f"into {user.folder}/trust/CHANNEL.root.json\n"
        )
    assert user.server.requests == []


@pytest.mark.parametrize("task", WRITING)
def test_what_would_write_is_refused_before_anything_is_asked(user: User, task: str) -> None:
    assert user.invoke(
        task, *WRITING[task], f"--store={user.server.url}", status=6, keys="keys"
    ) == (
        f"error: {user.server.url} can only be read\n"
        "  hint: change it where it is kept: name its folder, or its s3:// URL\n"
    )
    assert user.server.requests == []


def test_what_a_mirror_changed_is_found(user: User) -> None:
    trust(user)
    (image,) = (user.folder / "store/targets").rglob("*.qcow2")
    image.chmod(0o644)
    image.write_bytes(image.read_bytes()[:-1] + b"!")
    store = f"--store={user.server.url}"
    assert "is not what was published" in user.invoke("verify", store, status=7)
    user.invoke("fetch", "example", "--channel=nightly", "--out=images", store, status=7)
    assert not list((user.folder / "images").glob("*.qcow2"))
