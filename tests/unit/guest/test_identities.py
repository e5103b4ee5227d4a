"""Names and keys that packages make: removed from the image, made again by each instance, once."""

from __future__ import annotations

import json
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ISCSI = "## DO NOT EDIT\nInitiatorName=iqn.1993-08.org.debian:01:1\n"


@pytest.fixture(scope="module")
def identities(guest_module: Callable[[str], ModuleType]) -> ModuleType:
    """The module identities.py of the image."""
    return guest_module("identities")


def put(root: Path, path: str, text: str, mode: int = 0o640) -> Path:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(mode)
    return file


def instance(root: Path, name: str) -> None:
    put(root, "etc/machine-id", name * 32 + "\n")


@pytest.fixture
def tree(tmp_path: Path, identities: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree with two identities, whose scripts write below it and say in "runs" when they are
    run.
    """
    scripts = {
        "one": (
            f"echo one >>{tmp_path}/runs; for file; do cat /proc/sys/kernel/random/uuid "
            f'>"{tmp_path}$file"; done'
        ),
        "two": (
            f"echo two >>{tmp_path}/runs; test -e {tmp_path}/good; for file; "
            f'do echo 2 >"{tmp_path}$file"; done'
        ),
    }
    table = (
        identities.Identity(
            name="one", files=("etc/one/*.key",), script=scripts["one"], links=("etc/one/*.0",)
        ),
        identities.Identity(name="two", files=("etc/two",), script=scripts["two"]),
    )
    monkeypatch.setattr(identities, "IDENTITIES", table)
    instance(tmp_path, "a")
    return tmp_path


def test_what_the_image_has_is_removed_and_noted_with_its_mode(
    tmp_path: Path, identities: ModuleType
) -> None:
    key = put(tmp_path, "etc/bind/rndc.key", "secret")
    put(tmp_path, "etc/iscsi/initiatorname.iscsi", ISCSI, 0o600)
    certificate = put(tmp_path, "etc/ssl/certs/ssl-cert-snakeoil.pem", "x", 0o644)
    (certificate.parent / "0a1b2c3d.0").symlink_to("ssl-cert-snakeoil.pem")
    (certificate.parent / "ffffffff.0").symlink_to("other.pem")
    owner = [key.stat().st_uid, key.stat().st_gid]
    assert identities.main(["--root", str(tmp_path), "--forget"]) == 0
    files = sorted(
        str(path.relative_to(tmp_path))
        for path in tmp_path.rglob("*")
        if path.is_symlink() or path.is_file()
    )
    assert files == ["etc/ssl/certs/ffffffff.0", "usr/lib/slipway/identities.json"]
    assert json.loads((tmp_path / "usr/lib/slipway/identities.json").read_text()) == {
        "bind9": {"/etc/bind/rndc.key": [0o640, *owner]},
        "open-iscsi": {"/etc/iscsi/initiatorname.iscsi": [0o600, *owner]},
        "ssl-cert": {"/etc/ssl/certs/ssl-cert-snakeoil.pem": [0o644, *owner]},
    }


def test_what_is_no_identity_stays_and_no_note_is_made(
    tmp_path: Path, identities: ModuleType
) -> None:
    kept = [
        put(tmp_path, "etc/iscsi/initiatorname.iscsi", "GenerateName=yes\n"),
        put(tmp_path, "etc/nvme/discovery.conf", "# none\n"),
        put(tmp_path, "srv/key", "x"),
    ]
    (tmp_path / "etc/bind").mkdir()
    (tmp_path / "etc/bind/rndc.key").symlink_to("/srv/key")
    assert identities.forget(tmp_path) == []
    assert all(path.is_file() for path in kept) and (tmp_path / "etc/bind/rndc.key").is_symlink()
    assert not (tmp_path / "usr").exists()
    assert identities.make(tmp_path) == []


def test_an_instance_makes_them_once_and_a_clone_makes_its_own(
    tree: Path, identities: ModuleType
) -> None:
    key = put(tree, "etc/one/a.key", "of the image", 0o440)
    (tree / "etc/one/0.0").symlink_to("a.key")
    identities.forget(tree)
    assert identities.make(tree) == ["one"]
    first = key.read_text()
    assert first != "of the image" and stat.S_IMODE(key.stat().st_mode) == 0o440
    assert identities.make(tree) == [] and key.read_text() == first
    instance(tree, "b")
    assert identities.make(tree) == ["one"]
    assert key.read_text() != first
    assert (tree / "runs").read_text() == "one\none\n"


def test_what_an_instance_was_given_stays(tree: Path, identities: ModuleType) -> None:
    key = put(tree, "etc/one/a.key", "of the image")
    identities.forget(tree)
    key.write_text("of its owner")
    assert identities.make(tree) == [] and key.read_text() == "of its owner"
    key.unlink()  # the owner's own wish
    assert identities.make(tree) == [] and not key.exists()


def test_a_new_image_brings_more(tree: Path, identities: ModuleType) -> None:
    put(tree, "etc/one/a.key", "x")
    identities.forget(tree)
    assert identities.make(tree) == ["one"]
    put(tree, "etc/two", "x")
    put(tree, "good", "")
    identities.forget(tree)  # of one, too, which is there again
    assert identities.make(tree) == ["two"]


def test_one_that_fails_is_named_the_others_are_made_and_the_next_boot_tries_again(
    tree: Path, identities: ModuleType, capsys: Any
) -> None:
    put(tree, "etc/one/a.key", "x")
    put(tree, "etc/two", "x")
    identities.forget(tree)
    assert identities.main(["--root", str(tree)]) == 1
    ended = capsys.readouterr()
    assert (
        ended.out == ""
        and ended.err == "the identity of two cannot be made: sh failed with status 1\n"
    )
    assert (tree / "etc/one/a.key").exists() and not (tree / "etc/two").exists()
    put(tree, "good", "")
    assert identities.main(["--root", str(tree)]) == 0
    assert capsys.readouterr().out == "made: the identity of two\n"
    assert (tree / "runs").read_text() == "one\ntwo\ntwo\n"


def test_first_boot_fails_where_one_cannot_be_made(guest: Any) -> None:
    put(
        guest.root,
        "usr/lib/slipway/identities.json",
        json.dumps({"bind9": {"/etc/bind/none": [0, 0, 0]}}),
    )
    ended = guest.boot()
    assert ended.returncode == 1
    assert (
        "the identity of bind9 cannot be made: sh failed with status 127; bind9: 2: "
        "rndc-confgen: not found"
    ) in ended.stderr


def test_each_script_is_one_of_a_shell(identities: ModuleType) -> None:
    for identity in identities.IDENTITIES:
        subprocess.run(["sh", "-n"], input=identity.script, text=True, check=True, timeout=10)
        subprocess.run(
            ["shellcheck", "-s", "sh", "-"],
            input=f"set -eu\n{identity.script}\n",
            text=True,
            check=True,
            timeout=60,
        )
