"""An id covers the code of its stage: whatever that code imports is in the id too, or is here with
the reason why not.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

import slipway
from example_root import make_root
from slipway.boot.tools import PART
from slipway.formats import load, names
from slipway.job import Job, Workshop, lock_path, prepare
from slipway.packages.lock import read_lock, write_lock
from slipway.packages.locked import LockedWheel

HERE = Path(slipway.__file__).parent
#: Modules that shape no byte of a stage that imports them, by the reason.
SHAPELESS = {
    "say what is wrong": {
        "errors.py",
        "rendering/plain.py",
        "terminal/progress.py",
        "terminal/text.py",
        "host/programs.py",
        "builders/_known.py",
        "builders/_broken.py",
    },
    "keep what was made, and who may": {
        "cache.py",
        "host/locks.py",
        "host/ownership.py",
        "settings.py",
        "plan.py",
    },
    "what they make of a spec is rendered, and that is in the id": {
        *(
            "addresses.py",
            "rendering/boxed.py",
            "builders/__init__.py",
            "disk/identity.py",
            "packages/mirror.py",
            "rendering/templating.py",
        ),
        *(f"spec/{path.name}" for path in (HERE / "spec").glob("*.py")),
    },
    "the lock says which packages": {
        f"packages/{name}.py" for name in ("apt", "lock", "locked", "resolve")
    },
    "only text, and types": {
        "__init__.py",
        "formats/__init__.py",
        "host/__init__.py",
        "rendering/__init__.py",
        "terminal/__init__.py",
    },
}
#: What more than that formats have no part in: the disk is there, and a program's version is in the
#: id.
OF_FORMATS = {"host/process.py"}


@cache
def imported(module: str) -> frozenset[str]:
    """The modules of slipway that one imports when it runs, wherever in it.

    Not those for types alone.
    """
    tree = ast.parse((HERE / module).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            node.body = []
    found, modules = set(), set()
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.ImportFrom)
            and node.module
            and node.module.partition(".")[0] == "slipway"
        ):
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {
                alias.name for alias in node.names if alias.name.partition(".")[0] == "slipway"
            }
    for name in found:
        place = HERE.joinpath(*name.split(".")[1:])
        for path in (place.with_suffix(".py"), place / "__init__.py"):
            if path.is_file():
                modules.add(path.relative_to(HERE).as_posix())
    return frozenset(modules)


def reached(code: Iterable[str], shapeless: set[str]) -> set[str]:
    """All that code runs; what shapes nothing is not looked into."""
    seen: set[str] = set()
    waiting = list(code)
    while waiting:
        module = waiting.pop()
        if module not in seen:
            seen.add(module)
            waiting += imported(module) - shapeless
    return seen


def modules_of(code: Iterable[str]) -> set[str]:
    """The modules that names of code stand for, as :func:`slipway.tools.code_digest` reads them."""
    found = set()
    for name in code:
        found |= (
            {name}
            if name.endswith(".py")
            else {path.relative_to(HERE).as_posix() for path in (HERE / name).glob("*.py")}
        )
    return found


SPEC = f"""\
schema: 1
name: thing
version: 1.0.0
summary: A thing
category: system
packages: [web]
pypi: [thing==1.0]
downloads: [{{url: "https://files.test/tool", sha256: {"a" * 64}, path: /usr/bin/tool}}]
users: [{{name: web}}]
timers: [{{name: often, calendar: daily, command: /usr/bin/tool}}]
"""
#: Of those that several stages import by one module: which of them use it. (A download is one file
#: with its hash.)
USED_BY = {
    "builders/_hygiene.py": {"tree", "packer"},
    "disk/ext4.py": {"disk"},
    "disk/gpt.py": {"disk"},
    "packages/debfile.py": {"base", "packages", "packer", "tools"},
    "packages/pool.py": {"base", "packages", "packer", "tools"},
    "packages/wheels.py": {"tree", "packer"},
}
#: Packer's stage begins with a disk, which its parent's id stands for.
OF_ITS_PARENT = {"builders/mmdebstrap.py", "formats/_image.py", "formats/raw.py", "disk/files.py"}
#: A key and a machine of one build: they end with it.
OF_ONE_BUILD = {"host/sshkey.py", "host/accelerator.py"}


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Job]:
    """The same appliance with each builder; it uses all that a spec can add to a tree."""
    with pytest.MonkeyPatch.context() as patch:
        files = {
            "appliance.yaml": SPEC.replace("pypi", "#"),
            "README.md": "A thing\n",
            "files/etc/thing": "x\n",
            "setup/10-x.sh": "true\n",
        }
        root = make_root(tmp_path_factory.mktemp("code"), "thing", files, patch)
        (root / "appliances/thing/appliance.yaml").write_text(SPEC)
        shop = Workshop(root=root)
        path = lock_path(shop.library.load("thing"), "amd64")
        wheel = LockedWheel(
            name="thing", version="1.0", file="thing-1.0-py3-none-any.whl", sha256="b" * 64
        )
        write_lock(path, replace(read_lock(path), pypi_requested=("thing==1.0",), wheels=(wheel,)))
        return {
            name: prepare(shop, shop.library.load("thing"), builder=name, architecture="amd64")
            for name in ("mmdebstrap", "packer")
        }


@pytest.mark.parametrize("builder", ["mmdebstrap", "packer"])
def test_what_makes_a_stage_is_in_its_id(builder: str, jobs: dict[str, Job]) -> None:
    missing = {}
    for part in (*jobs[builder].builder.parts(jobs[builder].source), PART):
        elsewhere = {module for module, kinds in USED_BY.items() if part.kind not in kinds}
        if (builder, part.kind) == ("packer", "tree"):
            elsewhere.add("packages/wheels.py")  # the base's tree has nothing of the appliance
        elsewhere |= (OF_ITS_PARENT | OF_ONE_BUILD) if part.kind == "packer" else set()
        code = modules_of(part.code)
        missing[part.kind] = sorted(
            reached(code, elsewhere.union(*SHAPELESS.values()) - code) - code
        )
    assert not any(missing.values()), missing


@pytest.mark.parametrize("builder", ["mmdebstrap", "packer"])
def test_all_that_is_rendered_is_in_an_id(builder: str, jobs: dict[str, Job]) -> None:
    """But for what people read."""
    job = jobs[builder]
    digests = [set(job.rendered.digests(*part.reads)) for part in job.builder.parts(job.source)]
    assert set(job.rendered.files) - set().union(*digests) <= {"README.md"}


@pytest.mark.parametrize("name", names())
def test_what_makes_a_format_is_in_its_id(name: str) -> None:
    form = load(name)
    code = {
        f"{module if '/' in module else f'formats/{module}'}.py"
        for module in (name, *form.builds_on)
    }
    code |= {"rendering/templating.py"} if form.described else set()
    shapeless = set().union(OF_FORMATS, *SHAPELESS.values()) - code
    assert sorted(reached(code, shapeless) - code) == []


def test_there_is_no_reason_for_what_is_not_there() -> None:
    assert [
        module for each in SHAPELESS.values() for module in each if not (HERE / module).is_file()
    ] == []
