"""What was a plain file when a folder was listed is read only if it still is one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from slipway.errors import SpecError
from slipway.spec.checks import read_checks
from slipway.spec.folder import MAX_FILE_BYTES, read_content, read_files


def link(path: Path) -> None:
    path.symlink_to("/etc/passwd")


def huge(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (link, "cannot be read: too many levels of symbolic links"),
        (os.mkfifo, "this has to be a plain file"),
        (huge, f"the file has 1099511627776 bytes; at most {MAX_FILE_BYTES} are read"),
        (Path.mkdir, "this has to be a plain file"),
    ],
)
def test_a_file_that_is_none_any_more_is_an_error(
    tmp_path: Path, make: Callable[[Path], None], said: str
) -> None:
    make(tmp_path / "file")
    with pytest.raises(SpecError) as raised:
        read_content(tmp_path / "file", Path("files/file"))
    assert (raised.value.message, str(raised.value.where)) == (said, "files/file")


def test_a_folder_on_the_way_that_became_a_link_is_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "host/ssh"
    secret.mkdir(parents=True)
    (secret / "key").write_text("of the host")
    folder = tmp_path / "appliance/files"
    (folder / "etc/ssh").mkdir(parents=True)
    (folder / "etc/ssh/key").write_text("of the appliance")
    errors: list[SpecError] = []
    (file,) = read_files(folder, Path("files"), errors)
    assert (errors, read_content(file.path, depth=file.depth)) == ([], b"of the appliance")
    for swapped in (folder / "etc/ssh", folder / "etc", folder):
        swapped.rename(tmp_path / "was")
        swapped.symlink_to(tmp_path / "host", target_is_directory=True)
        (tmp_path / "host/etc").mkdir(exist_ok=True)
        with pytest.raises(SpecError, match="cannot be read: not a directory"):
            read_content(file.path, depth=file.depth)
        swapped.unlink()
        (tmp_path / "was").rename(swapped)
    # What is above belongs to whoever keeps the checkout, who may have put it elsewhere.
    (tmp_path / "appliance").rename(tmp_path / "moved")
    (tmp_path / "appliance").symlink_to(tmp_path / "moved", target_is_directory=True)
    assert read_content(file.path, depth=file.depth) == b"of the appliance"


def test_a_check_in_a_folder_that_became_a_link_is_not_read(tmp_path: Path) -> None:
    checks = tmp_path / "appliance/checks"
    (checks / "outside").mkdir(parents=True)
    (checks / "outside/10-x.sh").write_text("#!/bin/sh\n")
    errors: list[SpecError] = []
    (check,) = read_checks(checks, Path("checks"), ("outside",), (), errors)
    assert (errors, check.read()) == ([], b"#!/bin/sh\n")
    checks.rename(tmp_path / "elsewhere")
    checks.symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    with pytest.raises(SpecError, match="cannot be read: not a directory"):
        check.read()
