"""What goes wrong names the next step, and makes nothing on the way."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from example_release import write_example
from slipway.channels.keys import init

ROOT = Path(__file__).parents[2]
Types = Callable[..., str]


@pytest.fixture
def types(tmp_path: Path) -> Types:
    """Type a command in an empty checkout; returns all that it printed."""
    for folder in ("appliances", "templates"):
        (tmp_path / folder).mkdir()
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    environment = {
        **kept,
        "HOME": str(tmp_path / "home"),
        "PYTHONPATH": str(ROOT / "src"),
        "PYTHONUNBUFFERED": "1",
    }

    def types(words: str, status: int) -> str:
        argv = [sys.executable, "-P", "-m", "slipway", "--search-root=.", *words.split()]
        done = subprocess.run(
            argv,
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == status, done.stdout
        return done.stdout

    return types


def test_a_first_publication_of_nothing_makes_no_keys_and_no_store(
    tmp_path: Path, types: Types
) -> None:
    assert types("publish --folder=nosuch", 5) == (
        "error: there is no folder nosuch\n"
        "  hint: --folder needs the output of builds: the folder build, or what CI downloaded\n"
    )
    for words in ("publish nosuch", "build nosuch --publish"):
        assert 'error: there is no appliance "nosuch"\n' in types(words, 2)
    assert not (tmp_path / "home/.config").exists()
    assert not (tmp_path / "build").exists()


def test_a_plan_makes_no_lock(tmp_path: Path, types: Types) -> None:
    (tmp_path / "templates").rmdir()
    (tmp_path / "templates").symlink_to(ROOT / "templates")
    types("new thing", 0)
    assert "appliances/other\n" in types("new other --like=appliances/thing/", 0)
    files = sorted(tmp_path.glob("appliances/thing/**/*"))
    assert types("plan appliances/thing --arch=arm64", 3) == (
        "appliances/thing/lock.arm64.json: error: there is no lock of thing for arm64\n"
        "  hint: run: invoke lock thing --arch arm64\n"
    )
    assert sorted(tmp_path.glob("appliances/thing/**/*")) == files


def test_the_folder_of_an_appliance_is_no_release(tmp_path: Path, types: Types) -> None:
    for number in (1, 2):
        write_example(tmp_path / f"build/example/1.0.0-b{number}", number)
    assert types("export build/example --format=vhdx", 5) == (
        "error: build/example holds releases, and is none\n"
        "  hint: name one: build/example/1.0.0-b1 build/example/1.0.0-b2\n"
    )


def test_an_image_that_the_store_has_lost(tmp_path: Path, types: Types) -> None:
    write_example(tmp_path / "one", 1)
    init("nightly", tmp_path / "keys")
    types("publish --folder=one --store=store --keys=keys", 0)
    (image,) = (tmp_path / "store/targets").rglob("*.qcow2")
    image.unlink()
    hint = (
        "  hint: the store has lost it: its publisher sees what is missing by: invoke verify; "
        "another release: --build ID\n"
    )
    said = types("fetch example --channel=nightly --store=store --keys=keys", 6)
    assert said.endswith(
        f"error: there is no {image.relative_to(tmp_path / 'store')} in {tmp_path}/store\n{hint}"
    )
    (manifest,) = (tmp_path / "store/targets").rglob("*.manifest.json")
    manifest.unlink()
    assert types("fetch example --channel=nightly --store=store --keys=keys", 6).endswith(hint)


def test_keys_show_names_the_root_that_readers_need(tmp_path: Path, types: Types) -> None:
    init("stable", tmp_path / "keys")
    line = (
        f"trust      {tmp_path}/keys/stable/1.root.json: readers have it as "
        "trust/stable.root.json\n"
    )
    assert line in types("keys show stable --keys=keys", 0)
