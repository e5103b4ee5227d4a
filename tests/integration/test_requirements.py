"""The lock of Python packages with the real pip and uv, and an index on loopback: renewed, and
installed by ./run's installer.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from example_wheels import package_index, write_wheel
from slipway.development.dependencies import lock_path, problems, update
from slipway.errors import BuildError

ROOT = Path(__file__).parents[2]
PROJECT = """
[project]
name = "thing"
version = "1"
requires-python = ">=3.11"
dependencies = ["small>=1,<2"]
[project.optional-dependencies]
pypi = []
s3 = []
checks = ["client"]
dev = ["thing[checks]", "linter"]
"""


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project, and an index with what it needs; the folder is the index's."""
    folder = tmp_path / "index"
    write_wheel(folder, "small", "1.0", "base")
    write_wheel(folder, "base", "1.0")
    write_wheel(folder, "client", "1.0")
    write_wheel(
        folder, "linter", "1.0", "early; python_version < '3.12'", "winner; sys_platform == 'win32'"
    )
    write_wheel(folder, "early", "1.0")
    write_wheel(folder, "winner", "1.0")
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    with package_index(folder) as url:
        monkeypatch.setenv("UV_DEFAULT_INDEX", url)
        monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
        monkeypatch.setenv("UV_FIND_LINKS", "/nowhere")
        monkeypatch.setenv("PIP_INDEX_URL", url)
        for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("PIP_CACHE_DIR", str(tmp_path / "cache"))
        yield folder


def test_renewing_says_what_changed(index: Path, tmp_path: Path) -> None:
    assert update(tmp_path) == [
        *("tasks: + base 1.0", "tasks: + small 1.0"),
        *("checks: + base 1.0", "checks: + client 1.0", "checks: + small 1.0"),
        *(
            "dev: + base 1.0",
            "dev: + client 1.0",
            "dev: + early 1.0",
            "dev: + linter 1.0",
            "dev: + small 1.0",
        ),
    ]
    assert problems(tmp_path) == []
    locked = lock_path(tmp_path, "dev").read_text()
    assert [line for line in locked.splitlines() if ";" in line] == [
        line for line in locked.splitlines() if line.startswith("early==")
    ]
    assert "127.0.0.1" not in locked and str(tmp_path) not in locked

    before = {name: lock_path(tmp_path, name).read_bytes() for name in ("tasks", "checks", "dev")}
    assert update(tmp_path) == []
    assert {name: lock_path(tmp_path, name).read_bytes() for name in before} == before

    write_wheel(index, "small", "1.1")
    write_wheel(index, "small", "2.0")
    write_wheel(index, "client", "1.0", tag="py2.py3-none-any")
    (tmp_path / "pyproject.toml").write_text(PROJECT.replace(', "linter"', ""))
    assert update(tmp_path) == [
        *("tasks: - base 1.0", "tasks: small 1.0 -> 1.1"),
        *("checks: - base 1.0", "checks: small 1.0 -> 1.1", "checks: client 1.0 has other files"),
        *(
            "dev: - base 1.0",
            "dev: - early 1.0",
            "dev: - linter 1.0",
            "dev: small 1.0 -> 1.1",
            "dev: client 1.0 has other files",
        ),
    ]


def test_a_version_without_wheels_for_every_environment_is_not_locked(
    index: Path, tmp_path: Path
) -> None:
    update(tmp_path)
    before = lock_path(tmp_path, "dev").read_bytes()
    write_wheel(index, "base", "2.0", tag="cp311-cp311-manylinux_2_28_x86_64")
    (tmp_path / "pyproject.toml").write_text(
        PROJECT.replace('"small>=1,<2"', '"small>=1,<2", "base>=2"')
    )
    with pytest.raises(
        BuildError, match=r"^error: uv pip (compile|install) failed: exit status 1\n"
    ):
        update(tmp_path)
    assert lock_path(tmp_path, "dev").read_bytes() == before


@pytest.fixture
def environment(index: Path, tmp_path: Path) -> Path:
    """A copy of the installer, a lock, and an environment to install into; its Python."""
    update(tmp_path)
    (tmp_path / "requirements/install.py").write_bytes(
        (ROOT / "requirements/install.py").read_bytes()
    )
    (tmp_path / "src").mkdir()
    (tmp_path / "src/here.py").write_text("place = 'src'\n")
    subprocess.run([sys.executable, "-m", "venv", tmp_path / ".venv"], check=True, timeout=300)
    return tmp_path / ".venv/bin/python"


def install(python: Path, name: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run the installer as ./run does, in an environment with these settings added."""
    argv: list[str | Path] = [python, "-I", python.parents[2] / "requirements/install.py", name]
    return subprocess.run(
        argv,
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def installed(python: Path) -> set[str]:
    code = (
        "import importlib.metadata as m; print(*(f'{d.name} {d.version}' for d in "
        "m.distributions()), sep='\\n')"
    )
    return set(
        subprocess.run(
            [python, "-I", "-c", code], capture_output=True, text=True, check=True
        ).stdout.splitlines()
    )


def test_what_is_installed_is_the_lock_whatever_pip_is_told(
    environment: Path, index: Path, tmp_path: Path
) -> None:
    (tmp_path / "pip.conf").write_text(
        "[install]\nuser = true\nno-binary = :all:\n[global]\nrequire-virtualenv = true\n"
    )
    told = {
        "PIP_CONFIG_FILE": str(tmp_path / "pip.conf"),
        "PIP_TARGET": str(tmp_path / "elsewhere"),
        "PIP_USER": "1",
    }
    told |= {
        "PIP_CONSTRAINT": "/nowhere",
        "PIP_NO_DEPS": "0",
        "PYTHONPATH": "/nowhere",
        "PYTHONHOME": "/nowhere",
        "PIP_ROOT": "/nowhere",
    }
    early = {"early 1.0"} if sys.version_info < (3, 12) else set()
    with lock_path(tmp_path, "dev").open("a") as file:  # pip itself is in the real lock
        file.write("pip==0 ; python_version < '3'\n")
    done = install(environment, "dev", **told)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert {name for name in installed(environment) if not name.startswith("pip ")} == {
        *("base 1.0", "client 1.0", "linter 1.0", "small 1.0"),
        *early,
    }
    assert not (tmp_path / "elsewhere").exists()
    found = subprocess.run(
        [environment, "-I", "-c", "import here; print(here.place)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout == "src\n"

    # A lock that names less: the rest goes, even what somebody installed by hand.
    write_wheel(index, "stray", "1.0")
    subprocess.run([environment, "-m", "pip", "install", "-q", "stray"], check=True)
    lock_path(tmp_path, "dev").write_bytes(
        lock_path(tmp_path, "tasks").read_bytes() + b"pip==0 ; python_version < '3'\n"
    )
    assert install(environment, "dev").returncode == 0
    assert {name for name in installed(environment) if not name.startswith("pip ")} == {
        "base 1.0",
        "small 1.0",
    }

    # Another file than the locked one, under the same name and version.
    write_wheel(index, "client", "1.0", "unexpected")
    done = install(environment, "checks")
    assert done.returncode != 0
    assert "THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE" in done.stderr
    assert "client 1.0" not in installed(environment)
