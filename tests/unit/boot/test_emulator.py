"""Which QEMU runs a machine, and what is said of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from example_root import make_root
from slipway import pipeline
from slipway.boot.emulator import choose, host_version, tree_version, wants_tree
from slipway.boot.qemu_tree import lock_path, tree_lock
from slipway.errors import BuildError, UsageError
from slipway.host.accelerator import Accelerator
from slipway.job import Job, Workshop, prepare
from slipway.packages.locked import Lock, LockedPackage
from slipway.spec.emulators import read_emulators
from slipway.terminal.progress import Progress

TEMPLATES = Path(__file__).parents[3] / "templates/qemu"
SPEC = (
    "schema: 1\nname: web\nversion: 1.0.0\nsummary: A web server\ncategory: network\n"
    "packages: [web]\n"
)
OLD = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)"
NEW = "QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)"
KVM, TCG = (Accelerator(name=name, reason="") for name in ("kvm", "tcg"))
NONE = "the setting qemu is {}"
SLOW = "there is no KVM, and this host's 7.2.22 is older than 9"


def locked(version: str = "1:10.0.13+ds-0+deb13u1") -> Lock:
    package = LockedPackage(
        name="qemu",
        version=version,
        architecture="amd64",
        sha256="0" * 64,
        size=1,
        archive="debian",
        path="p",
    )
    return Lock(
        base="b",
        kernel="",
        architecture="amd64",
        source_date_epoch=0,
        requested=("qemu",),
        base_packages=(),
        packages=(package,),
    )


@pytest.mark.parametrize(
    ("setting", "accelerator", "said", "name", "version", "reason"),
    [
        ("auto", TCG, OLD, "tree", "10.0.13", SLOW),
        (
            "auto",
            TCG,
            "QEMU emulator version 8.2.2 (Debian 1:8.2.2)",
            "tree",
            "10.0.13",
            SLOW.replace("7.2.22", "8.2.2"),
        ),
        (
            "auto",
            TCG,
            "QEMU emulator version 9.0.0",
            "host",
            "9.0.0",
            "it is new enough to emulate fast",
        ),
        ("auto", TCG, NEW, "host", "10.0.2", "it is new enough to emulate fast"),
        ("auto", TCG, "played", "host", "", "it does not say its version"),
        ("auto", KVM, OLD, "host", "7.2.22", "KVM runs the machines"),
        ("auto", KVM, NEW, "host", "10.0.2", "KVM runs the machines"),
        ("host", TCG, OLD, "host", "7.2.22", NONE.format("host")),
        ("host", KVM, OLD, "host", "7.2.22", NONE.format("host")),
        ("tree", TCG, NEW, "tree", "10.0.13", NONE.format("tree")),
        ("tree", KVM, OLD, "tree", "10.0.13", NONE.format("tree")),
    ],
)
def test_the_faster_one_runs_machines(
    setting: str, accelerator: Accelerator, said: str, name: str, version: str, reason: str
) -> None:
    found = choose(setting, accelerator, said, locked())
    assert (found.name, found.version, found.reason, found.accelerator) == (
        name,
        version,
        reason,
        accelerator,
    )
    assert name == "host" or wants_tree(setting, said)


def test_where_there_is_no_lock_the_hosts_runs_them_unless_the_tree_is_asked_for() -> None:
    found = choose("auto", TCG, OLD, None)
    assert (
        found.summary
        == "7.2.22, this host's own: it is older than 9, but there is no lock of a newer one"
    )
    with pytest.raises(UsageError) as caught:
        choose("tree", TCG, OLD, None)
    assert str(caught.value) == (
        "error: Slipway has no QEMU of its own for this machine and host\n"
        "  hint: export SLIPWAY_QEMU=host"
    )


@pytest.mark.parametrize(
    ("setting", "said", "wanted"),
    [
        ("auto", OLD, True),
        ("auto", NEW, False),
        ("auto", "played", False),
        ("host", OLD, False),
        ("tree", NEW, True),
        ("tree", "", True),
    ],
)
def test_a_plan_counts_a_tree_where_one_may_be_used(setting: str, said: str, wanted: bool) -> None:
    assert wants_tree(setting, said) is wanted


def test_versions_are_read_as_qemu_and_debian_write_them() -> None:
    assert (host_version(OLD), host_version("qemu 7"), host_version("")) == ("7.2.22", "", "")
    versions = ("1:10.0.13+ds-0+deb13u1", "1:11.1.0~rc2+ds-1", "10.0-1")
    assert [tree_version(locked(version)) for version in versions] == ["10.0.13", "11.1.0", "10.0"]


def test_each_lock_is_for_what_the_file_asks_for_and_of_a_version_that_is_worth_it() -> None:
    wanted = read_emulators(TEMPLATES)
    for system, packages in wanted.packages.items():
        lock = tree_lock(TEMPLATES, system, "amd64")
        assert lock, f"run: invoke lock --qemu ({lock_path(TEMPLATES, system, 'amd64')})"
        assert (lock.base, lock.requested, lock.architecture) == (wanted.base, packages, "amd64")
        assert not wants_tree("auto", f"QEMU emulator version {tree_version(lock)}")
    assert tree_lock(TEMPLATES, "x86_64", "riscv64") is None


def inputs(root: Path) -> dict[str, dict[str, str]]:
    shop = Workshop(root=root, progress=Progress(quiet=True))
    job = prepare(shop, shop.library.load("web"), builder="mmdebstrap", architecture="amd64")
    return {stage.kind: dict(stage.inputs) for stage in job.plan.stages}


def test_a_boot_depends_on_each_qemu_that_may_run_it_and_an_image_on_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_root(tmp_path, "web", {"appliance.yaml": SPEC}, monkeypatch)
    monkeypatch.setattr("slipway.job.host_architecture", lambda: "amd64")
    said = OLD
    monkeypatch.setattr(
        Workshop,
        "versions",
        lambda _, names: {name: said if name == "qemu-system-x86_64" else "1" for name in names},
    )
    old = inputs(root)
    path = lock_path(root / "templates/qemu", "x86_64", "amd64")
    path.write_text(
        re.sub('"sha256": "[0-9a-f]+"', f'"sha256": "{"0" * 64}"', path.read_text(), count=1)
    )
    renewed = inputs(root)
    assert renewed["boot"]["qemu"] != old["boot"]["qemu"]
    assert {kind: each for kind, each in old.items() if kind != "boot"} == {
        kind: each for kind, each in renewed.items() if kind != "boot"
    }
    monkeypatch.setenv("SLIPWAY_QEMU", "tree")
    assert "qemu" in inputs(root)["boot"] and "qemu-system-x86_64" not in inputs(root)["boot"]
    monkeypatch.setenv("SLIPWAY_QEMU", "host")
    assert "qemu" not in inputs(root)["boot"] and inputs(root)["boot"]["qemu-system-x86_64"] == OLD
    monkeypatch.delenv("SLIPWAY_QEMU")
    said = NEW
    assert "qemu" not in inputs(root)["boot"]


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Workshop, Job, list[str]]:
    """An appliance on a host without KVM, with an old QEMU, whose mirror has none of the locked
    packages.
    """
    root = make_root(tmp_path, "web", {"appliance.yaml": SPEC}, monkeypatch)
    monkeypatch.setenv("SLIPWAY_MIRROR", f"file://{tmp_path}/none")
    shop = Workshop(root=root, progress=Progress(quiet=True))
    notes: list[str] = []
    monkeypatch.setattr(shop.progress, "note", lambda *words: notes.append(": ".join(words)))
    monkeypatch.setattr("slipway.job.host_architecture", lambda: "amd64")
    monkeypatch.setattr(pipeline, "probe", lambda _: TCG)
    monkeypatch.setattr(Workshop, "versions", lambda _, names: dict.fromkeys(names, OLD))
    return (
        shop,
        prepare(shop, shop.library.load("web"), builder="mmdebstrap", architecture="amd64"),
        notes,
    )


def test_where_the_tree_cannot_be_made_the_hosts_runs_the_checks_and_it_is_said(
    job: tuple[Workshop, Job, list[str]],
) -> None:
    shop, made, notes = job
    found: Any = pipeline.find_emulator(shop, made)
    assert (found.name, found.version, found.tree) == ("host", "7.2.22", None)
    lock = tree_lock(TEMPLATES, "x86_64", "amd64")
    assert lock
    why = (
        f"a newer one cannot be made here: {len(lock.packages)} of the locked packages cannot be "
        "downloaded:"
    )
    assert notes == [f"qemu: 7.2.22, this host's own: {why}"]


def test_a_tree_that_is_asked_for_and_cannot_be_made_ends_the_build(
    job: tuple[Workshop, Job, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    shop, made, _notes = job
    shop.__dict__.pop("settings", None)
    monkeypatch.setenv("SLIPWAY_QEMU", "tree")
    with pytest.raises(BuildError, match="of the locked packages cannot be downloaded"):
        pipeline.find_emulator(shop, made)
