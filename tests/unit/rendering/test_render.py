"""What a builder runs, as files."""

from __future__ import annotations

import tracemalloc
from functools import partial
from pathlib import Path

import pytest

from slipway.errors import UsageError
from slipway.rendering.render import Rendered, RenderedFile
from slipway.spec.folder import open_content

FILES = {
    "run.sh": RenderedFile(content=b"#!/bin/sh\n", mode=0o755),
    "tree/files/etc/motd": RenderedFile(content=b"hello\n"),
    "tree/files/etc/link": RenderedFile(link="motd"),
    "disk/layout": RenderedFile(content=b"x"),
}


def test_what_is_written_is_what_was_rendered(tmp_path: Path) -> None:
    Rendered(FILES).write(tmp_path)
    assert (tmp_path / "run.sh").read_bytes() == b"#!/bin/sh\n"
    assert (tmp_path / "run.sh").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "tree/files/etc/motd").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "tree/files/etc/link").readlink() == Path("motd")


def test_only_the_parts_asked_for_are_written_and_counted(tmp_path: Path) -> None:
    written = Rendered(FILES).write(tmp_path, "tree", "run.sh")
    assert sorted(path.relative_to(tmp_path).as_posix() for path in written) == [
        "run.sh",
        "tree/files/etc/link",
        "tree/files/etc/motd",
    ]
    assert list(Rendered(FILES).digests("disk")) == ["disk/layout"]


def test_content_mode_and_link_all_change_the_digest() -> None:
    files = [
        RenderedFile(content=b"a"),
        RenderedFile(content=b"b"),
        RenderedFile(content=b"a", mode=0o755),
        RenderedFile(link="a"),
    ]
    assert len({file.digest for file in files}) == 4


def test_a_directory_that_holds_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("keep")
    with pytest.raises(UsageError) as raised:
        Rendered(FILES).write(tmp_path)
    assert (
        str(raised.value)
        == f"error: {tmp_path} is not empty\n  hint: give an empty directory with --out"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_copied_file_has_the_digest_of_its_content_and_is_never_whole_in_memory(
    tmp_path: Path,
) -> None:
    large = tmp_path / "large"
    large.write_bytes(b"start")
    with large.open("r+b") as file:
        file.truncate(64 << 20)
    tracemalloc.start()
    try:
        copied = RenderedFile.copied(partial(open_content, large), mode=0o755)
        Rendered({"tree/files/large": copied}).write(tmp_path / "out")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20
    assert copied.digest == RenderedFile(content=large.read_bytes(), mode=0o755).digest
    assert (tmp_path / "out/tree/files/large").read_bytes() == large.read_bytes()


def test_a_copied_file_that_has_changed_since_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("one")
    rendered = Rendered({"tree/files/file": RenderedFile.copied(partial(open_content, file))})
    file.write_text("two")
    with pytest.raises(UsageError) as caught:
        rendered.write(tmp_path / "out")
    message = (
        "error: the file for tree/files/file has changed since this command began\n"
        "  hint: run the command again"
    )
    assert str(caught.value) == message
