"""Installs a set of the locked Python packages into the environment that this runs in.

    .venv/bin/python -I requirements/install.py SET

Installs requirements/SET.txt and nothing else: by its hashes, from wheels, so that no foreign code
runs. Uninstalls what the lock does not name. Puts the path of src/ into the environment, which
takes the place of a build of the project.

pip's own settings may say how to reach an index. Those that change what is installed, or where to,
do not count. Only the standard library is imported: this runs in an environment where nothing is
installed yet.
"""

from __future__ import annotations

import ast
import compileall
import importlib.metadata
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

__all__ = ["index_settings", "locked_names", "main"]

HERE = Path(__file__).resolve().parent
#: pip's settings that say how to reach an index and where to keep what was downloaded.
SETTINGS = (
    *(
        "cache-dir",
        "cert",
        "client-cert",
        "default-timeout",
        "extra-index-url",
        "find-links",
        "index-url",
        "keyring-provider",
    ),
    *(
        "no-cache-dir",
        "no-index",
        "proxy",
        "resume-retries",
        "retries",
        "timeout",
        "trusted-host",
        "use-feature",
    ),
)
PIP = [sys.executable, "-I", "-m", "pip"]


def plain_environment() -> dict[str, str]:
    """The environment without the settings of pip and Python."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))
    }


def index_settings(listing: str) -> dict[str, str]:
    """The environment variables that stand for the settings in what `pip config list` prints.

    The sections count as pip has them count: [global], then [install], then the environment.
    """
    found: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for line in listing.splitlines():
        matched = re.fullmatch(r"(global|install|:env:)\.([\w-]+)=(.*)", line)
        if matched and matched[2] in SETTINGS:
            found[matched[1]][matched[2]] = str(ast.literal_eval(matched[3]))
    merged = {name: value for section in found.values() for name, value in section.items()}
    return {f"PIP_{name.upper().replace('-', '_')}": value for name, value in merged.items()}


def locked_names(text: str) -> set[str]:
    """The names in a lock file, as they are compared: in lower case, with hyphens."""
    return {normal(name) for name in re.findall(r"^([\w.-]+)==", text, re.MULTILINE)}


def normal(name: str) -> str:
    """Normalise a distribution's name (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pip(words: list[str], environment: Mapping[str, str], stdout: int | None = None) -> str:
    """Run pip and return what it wrote to ``stdout``; leave with its exit status if it fails."""
    done = subprocess.run(
        [*PIP, *words],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout or ""


def main(name: str) -> None:
    """Make the environment what a set says."""
    lock = HERE / f"{name}.txt"
    asked = {
        **plain_environment(),
        **{key: value for key, value in os.environ.items() if key.startswith("PIP_")},
    }
    listing = pip(["config", "list"], asked, stdout=subprocess.PIPE)
    environment = {**plain_environment(), **index_settings(listing), "PIP_CONFIG_FILE": os.devnull}
    quiet = ["--quiet", "--no-input", "--disable-pip-version-check"]
    pip(
        [
            "install",
            *quiet,
            "--require-hashes",
            "--no-deps",
            "--only-binary=:all:",
            # What a task imports is compiled then; the rest, most of it, never.
            "--no-compile",
            f"--requirement={lock}",
        ],
        environment,
    )

    site = Path(sysconfig.get_path("purelib"))
    importlib.invalidate_caches()
    installed = {normal(each.name) for each in importlib.metadata.distributions(path=[str(site)])}
    superfluous = sorted(installed - locked_names(lock.read_text()))
    if superfluous:
        pip(["uninstall", *quiet, "--yes", *superfluous], environment)
    # Relative, so that no locale has to spell the names of folders.
    (site / "slipway.pth").write_text(
        os.path.relpath(HERE.parent / "src", site) + "\n", encoding="ascii"
    )
    # Invoke turns the writing of bytecode off before it loads the tasks: have it there from the
    # start.
    compileall.compile_dir(HERE.parent / "src", quiet=2)


if __name__ == "__main__":
    main(sys.argv[1])
