"""The lock of Slipway's own Python packages: what it may hold, and when it disagrees with
pyproject.toml.
"""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from slipway.development import suite as development
from slipway.development.dependencies import (
    PYTHONS,
    SETS,
    lock_path,
    problems,
    read_pins,
    require_agreement,
)
from slipway.errors import BuildError

ROOT = Path(__file__).parents[3]
PROJECT = """
[project]
name = "thing"
dependencies = ["small>=1,<2"]
[project.optional-dependencies]
pypi = []
s3 = ["Store_Client[fast]>=2,<3"]
checks = ["client>=1,<2; python_version >= '3.12'"]
dev = ["thing[checks,s3]", "linter<3"]
"""
METADATA = {
    "small": ["base>=1"],
    "base": [],
    "store-client": [
        "speed; extra == 'fast'",
        "slowness; extra == 'slow'",
        "winner; sys_platform == 'win32'",
    ],
    "speed": ["small"],
    "client": [],
    "linter": ["rules==7; platform_machine == 'aarch64'"],
    "rules": [],
}
TASKS = ("small 1.0", "base 1.5", "store-client 2.0", "speed 1")
CHECKS = (*TASKS, "client 1.1 ; python_full_version >= '3.12'")
DEV = (*CHECKS, "linter 2", "rules 7 ; platform_machine == 'aarch64'")


def known(name: str, _version: str) -> Sequence[str] | None:
    return METADATA[name]


def line(text: str) -> str:
    name, version, *marker = text.split(" ", 2)
    return " ".join([f"{name}=={version}", *marker]) + f" \\\n    --hash=sha256:{'0' * 64}\n"


def write(root: Path, project: str = PROJECT, **sets: Sequence[str]) -> Path:
    """Write a project and a lock: the one that agrees, but for the sets that are given."""
    (root / "requirements").mkdir(exist_ok=True)
    (root / "pyproject.toml").write_text(project)
    everything: Mapping[str, Sequence[str]] = {"tasks": TASKS, "checks": CHECKS, "dev": DEV} | sets
    for name, pins in everything.items():
        lock_path(root, name).write_text("# a comment\n" + "".join(map(line, pins)))
    return root


def test_a_lock_that_agrees_has_no_problems(tmp_path: Path) -> None:
    assert problems(write(tmp_path), known) == []


def test_the_committed_lock_agrees() -> None:
    assert problems(ROOT) == []


@pytest.mark.parametrize(
    ("project", "sets", "found"),
    [
        pytest.param(
            PROJECT.replace("small>=1,<2", "small>=1.1,<2"),
            {},
            [
                f"requirements/{name}.txt has small 1.0; pyproject.toml requires <2,>=1.1"
                for name in SETS
            ],
            id="another range",
        ),
        pytest.param(
            PROJECT.replace('"linter<3"', '"linter<3", "tester"'),
            {},
            ["requirements/dev.txt lacks tester; pyproject.toml requires it"],
            id="a new dependency",
        ),
        pytest.param(
            PROJECT.replace("; python_version >= '3.12'", ""),
            {},
            [
                f"requirements/{name}.txt lacks client; pyproject.toml requires it"
                for name in ("checks", "dev")
            ],
            id="a dependency in fewer environments",
        ),
        pytest.param(
            PROJECT.replace(', "linter<3"', ""),
            {},
            [
                "requirements/dev.txt has linter; nothing requires it",
                "requirements/dev.txt has rules; nothing requires it",
            ],
            id="a dependency that went",
        ),
        pytest.param(
            PROJECT.replace("[fast]", "[fast,slow]"),
            {},
            [
                f"requirements/{name}.txt lacks slowness; store-client 2.0 requires it"
                for name in SETS
            ],
            id="a new extra",
        ),
        pytest.param(
            PROJECT,
            {"dev": [pin for pin in DEV if not pin.startswith("rules")]},
            ["requirements/dev.txt lacks rules; linter 2 requires it"],
            id="a hole in one environment",
        ),
        pytest.param(
            PROJECT,
            {"checks": [pin.replace("base 1.5", "base 1.6") for pin in CHECKS]},
            [
                "base is 1.5 in requirements/tasks.txt and 1.6 in requirements/checks.txt",
                "base is 1.6 in requirements/checks.txt and 1.5 in requirements/dev.txt",
            ],
            id="two versions",
        ),
        pytest.param(
            PROJECT,
            {"tasks": [*TASKS, "left 1"]},
            [
                "requirements/tasks.txt has left; nothing requires it",
                "left is 1 in requirements/tasks.txt and missing in requirements/checks.txt",
            ],
            id="more in a smaller set",
        ),
    ],
)
def test_each_disagreement_is_named(
    tmp_path: Path, project: str, sets: dict[str, Sequence[str]], found: list[str]
) -> None:
    assert problems(write(tmp_path, project, **sets), known) == found


def test_what_is_not_installed_raises_no_alarm(tmp_path: Path) -> None:
    """Without metadata nobody knows whether the lock has too little or too much below the direct
    dependencies.
    """
    write(tmp_path, tasks=("small 1.0", "store-client 2.0"))
    assert problems(tmp_path, lambda name, version: None) == []


def test_the_error_says_how_to_mend_it(tmp_path: Path) -> None:
    write(
        tmp_path,
        PROJECT.replace("small>=1,<2", "small>=3"),
        tasks=["small 1.0", "store-client 2.0"],
    )
    with pytest.raises(BuildError) as caught:
        require_agreement(tmp_path)
    assert str(caught.value) == (
        "error: requirements/ and pyproject.toml disagree\n"
        "  requirements/tasks.txt has small 1.0; pyproject.toml requires >=3\n"
        "  requirements/checks.txt has small 1.0; pyproject.toml requires >=3\n"
        "  requirements/dev.txt has small 1.0; pyproject.toml requires >=3\n"
        "  hint: run: ./run deps --update"
    )


def test_lint_fails_where_they_disagree(tmp_path: Path) -> None:
    write(tmp_path, PROJECT.replace("small>=1,<2", "small>=3"))
    with pytest.raises(BuildError, match=r"^error: requirements/ and pyproject\.toml disagree\n"):
        development.lint(tmp_path)


@pytest.mark.integration
def test_deps_says_that_they_agree() -> None:
    argv = [sys.executable, "-m", "invoke", "--search-root", str(ROOT), "deps", f"--root={ROOT}"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "requirements/ agrees with pyproject.toml\n"), (
        done.stderr
    )


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("--index-url http://127.0.0.1/simple", id="an index"),
        pytest.param("thing==1.0", id="no hash"),
        pytest.param(f"thing>=1.0 --hash=sha256:{'0' * 64}", id="a range"),
        pytest.param(f"thing==1.* --hash=sha256:{'0' * 64}", id="a wildcard"),
        pytest.param(f"thing @ file:///x.whl --hash=sha256:{'0' * 64}", id="a path"),
        pytest.param("thing==1.0 --hash=md5:0", id="a weak hash"),
        pytest.param("-r other.txt", id="another file"),
    ],
)
def test_a_lock_holds_versions_with_hashes_and_nothing_else(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tasks.txt"
    path.write_text(f"# a comment\n{line('first 1')}{text}\n")
    with pytest.raises(BuildError) as caught:
        read_pins(path)
    assert str(caught.value) == (
        f"{path}:4: error: not a version with hashes, as name==1.0 --hash=sha256:...\n"
        "  hint: run: ./run deps --update"
    )


def test_a_set_that_is_missing_is_said(tmp_path: Path) -> None:
    write(tmp_path)
    lock_path(tmp_path, "checks").unlink()
    with pytest.raises(BuildError) as caught:
        problems(tmp_path, known)
    assert str(caught.value) == (
        f"error: checks.txt is missing in {tmp_path}/requirements\n  hint: run: ./run deps --update"
    )


def test_every_direct_dependency_has_bounds() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [
        *project["dependencies"],
        *(each for extra in project["optional-dependencies"].values() for each in extra),
    ]
    for each in map(Requirement, lines):
        bounds = {part.operator for part in each.specifier}
        assert each.name == "slipway" or bounds == {">=", "<"}, each


def test_run_looks_for_the_pythons_that_the_lock_is_for() -> None:
    text = (ROOT / "run").read_text()
    (named,) = re.findall(r"^    for python in python3 (.*); do$", text, re.MULTILINE)
    assert sorted(named.split()) == [f"python{version}" for version in PYTHONS]
    first, last = (tuple(map(int, version.split("."))) for version in (PYTHONS[0], PYTHONS[-1]))
    assert f"{first} <= sys.version_info < {(last[0], last[1] + 1)}" in text
    assert f"Python {', '.join(PYTHONS[:-1])} or {PYTHONS[-1]} is needed" in text
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["requires-python"] == f">={PYTHONS[0]}"
    assert (
        f"python_full_version < '{last[0]}.{last[1] + 1}'"
        in project["tool"]["uv"]["environments"][0]
    )
    named = [
        each.rpartition(" ")[2]
        for each in project["project"]["classifiers"]
        if "Python :: 3." in each
    ]
    assert named == [*PYTHONS]


def imported(path: Path) -> set[str]:
    """The first parts of the names that a module imports, without Python's own and without
    slipway's, of which slipway_check is the part for checks.
    """
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found - sys.stdlib_module_names - {"slipway", "slipway_check", "tasks"}


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("tasks", "src/slipway/**/*.py"),
        ("tasks", "tasks.py"),
        ("checks", "appliances/*/checks/*/*.py"),
        ("dev", "tests/**/*.py"),
    ],
)
def test_a_set_has_what_its_code_imports(name: str, pattern: str) -> None:
    """A publisher's machine has the small set alone: an import from another one fails there and
    nowhere else.
    """
    providers = importlib.metadata.packages_distributions()
    locked = {pin.name for pin in read_pins(lock_path(ROOT, name))}
    ours = {"tests", *(path.stem for path in (ROOT / "tests").rglob("*.py"))}
    for path in ROOT.glob(pattern):
        for module in imported(path) - ours:
            assert locked & {canonicalize_name(each) for each in providers.get(module, ())}, (
                f"{path} imports {module}"
            )
