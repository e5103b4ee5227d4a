"""A root with this project's templates and one appliance with a lock whose packages nobody has:
enough to render and plan.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest

from slipway.host.process import SYSTEM_PATH
from slipway.host.programs import programs
from slipway.job import Workshop, lock_path
from slipway.packages.lock import Lock, LockedPackage, write_lock
from slipway.packages.resolve import requested_of_base
from slipway.tools import tool_versions

TEMPLATES = Path(__file__).parents[2] / "templates"


def package(name: str, version: str = "1") -> LockedPackage:
    """A package that is in no pool."""
    sha256 = hashlib.sha256(f"{name} {version}".encode()).hexdigest()
    return LockedPackage(
        name=name,
        version=version,
        architecture="all",
        sha256=sha256,
        size=9,
        archive="debian",
        path="p",
    )


@cache
def _tool_versions() -> bytes:
    """What the programs of a build say of their versions, in the form that is kept in a cache.

    They are asked once.
    """
    with tempfile.TemporaryDirectory() as folder:
        memory = Path(folder) / "tools.json"
        names = [
            program.name
            for program in programs("build")
            if shutil.which(program.name, path=f"{os.environ['PATH']}:{SYSTEM_PATH}")
        ]
        tool_versions(names, memory)
        return memory.read_bytes()


def make_root(
    directory: Path, name: str, files: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The root, with the appliance's files by their path in its folder.

    Its spec asks for the package "web".
    """
    monkeypatch.setenv("SLIPWAY_MIRROR", "http://mirror.invalid/debian")
    monkeypatch.setenv("SLIPWAY_CACHE", str(directory / "cache"))
    (directory / "cache").mkdir(parents=True, exist_ok=True)
    (directory / "cache/tools.json").write_bytes(_tool_versions())
    root = directory / "root"
    shutil.copytree(TEMPLATES, root / "templates", symlinks=True)
    for path, content in files.items():
        file = root / "appliances" / name / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    appliance = Workshop(root=root).library.load(name)
    kernel = appliance.spec.kernel
    lock = Lock(
        base=appliance.base.name,
        kernel=kernel,
        architecture="amd64",
        source_date_epoch=1_700_000_000,
        base_requested=tuple(sorted(requested_of_base(appliance.base, kernel, "amd64"))),
        requested=("web",),
        base_packages=(package("apt"), package("libc6")),
        packages=(package("web"),),
        tools_requested=appliance.spec.tools,
        tools=tuple(package(name) for name in appliance.spec.tools),
    )
    write_lock(lock_path(appliance, "amd64"), lock)
    return root
