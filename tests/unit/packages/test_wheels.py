"""Which packages of PyPI an image needs, whatever Python asks for them."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging import requirements

from slipway.errors import BuildError, SpecErrors
from slipway.packages.locked import Lock, LockedPackage, LockedWheel
from slipway.packages.pool import Pool
from slipway.packages.wheels import _needed, _target, install_wheels


def package(name: str, version: str) -> LockedPackage:
    return LockedPackage(
        name=name,
        version=version,
        architecture="amd64",
        sha256="a" * 64,
        size=1,
        archive="debian",
        path="pool/x.deb",
    )


IMAGE = (package("libc6", "2.41-12"), package("python3", "3.13.5-1"))


def found(**items: list[str]) -> dict[str, Any]:
    return {
        name: {"metadata": {"version": "1.0", "requires_dist": needs}}
        for name, needs in items.items()
    }


def test_the_target_is_the_images_python() -> None:
    target = _target(IMAGE, "amd64", {})
    assert (target.python, target.full, target.glibc, target.machine) == (
        "3.13",
        "3.13.5",
        41,
        "x86_64",
    )
    assert (
        "--platform=manylinux_2_41_x86_64" in target.options
        and "--platform=manylinux_2_42_x86_64" not in target.options
    )


def test_an_image_without_python_has_no_place_for_them() -> None:
    with pytest.raises(SpecErrors, match="the image has no Python"):
        _target(IMAGE[:1], "amd64", {})


def test_what_is_needed_is_what_the_images_python_needs() -> None:
    """pip asks the Python that it runs in, which is another one: it finds too much (old), and too
    little (new).
    """
    items = found(
        one=[
            'old; python_version < "3.13"',
            'new>=2; python_version >= "3.13"',
            'rest; extra == "all"',
        ],
        old=[],
    )
    assert _needed(["one==1.0"], items, _target(IMAGE, "amd64", {}), requirements) == (
        {"one"},
        ["new>=2"],
    )


def test_extras_bring_what_they_need_and_circles_end() -> None:
    items = found(
        one=['Rest_Of.It; extra == "all"', 'more; extra == "other"'],
        **{"rest-of-it": ["one[all]", 'x; sys_platform == "win32"']},
    )
    assert _needed(["One[all]==1.0"], items, _target(IMAGE, "amd64", {}), requirements) == (
        {"one", "rest-of-it"},
        [],
    )


def test_another_version_than_is_wanted_does_not_count() -> None:
    assert _needed(["one==2.0"], found(one=[]), _target(IMAGE, "amd64", {}), requirements) == (
        set(),
        ["one==2.0"],
    )


def wheel(pool: Pool, **members: str) -> Lock:
    """Put a wheel of these members into the pool, and return a lock that names it."""
    info = "one-1.0.dist-info"
    members = {"one.py": "", f"{info}/METADATA": "Name: one\nVersion: 1.0\n", **members}
    members[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    members[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*members, f"{info}/RECORD"])
    with pool.incoming() as incoming:
        file = incoming / "one.whl"
        with zipfile.ZipFile(file, "w") as archive:
            for name, text in members.items():
                archive.writestr(name, text)
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        pool.add_file(file, digest, what="the wheel", hint="none")
    locked = LockedWheel(name="one", version="1.0", file="one-1.0-py3-none-any.whl", sha256=digest)
    return Lock(
        base="debian-13",
        kernel="cloud",
        architecture="amd64",
        source_date_epoch=0,
        base_packages=IMAGE,
        packages=(),
        wheels=(locked,),
    )


def test_a_wheel_is_installed_below_its_environment(tmp_path: Path) -> None:
    pool = Pool(tmp_path / "pool")
    install_wheels(wheel(pool), pool, tmp_path / "root")
    assert (tmp_path / "root/opt/pypi/lib/python3.13/site-packages/one.py").exists()


@pytest.mark.parametrize(
    "inside", ["../../../../../../outside.py", "one-1.0.data/scripts/../../../../../outside.py"]
)
def test_a_wheel_that_climbs_out_is_refused(tmp_path: Path, inside: str) -> None:
    pool = Pool(tmp_path / "pool")
    lock = wheel(pool, **{inside: "attack"})
    with pytest.raises(
        BuildError,
        match=r"the wheel one-1\.0-py3-none-any\.whl cannot be installed: "
        r"Attempting to write \S+ outside",
    ):
        install_wheels(lock, pool, tmp_path / "root")
    assert not list(tmp_path.rglob("outside.py"))


def test_what_is_no_wheel_is_refused(tmp_path: Path) -> None:
    pool = Pool(tmp_path / "pool")
    lock = wheel(pool, **{"two-1.0.dist-info/METADATA": ""})
    with pytest.raises(BuildError, match=r"doesn't contain exactly one \.dist-info directory"):
        install_wheels(lock, pool, tmp_path / "root")
