"""Files below a folder whose links lead elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from slipway.errors import UsageError
from slipway.host import rooted
from slipway.rendering.render import Rendered, RenderedFile

HINT = (
    "\n  hint: files of an appliance, a mix-in and the base share one tree: remove one of the two"
)


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    """A folder with links into another one, and that one."""
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "a").mkdir(parents=True)
    outside.mkdir()
    (outside / "file").write_text("of the host")
    (root / "a/link").symlink_to(outside)
    (root / "up").symlink_to("../outside")
    (root / "file").symlink_to(outside / "file")
    (root / "dangling").symlink_to(outside / "new")
    return root, outside


@pytest.mark.parametrize(
    ("inside", "place"),
    [
        ("a/link/x", "a/link"),
        ("up/x/y", "up"),
        ("file", "file"),
        ("dangling", "dangling"),
        ("/a/link/x", "a/link"),
    ],
)
def test_no_link_is_followed(places: tuple[Path, Path], inside: str, place: str) -> None:
    root, outside = places
    expected = f"error: cannot write below {root}: a link is in the way at {place}{HINT}"
    with pytest.raises(UsageError) as raised, rooted.create(root, inside):
        pass
    assert str(raised.value) == expected
    with pytest.raises(UsageError) as raised:
        rooted.make_link(root, inside, "x")
    assert str(raised.value) == expected
    with pytest.raises(UsageError) as raised:
        rooted.make_folders(root, inside)
    assert str(raised.value) == expected
    assert [(path.name, path.read_text()) for path in outside.iterdir()] == [
        ("file", "of the host")
    ]


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077, 0o000], ids="{:03o}".format)
def test_modes_are_the_same_under_every_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        Rendered(
            {"a/b/file": RenderedFile(content=b"x"), "a/c/link": RenderedFile(link="x")}
        ).write(tmp_path)
        rooted.make_folders(tmp_path, "d/e")
    finally:
        os.umask(before)
    modes = {
        path.relative_to(tmp_path).as_posix(): f"{path.stat().st_mode & 0o7777:o}"
        for path in tmp_path.rglob("*")
        if path.exists()
    }
    assert modes == {
        "a": "755",
        "a/b": "755",
        "a/b/file": "644",
        "a/c": "755",
        "d": "755",
        "d/e": "755",
    }


def test_nothing_is_replaced_and_nothing_climbs(tmp_path: Path) -> None:
    with rooted.create(tmp_path, "a/b/c", mode=0o755) as file:
        file.write(b"one")
    with pytest.raises(UsageError) as raised, rooted.create(tmp_path, "a/b/c") as file:
        file.write(b"two")
    assert (
        str(raised.value)
        == f"error: cannot write below {tmp_path}: a file is in the way at a/b/c{HINT}"
    )
    with pytest.raises(UsageError) as raised, rooted.create(tmp_path / "a", "../x"):
        pass
    assert str(raised.value) == 'error: "../x" leaves its folder\n  hint: write a path without ..'
    assert (tmp_path / "a/b/c").read_bytes() == b"one"
    assert (tmp_path / "a/b/c").stat().st_mode & 0o777 == 0o755
    assert rooted.make_folders(tmp_path, "/a/b/d") == tmp_path / "a/b/d"
    assert (tmp_path / "a/b/d").is_dir()


def test_what_is_rendered_below_a_link_is_not_written_where_it_leads(tmp_path: Path) -> None:
    """A mix-in's link, and a file of the appliance below its name."""
    outside, out = tmp_path / "outside", tmp_path / "out"
    outside.mkdir()
    files = {
        "tree/files/srv": RenderedFile(link=str(outside)),
        "tree/files/srv/key": RenderedFile(content=b"planted"),
    }
    with pytest.raises(UsageError) as raised:
        Rendered(files).write(out)
    assert (
        str(raised.value)
        == f"error: cannot write below {out}: a link is in the way at tree/files/srv{HINT}"
    )
    assert not list(outside.iterdir())
