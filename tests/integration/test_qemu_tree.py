"""QEMU from a tree of its own: made of the locked packages, it runs a machine and is nobody on this
host.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from slipway.boot.emulator import tree_version
from slipway.boot.machine import Machine, running
from slipway.boot.qemu_tree import lock_path, make_tree, open_tree, tree_lock
from slipway.builders import Workplace
from slipway.cache import Cache
from slipway.errors import BuildError
from slipway.host import process
from slipway.host.accelerator import Accelerator, host_architecture
from slipway.host.namespace import Namespace
from slipway.job import Workshop
from slipway.packages.locked import Lock
from slipway.plan import make_stage
from slipway.terminal.progress import Progress

ROOT = Path(__file__).parents[2]
LOCKS = ROOT / "templates/qemu"

pytestmark = pytest.mark.skipif(
    not lock_path(LOCKS, "x86_64", host_architecture()).exists(),
    reason="no lock for this host's architecture",
)


@pytest.fixture(scope="module")
def shop() -> Workshop:
    return Workshop(root=ROOT, progress=Progress(quiet=True))


@pytest.fixture(scope="module")
def place(shop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    """A cache of its own, with this host's packages."""
    folder = tmp_path_factory.mktemp("qemu")
    (folder / "logs").mkdir()
    cache = Cache(folder / "cache", limit_bytes=1 << 40)
    yield Workplace(
        cache=cache, pool=shop.pool, progress=shop.progress, logs=folder / "logs", memory_mib=0
    )


def locked(system: str) -> Lock:
    found = tree_lock(LOCKS, system, host_architecture())
    assert found
    return found


@pytest.mark.parametrize("system", ["x86_64", "aarch64"])
def test_the_trees_qemu_runs_a_machine_and_ends(
    shop: Workshop, place: Workplace, tmp_path: Path, system: str
) -> None:
    lock = locked(system)
    stage = make_stage("qemu", {"system": system})
    tree = make_tree(stage, lock, system, shop.mirrors, place)
    assert make_tree(stage, lock, system, {}, place) == tree, "it is made once"
    disk = tmp_path / "disk"
    process.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "1M"])
    architecture, machine = {"x86_64": ("amd64", "q35"), "aarch64": ("arm64", "virt")}[system]
    described = Machine(
        architecture=architecture,
        system=system,
        machine=machine,
        cpus=1,
        memory_mib=64,
        disk=disk,
        firmware="bios",
        accelerator=Accelerator(name="tcg", reason=""),
        console=tmp_path / "console",
        credentials={"slipway.thing": b"value"},
        networks=("user,restrict=on",),
        ports={"results": tmp_path / "results"},
    )
    (tmp_path / "results").touch()
    with Namespace(memory_mib=16) as namespace:
        described = replace(described, program=open_tree(tree, system, namespace.enter))
        with running(described, enter=namespace.enter, log=tmp_path / "log") as guest:
            version = guest.ask("query-version")
            assert ".".join(
                str(version["qemu"][part]) for part in ("major", "minor", "micro")
            ) == tree_version(lock)
            assert guest.ask("query-status")["running"]
            pid = qemu_of(described.console)
            loaded = set(
                re.findall(r"(/\S+\.so\S*)$", Path(f"/proc/{pid}/maps").read_text(), re.MULTILINE)
            )
            assert len(loaded) > 20
            assert not [path for path in loaded if not path.startswith("/mnt/qemu/usr/lib/")]
            status = Path(f"/proc/{pid}/status").read_text()
            assert "Seccomp:\t2\n" in status
            if os.geteuid() == 0:
                assert re.search(rf"^Uid:(\t{0x70000000}){{4}}$", status, re.MULTILINE), status
                assert re.search(r"^CapEff:\t0+$", status, re.MULTILINE), status
            guest.ask("quit")
            guest.qemu.wait(60)
        assert (tmp_path / "log").read_text() == ""
    assert not Path("/mnt/qemu").exists()


def qemu_of(console: Path) -> int:
    """The process that writes to a console."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            if (
                f"path={console}".encode() in path.read_bytes()
                and b"nsenter" not in path.read_bytes()
            ):
                return int(path.parent.name)
    raise AssertionError("QEMU does not run")


def test_a_tree_without_a_library_is_not_made(shop: Workshop, place: Workplace) -> None:
    lock = locked("x86_64")
    lacking = replace(
        lock,
        packages=tuple(package for package in lock.packages if package.name != "libpixman-1-0"),
    )
    with pytest.raises(BuildError) as caught:
        make_tree(make_stage("qemu", {"lacks": "pixman"}), lacking, "x86_64", shop.mirrors, place)
    assert "libpixman-1.so.0 => " in caught.value.message
    assert "qemu-system-x86_64 does not load these from its own tree" in caught.value.message
