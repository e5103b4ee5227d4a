"""The page of appliances, and what it asks for before it is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from example_root import make_root
from slipway.errors import BuildError
from slipway.job import Workshop, prepare
from slipway.workflows.overview import Row, overview, page

ROW = Row(
    name="web",
    summary="A web server",
    version="1.2.0",
    packages=230,
    download=100 * 2**20,
    installed=300 * 2**20,
    memory_mib=90,
    start_s=61.4,
    accelerator="tcg",
    ports=("80/tcp", "443/tcp"),
)


def test_every_appliance_has_a_line_with_what_was_measured() -> None:
    line = page([ROW]).splitlines()[-1]
    assert line == (
        "| [web](../appliances/web/README.md): A web server | 1.2.0 | 230 | 100.0 MiB | 300.0 MiB "
        "| 90 MiB | 61 s | 80/tcp, 443/tcp |"
    )
    assert "emulated" in page([ROW])


def test_what_is_not_built_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = (
        "schema: 1\nname: web\nversion: 1.0.0\nsummary: A web server\ncategory: network\n"
        "packages: [web]\n"
    )
    shop = Workshop(root=make_root(tmp_path, "web", {"appliance.yaml": spec}, monkeypatch))
    job = prepare(shop, shop.library.load("web"), builder="mmdebstrap", architecture="amd64")
    with pytest.raises(BuildError, match="not up to date: web"):
        overview(shop, [job])
