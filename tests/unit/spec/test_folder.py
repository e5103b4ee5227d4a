"""What was a plain file when a folder was listed is read only if it still is one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from slipway.errors import SpecError
from slipway.spec.folder import MAX_FILE_BYTES, read_content


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
def test_a_file_that_is_none_any_more_is_an_error(tmp_path: Path, make: Callable[[Path], None], said: str) -> None:
    make(tmp_path / "file")
    with pytest.raises(SpecError) as raised:
        read_content(tmp_path / "file", Path("files/file"))
    assert (raised.value.message, str(raised.value.where)) == (said, "files/file")
