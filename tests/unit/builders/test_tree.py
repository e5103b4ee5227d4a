"""What the tree of an appliance is given for its spec."""

from __future__ import annotations

import io
import os
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from example_root import make_root
from slipway.builders import Source, Workplace, _tree
from slipway.builders._hygiene import check_hygiene
from slipway.builders._settings import settings
from slipway.builders._tree import (
    _mountpoints,
    _state,
    read_secrets,
    require_clock,
    tree_files,
)
from slipway.builders.mmdebstrap import Mmdebstrap
from slipway.cache import Cache
from slipway.errors import BuildError, HostError, UsageError, UserError
from slipway.host.namespace import MOUNT, Namespace
from slipway.job import Workshop, prepare
from slipway.rendering.render import Rendered, RenderedFile
from slipway.spec import parameters as rules
from slipway.spec.model import Spec
from slipway.terminal.progress import Progress

HEAD = {
    "schema": 1,
    "name": "web",
    "version": "1.0.0",
    "summary": "A web server",
    "category": "network",
}


def spec(**more: Any) -> Spec:
    return Spec.model_validate({**HEAD, **more})


def test_a_volume_is_a_partition_that_first_boot_makes_with_what_the_image_has_there() -> None:
    volumes = (
        {"name": "data", "path": "/srv/data", "size_gib": 2},
        {"name": "home", "path": "/home"},
    )
    found = settings(spec(volumes=volumes))
    assert list(found) == ["/usr/lib/repart.d/60-0-data.conf", "/usr/lib/repart.d/60-1-home.conf"]
    assert (
        "Label=data\nFormat=ext4\nCopyFiles=/srv/data:/\nSizeMinBytes=2G\nSizeMaxBytes=2G\n"
        in found["/usr/lib/repart.d/60-0-data.conf"]
    )
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
def test_what_changes_is_in_the_state_or_a_volume(
    more: dict[str, Any], mountpoints: list[str], state: list[str]
) -> None:
    assert _mountpoints(spec(**more)) == mountpoints
    assert _state(spec(**more)) == state


def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: str, **files: str) -> Source:
    """What builders are given for a thing with more in its spec."""
    text = (
        "schema: 1\nname: thing\nversion: 1.0.0\nsummary: A thing\ncategory: system\n"
        f"packages: [web]\n{more}"
    )
    root = make_root(
        tmp_path, "thing", {"appliance.yaml": text, "README.md": "A thing\n", **files}, monkeypatch
    )
    shop = Workshop(root=root)
    return prepare(
        shop, shop.library.load("thing"), builder="mmdebstrap", architecture="amd64"
    ).source


def test_secrets_come_from_the_environment_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = source(tmp_path, monkeypatch, "secrets: [ONE_TOKEN, OTHER_TOKEN]\n")
    monkeypatch.setenv("SLIPWAY_SECRET_OTHER_TOKEN", "correct horse")
    monkeypatch.delenv("SLIPWAY_SECRET_ONE_TOKEN", raising=False)
    with pytest.raises(UsageError) as caught:
        read_secrets(given)
    assert str(caught.value) == (
        "error: thing is built with secrets missing from the environment: ONE_TOKEN\n"
        "  hint: its setup scripts are given them: export SLIPWAY_SECRET_ONE_TOKEN=..."
    )
    monkeypatch.setenv("SLIPWAY_SECRET_ONE_TOKEN", "1234567")
    with pytest.raises(
        UsageError, match=r"^error: the secret ONE_TOKEN is shorter than 8 characters"
    ):
        read_secrets(given)
    monkeypatch.setenv("SLIPWAY_SECRET_ONE_TOKEN", "12345678")
    assert read_secrets(given) == {"ONE_TOKEN": "12345678", "OTHER_TOKEN": "correct horse"}


def test_a_file_and_a_download_in_one_place_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = (
        f"downloads:\n  - {{url: 'https://files.test/tool', sha256: {'a' * 64}, path: "
        "/usr/bin/tool}\n"
    )
    root = tmp_path / "root"
    with pytest.raises(UsageError) as caught:
        source(tmp_path, monkeypatch, more, **{"files/usr/bin/tool": "mine\n"})
    assert str(caught.value) == (
        "error: thing has /usr/bin/tool twice: in files/ and in downloads\n"
        "  hint: remove one of the two"
    )
    (root / "appliances/thing/files/usr/bin/tool").unlink()
    shop = Workshop(root=root)
    given = prepare(
        shop, shop.library.load("thing"), builder="mmdebstrap", architecture="amd64"
    ).source
    assert tree_files(given)["downloads"].content == f"{'a' * 64}  files/usr/bin/tool\n".encode()


def test_the_image_has_the_rules_for_values_that_are_applied_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = tree_files(source(tmp_path, monkeypatch, ""))["files/usr/lib/slipway/accepted.py"]
    assert shipped.content == Path(rules.__file__).read_bytes()


def test_a_clock_before_the_locks_time_makes_no_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Times after the lock's become the lock's: what is written before it would keep its own, and
    differ.
    """
    given = source(tmp_path, monkeypatch, "")
    require_clock(given)
    monkeypatch.setattr("slipway.builders._tree.time.time", lambda: 1_600_000_000.5)
    with pytest.raises(HostError) as caught:
        require_clock(given)
    message = (
        "error: this machine's clock says 2020-09-13 12:26 UTC, and the lock has a package of "
        "2023-11-14 22:13"
    )
    assert str(caught.value) == f"{message}\n  hint: set the clock: sudo timedatectl set-ntp true"
    place = SimpleNamespace(cache=None)
    with (
        pytest.raises(HostError),
        Mmdebstrap().disk(cast("Any", None), cast("Any", None), given, cast("Workplace", place)),
    ):
        pass


def test_large_files_are_counted_and_are_never_whole_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = source(tmp_path, monkeypatch, "", **{"files/srv/large": "x"})
    builder, before = Mmdebstrap(), Mmdebstrap().memory_mib(given)
    (large,) = (item.path for item in given.appliance.files if item.target == "/srv/large")
    os.truncate(large, 200 << 20)
    assert builder.memory_mib(given) - before == 600
    tracemalloc.start()
    try:
        tree_files(given)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 32 << 20


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
        "error: the tree of thing holds what images must not contain:\n"
        "  /etc/ssh/ssh_host_rsa_key: an SSH host key, which first boot makes (ssh-host-key)\n"
        "  /srv/token: a secret that the build was given (secret)\n"
        "  hint: remove it in a setup script, or make it on first boot"
    )


def test_a_tree_whose_folder_is_a_link_is_looked_at_in_the_tree(tmp_path: Path) -> None:
    """An absolute link means the tree's own folder, as it does in the running machine, and never
    this host's.
    """
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


def test_setup_scripts_may_fill_what_memory_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No memory is taken by a limit: a build that is expected to need 64 MiB may take more, as far
    # as there is more.
    monkeypatch.setattr(_tree, "available_memory_mib", lambda: 1024)
    for given, expected in ((0, 768), (80, 80)):
        place = SimpleNamespace(progress=None, cache=None, memory_mib=given)
        with _tree.workspace(cast(Workplace, place), 64) as namespace:
            status = os.statvfs(namespace.path(MOUNT))
        assert status.f_blocks * status.f_frsize == expected << 20


def test_with_less_memory_than_it_needs_a_build_works_on_disk(tmp_path: Path) -> None:
    said = io.StringIO()
    place = SimpleNamespace(
        progress=Progress(said), cache=Cache(tmp_path / "cache", limit_bytes=1), memory_mib=63
    )
    with _tree.workspace(cast(Workplace, place), 64) as namespace:
        namespace.path(MOUNT / "file").touch()
        assert namespace.directory is not None
        assert (namespace.directory / "file").exists()
    assert said.getvalue() == (
        "  memory             64 MiB wanted, 63 to be had: working on disk instead, "
        "which is slower\n"
    )


@pytest.mark.parametrize("full", [True, False])
def test_a_stage_that_runs_out_of_memory_says_so_and_how_to_work_on_disk(
    tmp_path: Path, full: bool
) -> None:
    script = f"head -c {64 if full else 1}M /dev/zero >{MOUNT}/data || exit 3; exit 3"
    with Namespace(memory_mib=16) as namespace:
        Rendered({"part/build.sh": RenderedFile(content=script.encode())}).write(
            namespace.path(MOUNT / "render")
        )
        with pytest.raises(UserError) as caught:
            _tree.run_stage(namespace, "part", tmp_path / "log")
    hint = (
        "the 16 MiB of memory that it worked in are full; work on disk: export SLIPWAY_MEMORY_MIB=1"
    )
    assert caught.value.hint == (hint if full else f"the whole log is {tmp_path / 'log'}")
    assert caught.value.message.startswith("stage part failed: exit status 3\n")
    assert caught.value.exit_code == (4 if full else 5)
