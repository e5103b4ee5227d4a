"""Every case in ``tests/bad_specs/``: a library with one wrong appliance, and the whole text that
must be said about it.

A case is laid over a library with one base; ``expected.txt`` is the text. What no checkout can hold
is made here.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from golden import require_golden
from slipway.errors import SpecErrors
from slipway.spec.library import Library

__all__: list[str] = []

CASES = Path(__file__).parents[2] / "bad_specs"
HEAD = "schema: 1\nname: web\nversion: 1.0.0\nsummary: A web server\ncategory: network\n"


def ten_megabytes(appliance: Path) -> None:
    (appliance / "appliance.yaml").write_text(HEAD + "# filler\n" * (10 * 2**20 // 9))


def deeply_nested(appliance: Path) -> None:
    (appliance / "appliance.yaml").write_text(HEAD + "packages: " + "[" * 200_000)


def file_names_that_cannot_be(appliance: Path) -> None:
    (appliance / "appliance.yaml").write_text(HEAD)
    etc = appliance / "files/etc"
    etc.mkdir(parents=True)
    for name in (b"two\nlines", b"..\\..\\passwd", b"caf\xe9"):
        Path(os.fsdecode(bytes(etc) + b"/" + name)).touch()
    (etc / "link").symlink_to("back\\slash")


def fifos(appliance: Path) -> None:
    (appliance / "files").mkdir()
    os.mkfifo(appliance / "files/pipe")
    os.mkfifo(appliance / "appliance.yaml")


GENERATED: dict[str, Callable[[Path], None]] = {
    "ten-megabytes": ten_megabytes,
    "deeply-nested": deeply_nested,
    "file-names-that-cannot-be": file_names_that_cannot_be,
    "fifos": fifos,
}


@pytest.mark.parametrize("case", sorted(path.name for path in CASES.iterdir() if path.is_dir()))
def test_everything_wrong_is_said_at_once(
    case: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(CASES / case, root, symlinks=True, dirs_exist_ok=True)
    if case in GENERATED:
        appliance = root / "appliances/web"
        appliance.mkdir()
        GENERATED[case](appliance)
    monkeypatch.chdir(root)
    with pytest.raises(SpecErrors) as raised:
        Library(Path()).load("web")
    require_golden(f"{raised.value}\n", (CASES / case / "expected.txt").read_text())
