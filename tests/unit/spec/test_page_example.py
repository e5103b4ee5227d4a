"""The spec that everybody copies, from docs/reference/spec.md: it is valid, and says all that
listens.
"""

from __future__ import annotations

import re
from pathlib import Path

from pages import ROOT, blocks
from slipway.spec.library import Appliance, Library
from slipway.spec.model import Port


def example(folder: Path) -> Appliance:
    """Read the page's example as the spec of an appliance of its name."""
    (block,) = [
        block for block in blocks(ROOT / "docs/reference/spec.md") if block.language == "yaml"
    ]
    (folder / "templates").symlink_to(ROOT / "templates")
    place = folder / "appliances/web"
    place.mkdir(parents=True)
    (place / "appliance.yaml").write_text(f"{block.text}\n")
    (place / "README.md").write_text("# web\n")
    return Library(folder).load("web")


def listening(ports: tuple[Port, ...]) -> set[tuple[str, int]]:
    return {(port.protocol, port.port) for port in ports}


def test_the_example_declares_its_server_and_what_every_new_appliance_lets_in(
    tmp_path: Path,
) -> None:
    page = example(tmp_path)
    library = Library(tmp_path)
    library.new("smallest")
    smallest = listening(library.load("smallest").spec.ports)
    assert smallest == {("tcp", 22)}
    assert listening(page.spec.ports) == smallest | {("tcp", 80)}
    assert page.spec.services.enable == ("nginx",)


def test_every_mixin_is_named_on_the_page(tmp_path: Path) -> None:
    example(tmp_path)
    section = (
        (ROOT / "docs/reference/spec.md")
        .read_text()
        .partition("\n## Mix-ins\n")[2]
        .partition(" `templates/mixins/`")[2]
    )
    named = re.findall("`([a-z-]+)`", section.partition(":")[2].partition(".")[0])
    assert sorted(named) == sorted(Library(tmp_path).mixins())
