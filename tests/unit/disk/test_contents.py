"""What is in a disk: who brought each file, and what differs between two disks."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

from example_tree import write_tree_disk
from slipway.disk.contents import NOBODY, Item, contents, differences, files_of, look, read_below
from slipway.disk.files import ROOT_OFFSET
from slipway.host import process

ITEM = Item("-", 0o644, "0:0", 1, 3, 12, "abc", "bash")


def test_a_difference_is_named_by_what_differs() -> None:
    first = {"/a": ITEM, "/b": ITEM, "/c": ITEM, "/d": ITEM}
    second = {
        "/a": ITEM,
        "/b": replace(ITEM, content="abd", mode=0o600),
        "/c": replace(ITEM, package="zsh"),
        "/e": ITEM,
    }
    assert differences(first, second) == [
        "/b: mode, content",
        "/c: package",
        "/d: only in the first",
        "/e: only in the second",
    ]
    more = {"/a": replace(ITEM, attributes="security.capability=01"), "/b": replace(ITEM, links=2)}
    assert differences({"/a": ITEM, "/b": ITEM}, more) == ["/a: attributes", "/b: links"]
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
    found = dict(look(list(files_of(tmp_path)), read_below(tmp_path)))
    assert found["/usr/lib/udev/rule"].package == "udev"
    assert found["/usr/lib/python3/__pycache__/thing.cpython-313.pyc"].package == "python3-thing"
    assert found["/boot/initrd.img-6"].package == "(initramfs)"
    assert found["/x"].package == NOBODY
    assert (found["/lib"].kind, found["/lib"].content, found["/lib"].size) == ("l", "usr/lib", 0)


def test_two_names_of_one_file_take_its_space_once(tmp_path: Path) -> None:
    (tmp_path / "perl").write_bytes(b"x" * 5000)
    os.link(tmp_path / "perl", tmp_path / "perl5")
    found = dict(look(list(files_of(tmp_path)), read_below(tmp_path)))
    assert [found["/perl"].size, found["/perl5"].size] == [5000, 0]
    assert found["/perl"].content == found["/perl5"].content
    assert [found["/perl"].links, found["/perl5"].links] == [2, 2]
    assert found["/perl"].compressed < 100


def test_a_disk_is_read_as_its_tree_is(tmp_path: Path) -> None:
    """Without a copy of it, and without more rights than to read it.

    Names, attributes and holes as they are.
    """
    disk, tree = write_tree_disk(tmp_path)
    found = contents(disk)
    assert found.pop("/lost+found").kind == "d"
    assert found == dict(look(list(files_of(tree)), read_below(tree)))
    assert found["/tool"].attributes == "user.note=" + b"a value with \xff and \0 in it".hex()
    assert found["/big"].links == 2
    assert found["/big"].size + found["/many/second-name"].size == (tree / "big").stat().st_size


def test_a_read_only_root_is_read_as_its_tree_is(tmp_path: Path) -> None:
    tree, disk = tmp_path / "tree", tmp_path / "disk"
    (tree / "var/lib/dpkg/info").mkdir(parents=True)
    (tree / "var/lib/dpkg/info/tool.list").write_text("/tool\n")
    (tree / "tool").write_bytes(b"x" * 5000)
    (tree / "tool").chmod(0o4755)
    os.link(tree / "tool", tree / "other")
    os.setxattr(tree / "tool", "user.note", b"a note")
    os.mkfifo(tree / "pipe")
    (tree / "link").symlink_to("tool")
    disk.touch()
    process.run(
        [
            "mksquashfs",
            tree,
            disk,
            "-offset",
            str(ROOT_OFFSET),
            "-noappend",
            "-no-progress",
            "-quiet",
        ]
    )
    found = contents(disk)
    assert found == dict(look(list(files_of(tree)), read_below(tree)))
    assert (found["/tool"].package, found["/tool"].links, stat.filemode(found["/tool"].mode)) == (
        "tool",
        2,
        "?rwsr-xr-x",
    )
