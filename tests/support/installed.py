"""What `pipx install` leaves: an environment with the wheel and what it requires, and nothing else;
made without a network.

What it requires is copied from the environment that the tests run in, as far as the wheel's own
metadata names it.
"""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

__all__ = ["build_both", "install"]


def build_both(checkout: Path, out: Path) -> tuple[Path, Path]:
    """Build the sdist, and the wheel from it, as `python -m build` does; return their paths."""
    argv = [sys.executable, "-m", "build", "--no-isolation", f"--outdir={out}", str(checkout)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    return sdist, wheel


def install(wheel: Path, environment: Path, extras: Iterable[str] = ()) -> Path:
    """Install a wheel into a new environment, with what it requires.

    Return the path of its command.
    """
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", environment], check=True, timeout=120
    )
    python = environment / "bin/python"
    pip = [
        sys.executable,
        "-m",
        "pip",
        f"--python={python}",
        "install",
        "--quiet",
        "--no-index",
        "--no-deps",
        str(wheel),
    ]
    done = subprocess.run(pip, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    site = Path(sysconfig.get_path("purelib", vars={"base": str(environment)}))
    (metadata,) = site.glob("slipway-*.dist-info")
    for distribution in required(importlib.metadata.PathDistribution(metadata), extras):
        _copy(distribution, site)
    return environment / "bin/slipway"


def required(
    distribution: importlib.metadata.Distribution, extras: Iterable[str]
) -> Iterator[importlib.metadata.Distribution]:
    """List what a distribution requires, and what that requires, each once."""
    todo = [(distribution, extra) for extra in ("", *extras)]
    followed, listed = set[tuple[str, str]](), set[str]()
    while todo:
        one, wanted = todo.pop()
        for requirement in map(Requirement, one.requires or ()):
            if not (
                requirement.marker.evaluate({"extra": wanted})
                if requirement.marker
                else wanted == ""
            ):
                continue
            name = canonicalize_name(requirement.name)
            found = importlib.metadata.distribution(name)
            assert requirement.specifier.contains(found.version), (
                f"{requirement}: {found.version} is installed"
            )
            if name not in listed:
                listed.add(name)
                yield found
            for extra in ("", *requirement.extras):
                if (name, extra) not in followed:
                    followed.add((name, extra))
                    todo.append((found, extra))


def _copy(distribution: importlib.metadata.Distribution, site: Path) -> None:
    """Copy the files of a distribution, but for its programs."""
    for file in distribution.files or ():
        if ".." not in file.parts:
            target = site / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(Path(str(distribution.locate_file(file))), target)
