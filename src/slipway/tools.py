"""The versions of the programs and of the code behind a stage's output, as inputs of its id.

A program's version is its own answer and the digests of the libraries that do its work. Asking
costs more than everything else in a plan. So answers are kept in the cache directory, with the
file's path, size and change time; a replaced program is asked again.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import re
import zlib
from collections.abc import Callable, Iterable
from functools import cache, partial
from pathlib import Path
from typing import Final

from slipway.cache import create_file, sha256_of
from slipway.host import process

__all__ = ["code_digest", "tool_version", "tool_versions"]

#: The option that prints each program's version, on the first line of either stream.
_QUESTIONS = {
    "apt-get": "--version",
    "dpkg-deb": "--version",
    "dnsmasq": "--version",
    "git": "--version",
    "ip": "-V",
    "mcopy": "-V",
    "mke2fs": "-V",
    "mmdebstrap": "--version",
    "mksquashfs": "-version",
    "qemu-img": "--version",
    "qemu-system-x86_64": "--version",
    "qemu-system-aarch64": "--version",
    "sfdisk": "--version",
    "unshare": "--version",
    "zstd": "--version",
}
#: The shared libraries behind a program's work; they can be replaced without it.
_LIBRARIES: Final = {
    "mke2fs": ("libext2fs.so.2",),
    "mksquashfs": ("libz.so.1",),
    "qemu-img": ("libzstd.so.1",),
    "sfdisk": ("libfdisk.so.1",),
}
#: The dynamic linker's record of the places of libraries (ld.so(8)).
_LINKER_CACHE: Final = Path("/etc/ld.so.cache")


def tool_versions(names: Iterable[str], memory: Path) -> dict[str, str]:
    """Return the version line of each tool, by name.

    ``python`` is the interpreter, ``python:NAME`` an installed Python package, ``zlib`` and
    ``lzma`` are libraries of Python.

    Args:
        memory: The file of remembered answers.

    Raises:
        HostError: A tool is missing.
    """
    try:
        known = json.loads(memory.read_bytes())
    except (OSError, ValueError):
        known = {}
    before = len(known)
    versions = {
        name: _python_version(name, known) or _program_version(name, known)
        for name in sorted(set(names))
    }
    if len(known) > before:
        with create_file(memory, mode=0o644) as file:
            file.write(json.dumps(known, indent=1, sort_keys=True).encode())
    return versions


def _python_version(name: str, known: dict[str, str]) -> str | None:
    """Return the version of a part of this process; None for a program."""
    if name == "python":
        return f"{platform.python_implementation()} {platform.python_version()}"
    if name == "zlib":
        return zlib.ZLIB_RUNTIME_VERSION
    if name == "lzma":
        import _lzma

        return _libraries(
            Path(getattr(_lzma, "__file__", "built in")), ("liblzma.so.5",), known
        ).removeprefix(", ")
    if not name.startswith("python:"):
        return None
    package = name.removeprefix("python:")
    version = importlib.metadata.version(package)
    if package == "zstandard":
        import zstandard

        version += f", zstd {'.'.join(map(str, zstandard.ZSTD_VERSION))}"
    return version


def _program_version(name: str, known: dict[str, str]) -> str:
    path = Path(process.find_tool(name))
    version = _remembered(known, "", path, lambda: tool_version(name))
    return version + _libraries(path, _LIBRARIES.get(name, ()), known)


def _libraries(program: Path, wanted: tuple[str, ...], known: dict[str, str]) -> str:
    """Return the digests of the libraries linked with a program, as more of its version.

    Wanted libraries that it is not linked with add nothing.
    """
    if not wanted:
        return ""
    places = dict(
        _LINKED.findall(
            _remembered(
                known, f"libraries {_identity(_LINKER_CACHE)} ", program, lambda: _linked(program)
            )
        )
    )
    found = [(name, Path(places[name]).resolve()) for name in wanted if name in places]
    return "".join(
        f", {name} sha256 {_remembered(known, 'sha256 ', path, partial(sha256_of, path))}"
        for name, path in found
    )


#: A line of ldd(1): the library's name, and its path.
_LINKED: Final = re.compile(r"^\s*(\S+) => (/\S+)", re.MULTILINE)


def _linked(program: Path) -> str:
    return process.run(["ldd", program], check=False, timeout_s=20).stdout.decode(errors="replace")


def _identity(path: Path) -> str:
    """Return a text that changes when the file is replaced."""
    try:
        status = path.stat()
    except OSError:
        return str(path)
    return f"{path} {status.st_size} {status.st_mtime_ns}"


def _remembered(known: dict[str, str], what: str, path: Path, ask: Callable[[], str]) -> str:
    """Return the answer for a file in its present state."""
    key = f"{what}{_identity(path)}"
    if key not in known:
        known[key] = ask()
    return known[key]


def tool_version(name: str) -> str:
    """Return a program's version line, or its digest if it prints no version (mkfs.vfat).

    Raises:
        HostError: The program is not installed.
    """
    path = process.find_tool(name)
    if name not in _QUESTIONS:
        return f"sha256 {sha256_of(Path(path))}"
    answer = process.run(
        ["sh", "-c", '"$@" 2>&1', "sh", path, _QUESTIONS[name]], check=False, timeout_s=20
    )
    return answer.stdout.decode(errors="replace").strip().partition("\n")[0]


@cache
def code_digest(*names: str) -> str:
    """Return the SHA-256 of modules or packages of slipway (``boot``, ``formats/qcow2.py``).

    Code is an input too. Every file of a package counts: its scripts run as its modules do.
    """
    here = Path(__file__).parent
    digest = hashlib.sha256()
    for name in names:
        paths = (
            [here / name]
            if name.endswith(".py")
            else sorted(path for path in (here / name).iterdir() if path.is_file())
        )
        for path in paths:
            digest.update(
                path.relative_to(here).as_posix().encode() + b"\0" + path.read_bytes() + b"\0"
            )
    return digest.hexdigest()
