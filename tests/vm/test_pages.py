"""The pages with nothing left out: what takes minutes is built and booted; and the spec that
everybody copies.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pages import ROOT, Reader, blocks, is_console, pages

pytestmark = [pytest.mark.vm, pytest.mark.nightly]
PAGES = [path for path in pages() if any(block.mark == "minutes" for block in blocks(path))]
#: What a reader without a mirror of the system's own is told to set.
MIRROR = {name: os.environ[name] for name in ("SLIPWAY_MIRROR",) if name in os.environ}


@pytest.mark.timeout(5400)
@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_a_page_runs_as_written(path: Path, tmp_path: Path) -> None:
    reader = Reader(tmp_path, MIRROR)
    built = set()
    for block in filter(is_console, blocks(path)):
        if block.mark == "example":
            continue
        for command, _ in block.commands if block.mark else ():
            if command in built:  # "after a change"
                for spec in (reader.project / "appliances").glob("*/appliance.yaml"):
                    _change(spec.parent)
            built.add(command)
            status, said = reader.types(command, timeout_s=1800)
            assert status == 0, f"{block.page}:{block.line}: {command}\n{said}"
        if not block.mark:
            reader.follows(block)


def _change(appliance: Path) -> None:
    """Change an appliance: a copy takes the place of the link, with one file more."""
    if appliance.is_symlink():
        source = appliance.resolve()
        appliance.unlink()
        for path in sorted(source.rglob("*")):
            target = appliance / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.is_symlink():
                target.symlink_to(path.readlink())
            elif path.is_dir():
                target.mkdir(exist_ok=True)
            else:
                target.write_bytes(path.read_bytes())
                target.chmod(path.stat().st_mode)
    (appliance / "files/etc").mkdir(parents=True, exist_ok=True)
    (appliance / "files/etc/changed").write_text("after a change\n")


@pytest.mark.timeout(1800)
def test_the_example_of_the_spec_builds_boots_and_passes(tmp_path: Path) -> None:
    (block,) = [
        block for block in blocks(ROOT / "docs/reference/spec.md") if block.language == "yaml"
    ]
    reader = Reader(tmp_path, MIRROR)
    place = reader.project / "appliances/web"
    place.mkdir()
    (place / "appliance.yaml").write_text(f"{block.text}\n")
    (place / "README.md").write_text("# web\n")
    status, said = reader.types("./run build web", timeout_s=1500)
    assert status == 0, said
    assert "checks passed" in said
