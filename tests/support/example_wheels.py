"""Wheels made on the spot, and a package index of them on loopback."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.server
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

__all__ = ["package_index", "write_wheel"]


def write_wheel(
    folder: Path, name: str, version: str, *requires: str, tag: str = "py3-none-any"
) -> str:
    """Write a wheel with one module into ``folder/name`` and return its SHA-256."""
    module = name.replace("-", "_")
    path = folder / name / f"{module}-{version}-{tag}.whl"
    path.parent.mkdir(parents=True, exist_ok=True)
    information = f"{module}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {each}\n" for each in requires)
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{module}.py", f"version = {version!r}\n")
        wheel.writestr(
            f"{information}/METADATA",
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}\n",
        )
        wheel.writestr(
            f"{information}/WHEEL",
            f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: {tag}\n",
        )
        wheel.writestr(
            f"{information}/RECORD",
            f"{module}.py,,\n{information}/METADATA,,\n{information}/WHEEL,,\n"
            f"{information}/RECORD,,\n",
        )
    return hashlib.sha256(path.read_bytes()).hexdigest()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def package_index(folder: Path) -> Iterator[str]:
    """Serve folders of wheels as a simple index (PEP 503): a listing of files is one."""
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder))
    ) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
