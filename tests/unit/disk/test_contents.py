"""What is in a disk: who brought each file, and what differs between two disks."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from slipway.disk.contents import NOBODY, Item, differences, look

ITEM = Item("-", 0o644, "0:0", 1, 3, 12, "abc", "bash")


def test_a_difference_is_named_by_what_differs() -> None:
    first = {"/a": ITEM, "/b": ITEM, "/c": ITEM, "/d": ITEM}
    second = {"/a": ITEM, "/b": replace(ITEM, content="abd", mode=0o600), "/c": replace(ITEM, package="zsh"), "/e": ITEM}
    assert differences(first, second) == ["/b: mode, content", "/c: package", "/d: only in the first", "/e: only in the second"]
    assert differences(first, dict(first)) == []


def test_files_belong_to_their_package_by_the_name_that_they_really_have(tmp_path: Path) -> None:
    info = tmp_path / "var/lib/dpkg/info"
    info.mkdir(parents=True)
    (tmp_path / "usr/lib/udev").mkdir(parents=True)
    (tmp_path / "usr/lib/python3/__pycache__").mkdir(parents=True)
    (tmp_path / "boot").mkdir()
    (tmp_path / "lib").symlink_to("usr/lib")
    (info / "udev:amd64.list").write_text("/.\n/lib\n/lib/udev\n/lib/udev/rule\n")
    (info / "python3-thing.list").write_text("/usr/lib/python3/thing.py\n")
    for name in (
        "usr/lib/udev/rule",
        "usr/lib/python3/thing.py",
        "usr/lib/python3/__pycache__/thing.cpython-313.pyc",
        "boot/initrd.img-6",
        "x",
    ):
        (tmp_path / name).write_text(name)
    found = dict(look(tmp_path))
    assert found["/usr/lib/udev/rule"].package == "udev"
    assert found["/usr/lib/python3/__pycache__/thing.cpython-313.pyc"].package == "python3-thing"
    assert found["/boot/initrd.img-6"].package == "(initramfs)"
    assert found["/x"].package == NOBODY
    assert (found["/lib"].kind, found["/lib"].content, found["/lib"].size) == ("l", "usr/lib", 0)


def test_two_names_of_one_file_take_its_space_once(tmp_path: Path) -> None:
    (tmp_path / "perl").write_bytes(b"x" * 5000)
    os.link(tmp_path / "perl", tmp_path / "perl5")
    found = dict(look(tmp_path))
    assert [found["/perl"].size, found["/perl5"].size] == [5000, 0]
    assert found["/perl"].content == found["/perl5"].content
    assert found["/perl"].compressed < 100
