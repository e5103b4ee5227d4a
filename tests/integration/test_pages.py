"""The pages, from top to bottom: what they tell a reader to type works from what they said before.

A block marked ``minutes`` builds and boots. Here a small release takes the place of its build;
tests/vm/test_pages.py types it.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest

from example_disk import ABOUT, write_disk
from example_release import write_release_folder
from pages import Block, Reader, blocks, is_console, pages
from slipway.formats import load
from slipway.spec.library import Library

PAGES = [
    path
    for path in pages()
    if any(is_console(block) and block.mark != "example" for block in blocks(path))
]
BUILD = re.compile(r"\./run build (\S+)( .*)?")


def leave(reader: Reader, name: str, number: int) -> Path:
    """Leave what a build of an appliance leaves: a folder below build/, with a small disk in two
    formats.
    """
    folder = reader.project / f"build/{name}/1.0.0-{number:012x}"
    folder.mkdir(parents=True)
    disk = write_disk(reader.folder / "disk.raw")
    with disk.open("ab") as file:
        file.write(bytes([number]) * 512)
        file.truncate(25 << 20)
    digest = hashlib.sha256(disk.read_bytes()).hexdigest()
    made = {}
    for form in ("qcow2", "raw"):
        made[form] = load(form).export(
            disk,
            reader.folder / form,
            virtual_size=64 << 20,
            log=reader.folder / "log",
            about=ABOUT,
        )
    images = {form: (reader.folder / form).read_bytes() for form in made}
    build = f"{number:012x}"
    changes: dict[str, Any] = {
        "build": build,
        "release": f"1.0.0-{build}",
        "created": 1_800_000_000 + number,
        "kernel": _kernel(reader, name),
        "system": "Debian 13",
    }
    write_release_folder(
        folder,
        images,
        appliance=name,
        disk=digest,
        uncompressed_size=disk.stat().st_size,
        **changes,
    )
    for form in made:
        (reader.folder / form).unlink()
    return folder


def _kernel(reader: Reader, name: str) -> str:
    """Return the kernel of an appliance's spec.

    That of a release without an appliance is the default.
    """
    library = Library(reader.project)
    return library.load(name).spec.kernel if name in library.names() else "cloud"


def in_its_place(reader: Reader, block: Block, number: int) -> None:
    """Do what a block that takes minutes leaves, without building."""
    for command, _ in block.commands:
        found = BUILD.fullmatch(command)
        assert found, f"{block.page}:{block.line}: only builds can be left out: {command}"
        folder = leave(reader, found[1], number)
        if "--publish" in (found[2] or ""):
            status, said = reader.types(
                f"./run publish --folder {folder.relative_to(reader.project)}"
            )
            assert status == 0, said


@pytest.mark.parametrize(
    "path", PAGES, ids=lambda path: path.relative_to(path.parents[1]).as_posix()
)
def test_a_page_runs_as_written(path: Path, tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    for number, block in enumerate(filter(is_console, blocks(path)), 1):
        if block.mark == "minutes":
            in_its_place(reader, block, number)
        elif not block.mark:
            reader.follows(block)


def test_a_reader_notices_what_fails_and_what_is_not_printed(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    block = Block(page="page", line=1, language="console", text="$ echo one two\none ...\n$ true")
    reader.follows(block)
    for text in (
        "$ false",
        "$ echo one\ntwo",
        "$ ./run promote nothing --from nightly --to stable",
    ):
        with pytest.raises(AssertionError):
            reader.follows(Block(page="page", line=1, language="console", text=text))


def test_indexes_that_show_nothing_are_said_to(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    folder = leave(reader, "example", 1)
    assert reader.types("./run publish --folder build")[0] == 0
    status, said = reader.types("./run catalog")
    assert status == 0
    assert (
        said.splitlines()[-1]
        == "warning: no current release was made as incus or ova: only the pages show anything"
    )
    write_release_folder(folder.parent / "second", {"ova": b"ova" * 99}, appliance="second")
    assert reader.types(f"./run publish --folder {folder.parent}/second")[0] == 0
    status, said = reader.types("./run catalog")
    assert (status, "warning" in said) == (0, False)
