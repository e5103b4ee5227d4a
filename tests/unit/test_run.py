"""./run sets up what is missing, says what it does, and gets out of the way when nothing is."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: What the script itself calls, besides the shell.
NEEDED = ("sh", "dirname", "readlink", "sha256sum", "cat", "id", "env", "rm", "mv", "flock")
PACKAGES = re.search(r"^packages='(.*)'$", (ROOT / "run").read_text(), re.MULTILINE)
COMMANDS = re.search(r"^commands='(.*)'$", (ROOT / "run").read_text(), re.MULTILINE)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with a directory of programs that is the whole PATH."""
    root = tmp_path / "checkout"
    (root / "bin").mkdir(parents=True)
    shutil.copy(ROOT / "run", root / "run")
    shutil.copy(ROOT / "pyproject.toml", root / "pyproject.toml")
    for name in NEEDED:
        found = shutil.which(name)
        assert found
        (root / "bin" / name).symlink_to(found)
    return root


def program(path: Path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def run(root: Path, *words: str, ci: bool = False) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": str(root / "bin"), "HOME": str(root)} | ({"CI": "true"} if ci else {})
    return subprocess.run(
        [root / "run", *words], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
    )


def test_without_apt_it_lists_what_to_install_and_without_python_it_says_which(checkout: Path) -> None:
    done = run(checkout, "list")
    assert PACKAGES and COMMANDS
    missing = " ".join(name for name in COMMANDS[1].split() if not any((Path(place) / name).exists() for place in ("/usr/sbin", "/sbin")))
    assert done.returncode == 4
    assert done.stdout == ""
    assert done.stderr == (
        f"run: this system has no apt; install what brings these commands: {missing}\n"
        f"run: (on Debian and Ubuntu they are in: {PACKAGES[1]})\n"
        "run: error: Python 3.11 or newer is needed\n"
        "  hint: sudo apt-get install python3 python3-venv   (Ubuntu 22.04: python3.11-venv)\n"
    )


def test_it_says_what_it_installs_and_how_it_failed(checkout: Path) -> None:
    program(checkout / "bin/dpkg-query", "printf 'ii  git \\nii  zstd \\n'")
    program(checkout / "bin/apt-get", f'echo "$*" >>{checkout}/asked; exit 100')
    program(checkout / "bin/sudo", 'shift; exec "$@"')  # sudo -n
    program(checkout / "bin/python3", "exit 0")
    done = run(checkout, "list", ci=True)
    assert PACKAGES
    wanted = " ".join(name for name in PACKAGES[1].split() if name not in ("git", "zstd"))
    assert done.returncode == 4
    assert f"run: these system packages are missing: {wanted}\n" in done.stderr
    assert "run: error: the system packages could not be installed\n" in done.stderr
    assert f"install --yes --no-install-recommends {wanted}\n" in (checkout / "asked").read_text()


def test_a_checkout_that_is_set_up_only_runs_the_task(checkout: Path) -> None:
    program(checkout / ".venv/bin/invoke", 'echo "$*"')
    program(checkout / ".venv/bin/python", "exit 1")
    assert PACKAGES
    digest = hashlib.sha256((checkout / "pyproject.toml").read_bytes()).hexdigest()
    (checkout / ".venv/stamp").write_text(f"{checkout} {os.path.realpath(checkout / '.venv/bin/python')}\n{digest}  -\n")
    (checkout / ".venv/stamp-system").write_text(f"{PACKAGES[1]}\n")
    done = run(checkout, "plan", "two words")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"--search-root {checkout} plan two words\n"

    with (checkout / "pyproject.toml").open("a") as file:  # the environment is older than what it should be made from
        file.write("\n")
    assert run(checkout, "plan").returncode != 0
