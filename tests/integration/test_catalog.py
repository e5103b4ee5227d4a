"""A store's streams, read over HTTPS by the client of Incus or LXD, whichever is here."""

from __future__ import annotations

import functools
import hashlib
import http.server
import os
import shutil
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from example_disk import ABOUT
from example_release import write_release_folder
from real_tools import need_one_of
from slipway.catalog import read_catalog, write
from slipway.channels import moves
from slipway.channels.keys import init
from slipway.channels.state import read_channel
from slipway.formats import load
from slipway.stores.directory import DirectoryStore

pytestmark = pytest.mark.integration

Client = Callable[..., str]
IMAGES = {"qcow2": b"a virtual machine" * 1000, "rootfs": b"a container" * 1000}


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    """A store with a release and indexes."""
    disk = tmp_path / "disk"
    disk.write_bytes(b"")
    for name, content in IMAGES.items():
        (tmp_path / name).write_bytes(content)
    about = replace(ABOUT, images={name: tmp_path / name for name in IMAGES})
    load("incus").export(
        disk, tmp_path / "incus", virtual_size=1, log=tmp_path / "log", about=about
    )
    folder = write_release_folder(
        tmp_path / "build", {**IMAGES, "incus": (tmp_path / "incus").read_bytes()}
    ).folder
    store, ring = DirectoryStore(tmp_path / "store"), init("nightly", tmp_path / "keys")
    moves.publish_all(store, ring, [folder])
    write(
        store, read_catalog(store, [read_channel(store, "nightly", ring.roots[0])]), ABOUT.templates
    )
    return store


@pytest.fixture
def client(store: DirectoryStore, tmp_path: Path) -> Iterator[Client]:
    """The client, which knows the store as the remote "here"."""
    program = need_one_of("incus", "lxc")
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    request = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
    ]
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        [*request, *names, "-keyout", key, "-out", certificate], check=True, capture_output=True
    )
    handler = functools.partial(
        http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / "store")
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    folders = {
        name: str(tmp_path / "client")
        for name in ("HOME", "INCUS_CONF", "LXD_CONF", "LXD_DIR", "INCUS_DIR")
    }
    environment = {**os.environ, **folders, "SSL_CERT_FILE": str(certificate)}
    (tmp_path / "client").mkdir()

    def client(*words: str) -> str:
        done = subprocess.run(
            [program, *words], env=environment, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        try:
            client(
                "remote",
                "add",
                "here",
                f"https://127.0.0.1:{server.server_address[1]}",
                "--protocol=simplestreams",
            )
            yield client
        finally:
            server.shutdown()
            thread.join()


def test_both_images_are_listed_by_their_fingerprints(client: Client, tmp_path: Path) -> None:
    listed = {
        tuple(line.split(",")[index] for index in (1, 5))
        for line in client("image", "list", "here:", "--format=csv").splitlines()
    }
    metadata = (tmp_path / "incus").read_bytes()
    assert listed == {
        (hashlib.sha256(metadata + IMAGES["rootfs"]).hexdigest()[:12], "CONTAINER"),
        (hashlib.sha256(metadata + IMAGES["qcow2"]).hexdigest()[:12], "VIRTUAL-MACHINE"),
    }


@pytest.mark.parametrize(("kind", "options"), [("rootfs", ()), ("qcow2", ("--vm",))])
@pytest.mark.parametrize("alias", ["example", "example/nightly"])
def test_an_image_is_downloaded_whole_by_its_name(
    client: Client, tmp_path: Path, kind: str, options: tuple[str, ...], alias: str
) -> None:
    client("image", "show", f"here:{alias}", *options)
    client("image", "export", f"here:{alias}", str(tmp_path / "out"), "--quiet", *options)
    assert (tmp_path / "out").read_bytes() == (tmp_path / "incus").read_bytes()
    assert (tmp_path / "out.root").read_bytes() == IMAGES[kind]


def test_a_wrong_fingerprint_would_be_noticed_by_the_listing(
    client: Client, tmp_path: Path
) -> None:
    images = tmp_path / "store/streams/v1/images.json"
    images.chmod(0o644)
    images.write_text(
        images.read_text().replace("combined_rootxz_sha256", "combined_sha256_of_rootxz")
    )
    shutil.rmtree(tmp_path / "client/cache", ignore_errors=True)
    assert "CONTAINER" not in client("image", "list", "here:", "--format=csv")
