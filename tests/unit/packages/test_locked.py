"""How locks differ, and which of two versions is newer."""

from __future__ import annotations

import itertools
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from any_value import PATIENT
from slipway.host import process
from slipway.packages.locked import Lock, LockedPackage, compare_versions, differences

#: Each older than the next (deb-version(7)).
ORDERED = (
    "0~~",
    "0~",
    "0",
    "0a",
    "0+",
    "0.1",
    "1.0~rc1",
    "1.0",
    "1.0-0.1",
    "1.0-1",
    "1.0-1+b1",
    "1.0-1.1",
    "1.0-10",
    "1.0a-1",
    "1.0+dfsg-1",
    "1:0.1",
)


def package(name: str, version: str, sha256: str = "a" * 64) -> LockedPackage:
    return LockedPackage(
        name=name,
        version=version,
        architecture="amd64",
        sha256=sha256,
        size=1,
        archive="debian",
        path=f"{name}.deb",
    )


def lock(*packages: LockedPackage) -> Lock:
    return Lock(
        base="debian-13",
        kernel="cloud",
        architecture="amd64",
        source_date_epoch=0,
        base_packages=(),
        packages=packages,
    )


def test_every_kind_of_difference_has_its_line() -> None:
    old = lock(
        package("a", "1"),
        package("b", "1.10"),
        package("c", "1:1"),
        package("d", "1"),
        package("e", "1"),
    )
    new = lock(
        package("a", "1"),
        package("b", "1.9"),
        package("c", "1:1.0-1"),
        package("d", "1", "b" * 64),
        package("f", "2"),
    )
    assert str(differences(old, new)) == (
        "added       f 2\nremoved     e 1\nupgraded    c 1:1 -> 1:1.0-1\n"
        "downgraded  b 1.10 -> 1.9\nrebuilt     d 1"
    )


def test_the_same_lock_twice_differs_in_nothing() -> None:
    assert not differences(lock(package("a", "1")), lock(package("a", "1")))


def test_other_tools_are_one_line() -> None:
    old = replace(lock(package("a", "1")), tools=(package("t", "1"), package("u", "1")))
    new = replace(old, tools=(package("t", "2"), package("u", "1")))
    assert str(differences(old, new)) == "tools       2 packages changed"


def test_the_first_lock_adds_everything() -> None:
    assert differences(None, lock(package("a", "1"))).added == (package("a", "1"),)


def test_versions_are_ordered_as_dpkg_orders_them() -> None:
    for one, other in itertools.combinations(ORDERED, 2):
        assert (
            process.run(["dpkg", "--compare-versions", one, "lt", other], check=False).returncode
            == 0
        ), (one, other)
        assert compare_versions(one, other) == -1, (one, other)
        assert compare_versions(other, one) == 1, (other, one)


@PATIENT
@given(st.from_regex(r"[0-9][0-9a-z.+~]{0,4}(-[0-9a-z.+~]{1,3})?", fullmatch=True))
def test_a_version_is_neither_newer_nor_older_than_itself(version: str) -> None:
    assert compare_versions(version, version) == 0
    assert compare_versions(f"{version}~", version) == -1
