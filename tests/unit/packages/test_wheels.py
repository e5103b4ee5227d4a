"""Which packages of PyPI an image needs, whatever Python asks for them."""

from __future__ import annotations

from typing import Any

import pytest
from packaging import requirements

from slipway.errors import SpecErrors
from slipway.packages.locked import LockedPackage
from slipway.packages.wheels import _needed, _target


def package(name: str, version: str) -> LockedPackage:
    return LockedPackage(name=name, version=version, architecture="amd64", sha256="a" * 64, size=1, archive="debian", path="pool/x.deb")


IMAGE = (package("libc6", "2.41-12"), package("python3", "3.13.5-1"))


def found(**items: list[str]) -> dict[str, Any]:
    return {name: {"metadata": {"version": "1.0", "requires_dist": needs}} for name, needs in items.items()}


def test_the_target_is_the_images_python() -> None:
    target = _target(IMAGE, "amd64", {})
    assert (target.python, target.full, target.glibc, target.machine) == ("3.13", "3.13.5", 41, "x86_64")
    assert "--platform=manylinux_2_41_x86_64" in target.options and "--platform=manylinux_2_42_x86_64" not in target.options


def test_an_image_without_python_has_no_place_for_them() -> None:
    with pytest.raises(SpecErrors, match="the image has no Python"):
        _target(IMAGE[:1], "amd64", {})


def test_what_is_needed_is_what_the_images_python_needs() -> None:
    """pip asks the Python that it runs in, which is another one: it finds too much (old), and too little (new)."""
    items = found(one=['old; python_version < "3.13"', 'new>=2; python_version >= "3.13"', 'rest; extra == "all"'], old=[])
    assert _needed(["one==1.0"], items, _target(IMAGE, "amd64", {}), requirements) == ({"one"}, ["new>=2"])


def test_extras_bring_what_they_need_and_circles_end() -> None:
    items = found(
        one=['Rest_Of.It; extra == "all"', 'more; extra == "other"'], **{"rest-of-it": ["one[all]", 'x; sys_platform == "win32"']}
    )
    assert _needed(["One[all]==1.0"], items, _target(IMAGE, "amd64", {}), requirements) == ({"one", "rest-of-it"}, [])


def test_another_version_than_is_wanted_does_not_count() -> None:
    assert _needed(["one==2.0"], found(one=[]), _target(IMAGE, "amd64", {}), requirements) == (set(), ["one==2.0"])
