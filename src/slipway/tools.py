"""The versions of the programs and of the code that shape a stage's output, as the inputs that its id counts.

Asking a program for its version costs more than everything else a plan does, so answers are kept in the cache
directory with the program's path, size and change time; a program that was replaced is asked again.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import zlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from slipway import process
from slipway.cache import create_file, sha256_of

__all__ = ["code_digest", "tool_version", "tool_versions"]

#: How each program is asked for its version; the answer is its first line, on either stream.
_QUESTIONS = {
    "apt-get": "--version",
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


def tool_versions(names: Iterable[str], memory: Path) -> dict[str, str]:
    """Name -> version line of each tool; ``python:NAME`` is an installed Python package, ``zlib`` the library that
    Python uses.

    Args:
        memory: The file that remembers answers.

    Raises:
        HostError: A tool is missing.
    """
    try:
        known = json.loads(memory.read_bytes())
    except (OSError, ValueError):
        known = {}
    versions = {}
    learned = False
    for name in sorted(set(names)):
        if name == "zlib":
            versions[name] = zlib.ZLIB_RUNTIME_VERSION
            continue
        if name.startswith("python:"):
            versions[name] = importlib.metadata.version(name.removeprefix("python:"))
            continue
        path = process.find_tool(name)
        status = Path(path).stat()
        key = f"{path} {status.st_size} {status.st_mtime_ns}"
        if key not in known:
            known[key] = tool_version(name)
            learned = True
        versions[name] = known[key]
    if learned:
        with create_file(memory, mode=0o644) as file:
            file.write(json.dumps(known, indent=1, sort_keys=True).encode())
    return versions


def tool_version(name: str) -> str:
    """What a program says of its version, or its own digest where it says nothing (mkfs.vfat).

    Raises:
        HostError: It is not installed.
    """
    path = process.find_tool(name)
    if name not in _QUESTIONS:
        return f"sha256 {sha256_of(Path(path))}"
    answer = process.run(["sh", "-c", '"$@" 2>&1', "sh", path, _QUESTIONS[name]], check=False, timeout_s=20)
    return answer.stdout.decode(errors="replace").strip().partition("\n")[0]


@cache
def code_digest(*names: str) -> str:
    """The SHA-256 of modules or whole packages of slipway (``disk``, ``formats/qcow2.py``): their code is an input too."""
    here = Path(__file__).parent
    digest = hashlib.sha256()
    for name in names:
        paths = [here / name] if name.endswith(".py") else sorted((here / name).glob("*.py"))
        for path in paths:
            digest.update(path.relative_to(here).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
