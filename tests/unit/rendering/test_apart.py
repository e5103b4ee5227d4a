"""Each file of a tree has a place of its own, and that is said before anything is built."""

from __future__ import annotations

from pathlib import Path

import pytest

from example_root import make_root
from slipway.errors import UsageError
from slipway.job import Workshop, prepare

DOWNLOAD = "downloads: [{{url: 'http://x.example/a', sha256: {}, path: {}}}]\n"


def prepared(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    more: str,
    *files: str,
    builder: str = "mmdebstrap",
) -> None:
    text = "schema: 1\nname: thing\nversion: 1.0.0\nsummary: A thing\ncategory: system\n"
    text += f"packages: [web]\n{more}"
    given = dict.fromkeys(files, "x\n")
    root = make_root(tmp_path, "thing", {"appliance.yaml": text, **given}, monkeypatch)
    shop = Workshop(root=root)
    prepare(shop, shop.library.load("thing"), builder=builder, architecture="amd64")


@pytest.mark.parametrize("builder", ["mmdebstrap", "packer"])
@pytest.mark.parametrize(
    ("more", "files", "said"),
    [
        (
            DOWNLOAD.format("a" * 64, "/etc/hostname"),
            [],
            "/etc/hostname twice: the image has this file, and it is a download",
        ),
        (
            DOWNLOAD.format("a" * 64, "/opt/x"),
            ["files/opt/x/y"],
            "/opt/x as a file or a link, and as the folder of /opt/x/y",
        ),
        (
            DOWNLOAD.format("a" * 64, "/etc/hostname/x"),
            [],
            "/etc/hostname as a file or a link, and as the folder of /etc/hostname/x",
        ),
        (
            "",
            ["files/usr/lib/slipway/firstboot.py/x"],
            "/usr/lib/slipway/firstboot.py as a file or a link, and as the folder of "
            "/usr/lib/slipway/firstboot.py/x",
        ),
        (
            "volumes: [{name: data, path: /data}]\n",
            ["files/data"],
            "/data as a file or a link, and as a volume's place",
        ),
        (
            "volumes: [{name: data, path: /data/x}]\n",
            ["files/data"],
            "/data as a file or a link, and as a volume's place",
        ),
    ],
)
def test_what_has_no_place_of_its_own_is_refused_before_work(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    more: str,
    files: list[str],
    said: str,
    builder: str,
) -> None:
    with pytest.raises(UsageError) as raised:
        prepared(tmp_path, monkeypatch, more, *files, builder=builder)
    hint = "remove one of the two" if "twice" in said else "remove or rename one of the two"
    assert str(raised.value) == f"error: thing has {said}\n  hint: {hint}"


def test_what_stands_beside_each_other_is_fine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = DOWNLOAD.format("a" * 64, "/data/tool") + "volumes: [{name: data, path: /data}]\n"
    prepared(tmp_path, monkeypatch, more, "files/data/y", "files/database")
