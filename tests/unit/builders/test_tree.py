"""What the tree of an appliance is given for its spec."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from example_root import make_root
from slipway.builders import Source, Workplace, _tree
from slipway.builders._tree import _mountpoints, _settings, _state, check_hygiene, read_secrets, tree_files
from slipway.errors import BuildError, UsageError
from slipway.job import Workshop, prepare
from slipway.namespace import MOUNT, Namespace
from slipway.spec.model import Spec

HEAD = {"schema": 1, "name": "web", "version": "1.0.0", "summary": "A web server", "category": "network"}


def spec(**more: Any) -> Spec:
    return Spec.model_validate({**HEAD, **more})


def test_a_volume_is_a_partition_that_first_boot_makes_with_what_the_image_has_there() -> None:
    volumes = ({"name": "data", "path": "/srv/data", "size_gib": 2}, {"name": "home", "path": "/home"})
    found = _settings(spec(volumes=volumes))
    assert list(found) == ["/usr/lib/repart.d/60-0-data.conf", "/usr/lib/repart.d/60-1-home.conf"]
    assert "Label=data\nFormat=ext4\nCopyFiles=/srv/data:/\nSizeMinBytes=2G\nSizeMaxBytes=2G\n" in found["/usr/lib/repart.d/60-0-data.conf"]
    assert "SizeMaxBytes" not in found["/usr/lib/repart.d/60-1-home.conf"]


@pytest.mark.parametrize(
    ("more", "mountpoints", "state"),
    [
        ({}, [], []),
        ({"volumes": ({"name": "home", "path": "/home"},)}, ["/home"], []),
        ({"root": {"mode": "read-only"}}, ["/state"], ["etc", "home", "root", "srv", "var"]),
        (
            {"root": {"mode": "read-only"}, "volumes": ({"name": "home", "path": "/home"},)},
            ["/state", "/home"],
            ["etc", "root", "srv", "var"],
        ),
    ],
)
def test_what_changes_is_in_the_state_or_a_volume(more: dict[str, Any], mountpoints: list[str], state: list[str]) -> None:
    assert _mountpoints(spec(**more)) == mountpoints
    assert _state(spec(**more)) == state


def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: str, **files: str) -> Source:
    """What builders are given for a thing with more in its spec."""
    text = f"schema: 1\nname: thing\nversion: 1.0.0\nsummary: A thing\ncategory: system\npackages: [web]\n{more}"
    root = make_root(tmp_path, "thing", {"appliance.yaml": text, "README.md": "A thing\n", **files}, monkeypatch)
    shop = Workshop(root=root)
    return prepare(shop, shop.library.load("thing"), builder="mmdebstrap", architecture="amd64").source


def test_secrets_come_from_the_environment_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = source(tmp_path, monkeypatch, "secrets: [ONE_TOKEN, OTHER_TOKEN]\n")
    monkeypatch.setenv("SLIPWAY_SECRET_OTHER_TOKEN", "correct horse")
    monkeypatch.delenv("SLIPWAY_SECRET_ONE_TOKEN", raising=False)
    with pytest.raises(UsageError) as caught:
        read_secrets(given)
    assert str(caught.value) == (
        "error: thing is built with secrets that the environment has not: ONE_TOKEN\n"
        "  hint: its setup scripts are given them: export SLIPWAY_SECRET_ONE_TOKEN=..."
    )
    monkeypatch.setenv("SLIPWAY_SECRET_ONE_TOKEN", "1234567")
    with pytest.raises(UsageError, match=r"^error: the secret ONE_TOKEN is shorter than 8 characters"):
        read_secrets(given)
    monkeypatch.setenv("SLIPWAY_SECRET_ONE_TOKEN", "12345678")
    assert read_secrets(given) == {"ONE_TOKEN": "12345678", "OTHER_TOKEN": "correct horse"}


def test_a_file_and_a_download_in_one_place_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    more = f"downloads:\n  - {{url: 'https://files.test/tool', sha256: {'a' * 64}, path: /usr/bin/tool}}\n"
    root = tmp_path / "root"
    with pytest.raises(UsageError) as caught:
        source(tmp_path, monkeypatch, more, **{"files/usr/bin/tool": "mine\n"})
    assert str(caught.value) == "error: thing has /usr/bin/tool twice: in files/ and in downloads\n  hint: remove one of the two"
    (root / "appliances/thing/files/usr/bin/tool").unlink()
    shop = Workshop(root=root)
    given = prepare(shop, shop.library.load("thing"), builder="mmdebstrap", architecture="amd64").source
    assert tree_files(given)["downloads"].content == f"{'a' * 64}  files/usr/bin/tool\n".encode()


def test_a_tree_with_what_no_image_may_hold_is_refused() -> None:
    with Namespace(memory_mib=16) as namespace:
        tree = MOUNT / "tree"
        namespace.run(["mkdir", "-p", tree / "etc/ssh", tree / "srv"])
        check_hygiene(namespace, tree, "thing")
        namespace.run(["touch", tree / "etc/ssh/ssh_host_rsa_key"])
        namespace.run(["tee", tree / "srv/token"], input=b"correct horse\n")
        with pytest.raises(BuildError) as caught:
            check_hygiene(namespace, tree, "thing", ["correct horse"])
    assert str(caught.value) == (
        "error: the tree of thing holds what no image may hold:\n"
        "  /etc/ssh/ssh_host_rsa_key: an SSH host key, which first boot makes (ssh-host-key)\n"
        "  /srv/token: a secret that the build was given (secret)\n"
        "  hint: remove it in a setup script, or make it on first boot"
    )


def test_a_tree_whose_folder_is_a_link_is_looked_at_in_the_tree(tmp_path: Path) -> None:
    """An absolute link means the tree's own folder, as it does in the running machine, and never this host's."""
    (tmp_path / "shadow").write_text("root:$6$of-this-host:1::::::\n")
    with Namespace(memory_mib=16) as namespace:
        tree = MOUNT / "tree"
        namespace.run(["mkdir", "-p", tree / "data"])
        namespace.run(["ln", "-s", tmp_path, tree / "etc"])
        check_hygiene(namespace, tree, "thing")
        namespace.run(["ln", "-sfn", "/data", tree / "etc"])
        namespace.run(["tee", tree / "data/shadow"], input=b"root::1::::::\n")
        with pytest.raises(BuildError, match="an empty password of 'root' in line 1"):
            check_hygiene(namespace, tree, "thing")


def test_setup_scripts_may_fill_what_memory_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # No memory is taken by a limit: a build that is expected to need 64 MiB may take more, as far as there is more.
    monkeypatch.setattr(_tree, "available_memory_mib", lambda: 1024)
    place = SimpleNamespace(progress=None, cache=None)
    with _tree.workspace(cast(Workplace, place), 64) as namespace:
        status = os.statvfs(namespace.path(MOUNT))
    assert status.f_blocks * status.f_frsize == 768 << 20
