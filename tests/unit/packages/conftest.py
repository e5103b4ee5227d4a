"""Real, tiny packages, and a mirror of them on the loopback interface."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from slipway.host import process
from slipway.packages.locked import LockedPackage

__all__: list[str] = []

EPOCH = 1_700_000_000
MakePackage = Callable[..., LockedPackage]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """The folder that the mirror serves."""
    folder = tmp_path / "archive"
    folder.mkdir()
    return folder


@pytest.fixture
def make_package(archive: Path, tmp_path: Path) -> MakePackage:
    """Make a package with dpkg-deb and put it on the mirror."""

    def make(
        name: str, version: str = "1.0", *, compression: str = "xz", epoch: int = EPOCH
    ) -> LockedPackage:
        tree = tmp_path / "trees" / name
        (tree / "DEBIAN").mkdir(parents=True)
        control = (
            f"Package: {name}\nVersion: {version}\nArchitecture: all\n"
            f"Maintainer: Nobody <nobody@example.org>\nDescription: {name}\n more\n"
        )
        (tree / "DEBIAN/control").write_text(control)
        path = f"pool/{name}.deb"
        (archive / "pool").mkdir(exist_ok=True)
        environment = {"SOURCE_DATE_EPOCH": str(epoch)}
        argv: list[str | Path] = [
            "dpkg-deb",
            "--root-owner-group",
            f"-Z{compression}",
            "--uniform-compression",
            "--build",
            tree,
            archive / path,
        ]
        process.run(argv, env=environment)
        content = (archive / path).read_bytes()
        sha256 = hashlib.sha256(content).hexdigest()
        return LockedPackage(
            name=name,
            version=version,
            architecture="all",
            sha256=sha256,
            size=len(content),
            archive="debian",
            path=path,
        )

    return make


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def mirrors(archive: Path) -> Iterator[dict[str, str]]:
    """The mirror's URI by archive."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(archive))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield {"debian": f"http://127.0.0.1:{server.server_port}"}
        finally:
            server.shutdown()
            thread.join()
