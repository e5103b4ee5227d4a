"""Which tests a call of the test task runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from slipway.development.suite import KINDS, Selection, python_scripts, select, temporary_files
from slipway.errors import UsageError

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("options", "store", "keyword", "selection"),
    [
        ([], "", "", Selection(lint=True, kinds=KINDS)),
        (["all"], "", "", Selection(lint=True, kinds=KINDS, nightly=True)),
        (["unit"], "", "", Selection(kinds=("unit",))),
        (["integration"], "", "", Selection(kinds=("integration",))),
        (["vm"], "", "", Selection(kinds=("vm",))),
        (["vm", "all"], "", "", Selection(kinds=("vm",), nightly=True)),
        (["vm", "unit"], "ceph", "", Selection(kinds=("unit", "ceph", "vm"))),
        ([], "", "kernel", Selection(kinds=KINDS, nightly=True, keyword="kernel")),
        (["vm"], "", "kernel", Selection(kinds=("vm",), nightly=True, keyword="kernel")),
        (["fresh"], "", "", Selection(fresh=True)),
        (["fresh"], "", "debian-13", Selection(fresh=True, keyword="debian-13")),
    ],
)
def test_options_select_kinds(
    options: list[str], store: str, keyword: str, selection: Selection
) -> None:
    assert select(options, store=store, keyword=keyword) == selection


@pytest.mark.parametrize(
    ("options", "store", "message"),
    [
        (
            [],
            "minio",
            'error: there are no tests with the store "minio"\n  hint: choose from: ceph',
        ),
        (
            ["all", "fresh"],
            "",
            (
                "error: --fresh cannot go with --all\n"
                "  hint: it runs the unit and integration tests itself"
            ),
        ),
        (
            ["unit", "vm", "fresh"],
            "ceph",
            (
                "error: --fresh cannot go with --unit, --vm, --store ceph\n"
                "  hint: it runs the unit and integration tests itself"
            ),
        ),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    options: list[str], store: str, message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        select(options, store=store)
    assert str(caught.value) == message


def test_every_folder_of_tests_is_a_kind() -> None:
    assert {
        path.parent.relative_to(ROOT / "tests").parts[0] for path in ROOT.glob("tests/**/test_*.py")
    } == set(KINDS)


def test_programs_in_python_are_found_by_their_first_line(tmp_path: Path) -> None:
    files = {
        "appliances/web/files/usr/bin/tool": "#!/usr/bin/python3 -I\n",
        "appliances/web/files/usr/bin/shell": "#!/bin/sh\n",
        "appliances/web/files/usr/bin/module.py": "#!/usr/bin/python3\n",
        "templates/guest/files/etc/data": "one\n",
        "templates/guest/files/usr/sbin/other": "#!/usr/bin/python3 -EsB\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "templates/guest/files/usr/sbin/link").symlink_to("other")
    found = [path.relative_to(tmp_path).as_posix() for path in python_scripts(tmp_path)]
    assert found == ["appliances/web/files/usr/bin/tool", "templates/guest/files/usr/sbin/other"]


#: Of os.statvfs: the free blocks of 4 KiB, and the flags.
_FREE, _FLAGS = 4, 8


def memory_is(monkeypatch: pytest.MonkeyPatch, *, free: int = 1 << 20, flags: int = 0) -> None:
    """Let each file system be of a kind."""
    about = list(os.statvfs("/"))
    about[1], about[_FREE], about[_FLAGS] = 4096, free, flags
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(about))


def test_unit_tests_write_to_memory_and_leave_nothing_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory_is(monkeypatch)
    with temporary_files("unit", tmp_path) as env:
        place = Path(env["TMPDIR"])
        assert place.parent == tmp_path
        (place / "left").write_text("by a test that was killed")
    assert list(tmp_path.iterdir()) == []
    with temporary_files("integration", tmp_path) as env:
        assert env == {}


def test_a_machine_without_such_memory_has_them_where_it_has_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with temporary_files("unit", tmp_path / "missing") as env:
        assert env == {}
    memory_is(monkeypatch, free=100)
    with temporary_files("unit", tmp_path) as env:
        assert env == {}
    memory_is(monkeypatch, flags=os.ST_NOEXEC)
    with temporary_files("unit", tmp_path) as env:
        assert env == {}
