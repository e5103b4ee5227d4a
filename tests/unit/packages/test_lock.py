"""Locks as files: deterministic, whole, and checked line by line when they are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from golden import require_golden
from slipway.errors import SpecError, SpecErrors
from slipway.packages.lock import check_lock, read_lock, write_lock
from slipway.packages.locked import Lock, LockedPackage
from slipway.packages.resolve import requested_of_base
from slipway.spec.library import Library

ROOT = Path(__file__).parents[3]


def package(name: str, digit: str) -> LockedPackage:
    return LockedPackage(
        name=name,
        version="1:2.0-1",
        architecture="amd64",
        sha256=digit * 64,
        size=10,
        archive="debian",
        path=f"pool/{name}%3a_1.deb",
    )


LOCK = Lock(
    base="debian-13",
    kernel="cloud",
    architecture="amd64",
    source_date_epoch=1_700_000_000,
    base_requested=("apt", "systemd"),
    requested=("nginx",),
    base_packages=(package("apt", "a"), package("libc6", "b")),
    packages=(package("nginx", "c"),),
)


def test_a_lock_has_one_package_a_line(tmp_path: Path) -> None:
    assert write_lock(tmp_path / "lock.json", LOCK)
    line = (
        '{"name": "%s", "version": "1:2.0-1", "architecture": "amd64", "sha256": "%s", "size": 10, '
        '"archive": "debian", "path": "pool/%s%%3a_1.deb"}'
    )
    assert (tmp_path / "lock.json").read_text().splitlines() == [
        "{",
        ' "schema": 1,',
        ' "base": "debian-13",',
        ' "kernel": "cloud",',
        ' "architecture": "amd64",',
        ' "source_date_epoch": 1700000000,',
        ' "base_requested": ["apt", "systemd"],',
        ' "requested": ["nginx"],',
        ' "base_packages": [',
        "  " + line % ("apt", "a" * 64, "apt") + ",",
        "  " + line % ("libc6", "b" * 64, "libc6"),
        " ],",
        ' "packages": [',
        "  " + line % ("nginx", "c" * 64, "nginx"),
        " ]",
        "}",
    ]


def test_what_was_written_is_read_and_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "lock.json"
    assert write_lock(path, LOCK)
    assert read_lock(path) == LOCK
    before = path.stat().st_ino
    assert not write_lock(path, LOCK)
    assert path.stat().st_ino == before


def test_tools_are_locked_beside_the_image(tmp_path: Path) -> None:
    path = tmp_path / "lock.json"
    lock = replace(
        LOCK, tools_requested=("sipp",), tools=(package("libc6", "b"), package("sipp", "d"))
    )
    write_lock(path, lock)
    assert read_lock(path) == lock
    assert [item.name for item in lock.all_packages] == ["apt", "libc6", "nginx"]
    text = path.read_text()
    path.write_text(
        text.replace(
            '"name": "sipp", "version": "1:2.0-1"', '"name": "sipp", "version": "new"'
        ).replace("d" * 64, "d")
    )
    with pytest.raises(SpecErrors) as caught:
        read_lock(path)
    assert "tools[1].sha256: expected 64 hexadecimal digits" in str(caught.value)


Edit = Callable[[str], str]


@pytest.mark.parametrize(
    ("edit", "errors"),
    [
        (lambda text: "", ["lock.json:1:1: error: the lock is not JSON: <…>"]),
        (lambda text: "[]", ["lock.json: error: this is not a lock"]),
        (
            lambda text: text.replace('"schema": 1', '"schema": 2'),
            ["lock.json:2: error: schema 2 is not one that this version of slipway reads"],
        ),
        (
            lambda text: text.replace("a" * 64, "a" * 63),
            ["lock.json:10: error: base_packages[0].sha256: expected 64 hexadecimal digits"],
        ),
        (
            lambda text: text.replace('"nginx", "version"', '"apt", "version"'),
            ["lock.json:10: error: apt is in base_packages and in packages"],
        ),
        (
            lambda text: text.replace('"libc6", "version"', '"apt", "version"'),
            ["lock.json:10: error: base_packages: apt is listed twice"],
        ),
        (
            lambda text: text.replace('"libc6", "version"', '"aa", "version"'),
            [
                (
                    "lock.json:11: error: base_packages: aa comes after apt, but the list "
                    "has to be sorted"
                )
            ],
        ),
        (
            lambda text: text.replace("pool/nginx", "../nginx"),
            ["lock.json:14: error: packages[0].path: '../nginx%3a_1.deb' cannot be right"],
        ),
        (
            lambda text: text.replace('"size": 10', '"size": 0', 1),
            ["lock.json:10: error: base_packages[0].size: expected a number of bytes"],
        ),
        (
            lambda text: text.replace('"size": 10', '"size": true', 1),
            ["lock.json:10: error: base_packages[0].size: expected a number of bytes"],
        ),
        (
            lambda text: text.replace('"name": "nginx", ', '"nam": "nginx", '),
            [
                "lock.json: error: packages[0].nam: unknown key",
                "lock.json: error: packages[0].name: this key is missing",
            ],
        ),
        (
            lambda text: text.replace('"kernel": "cloud"', '"kernel": 1').replace(
                "1700000000", "-1"
            ),
            [
                "lock.json:4: error: kernel: expected a text",
                "lock.json:6: error: source_date_epoch: expected a number of seconds",
            ],
        ),
        (
            lambda text: text.replace('"kernel": "cloud"', '"kernel": "cloud", "kernel": "x"'),
            ['lock.json: error: the lock is not JSON: "kernel" is repeated in one place'],
        ),
    ],
)
def test_a_lock_that_was_edited_wrongly_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, edit: Edit, errors: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("lock.json")
    write_lock(path, LOCK)
    path.write_text(edit(path.read_text()))
    with pytest.raises(SpecErrors) as caught:
        read_lock(path)
    require_golden(
        str(caught.value), "\n".join(f"{error}\n  hint: run: invoke lock" for error in errors)
    )


LIBRARY = Library(ROOT)
APPLIANCE = next(
    appliance for name in LIBRARY.names() if (appliance := LIBRARY.load(name)).spec.packages
)
FITTING = replace(
    LOCK,
    base=APPLIANCE.base.name,
    kernel=APPLIANCE.spec.kernel,
    base_requested=requested_of_base(APPLIANCE.base, APPLIANCE.spec.kernel, "amd64"),
    requested=APPLIANCE.spec.packages,
    sources=tuple(str(source) for source in APPLIANCE.spec.sources),
    tools_requested=APPLIANCE.spec.tools,
    pypi_requested=APPLIANCE.spec.pypi,
)
ONE, *OTHERS = APPLIANCE.spec.packages


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base": "another"}, f"the lock is for base another, the spec says {APPLIANCE.base.name}"),
        (
            {"kernel": "another"},
            f"the lock is for kernel another, the spec says {APPLIANCE.spec.kernel}",
        ),
        (
            {"base_requested": (*FITTING.base_requested, "more")},
            "the lock is older than the spec: it still has more",
        ),
        (
            {"requested": (*OTHERS, "more")},
            f"the lock is older than the spec: it lacks {ONE} and still has more",
        ),
        ({"requested": (*OTHERS,)}, f"the lock is older than the spec: it lacks {ONE}"),
        (
            {"sources": (*FITTING.sources, "more")},
            "the lock is older than the spec: it still has more",
        ),
        (
            {"tools_requested": (*FITTING.tools_requested, "more")},
            "the lock is older than the spec: it still has more",
        ),
        (
            {"pypi_requested": (*FITTING.pypi_requested, "more")},
            "the lock is older than the spec: it still has more",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_lock_of_another_spec_is_refused(changes: dict[str, Any], message: str) -> None:
    path = Path("lock.amd64.json")
    check_lock(FITTING, path, APPLIANCE)
    with pytest.raises(SpecError) as caught:
        check_lock(replace(FITTING, **changes), path, APPLIANCE)
    assert (
        str(caught.value)
        == f"lock.amd64.json: error: {message}\n  hint: run: invoke lock {APPLIANCE.name}"
    )
