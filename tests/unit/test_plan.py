"""A change makes exactly the stages new that it touches: the table below is what authors can rely
on.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from example_root import make_root, package
from slipway.host.namespace import overlay_marks
from slipway.job import Workshop, prepare
from slipway.outputs import duration_key, expected, expected_boot, explain
from slipway.packages.lock import LockedPackage, read_lock, write_lock
from slipway.plan import make_stage, reasons
from slipway.terminal.progress import Progress
from slipway.tools import code_digest, tool_versions

ROOT = Path(__file__).parents[2]
SPEC = """\
schema: 1
name: thing
version: 1.0.0
summary: A thing
category: system
packages: [web]
"""
ARTIFACTS = {"artifact:qcow2", "artifact:raw"}
FROM_DISK = {"disk", *ARTIFACTS, "boot"}
FROM_TREE = {"tree", *FROM_DISK}
FROM_PACKAGES = {"packages", *FROM_TREE}
ALL = {"base", *FROM_PACKAGES}


FILES = {
    "appliance.yaml": SPEC,
    "README.md": "A thing\n",
    "files/etc/thing.conf": "a\n",
    "files/etc/other.conf.j2": "{{ spec.name }}\n",
    "setup/10-users.sh": "true\n",
    "firstboot/10-keys.sh": "true\n",
    "checks/10-inside.sh": "true\n",
    "checks/outside/10-port.py": "pass\n",
}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make_root(tmp_path, "thing", FILES, monkeypatch)


def stages(root: Path) -> dict[str, str]:
    """Stage ids by kind."""
    shop = Workshop(root=root)
    job = prepare(shop, shop.library.load("thing"), builder="mmdebstrap", architecture="amd64")
    return {stage.kind: stage.id for stage in job.plan.stages}


def written(name: str, content: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        path = root / "appliances/thing" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)

    return change


def appended(name: str, content: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        with (root / name).open("a") as file:
            file.write(content)

    return change


def spec(old: str, new: str) -> Callable[[Path], None]:
    return written("appliance.yaml", SPEC.replace(old, new))


def locked(**groups: tuple[LockedPackage, ...]) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        path = root / "appliances/thing/lock.amd64.json"
        write_lock(path, replace(read_lock(path), **groups))  # type: ignore[arg-type]

    return change


def rebuilt(name: str) -> LockedPackage:
    """A package of the same version with other bytes."""
    return replace(package(name), sha256="a" * 64)


def both(*changes: Callable[[Path], None]) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        for each in changes:
            each(root)

    return change


def another_package(root: Path) -> None:
    spec("[web]", "[web, more]")(root)
    path = root / "appliances/thing/lock.amd64.json"
    write_lock(
        path,
        replace(
            read_lock(path), requested=("more", "web"), packages=(package("more"), package("web"))
        ),
    )


@pytest.mark.parametrize(
    ("change", "new"),
    [
        pytest.param(spec("A thing", "Another thing"), set(), id="summary"),
        pytest.param(spec("1.0.0", "1.0.1"), set(), id="version"),
        pytest.param(
            appended("appliances/thing/appliance.yaml", "# a comment\n"), set(), id="comment"
        ),
        pytest.param(written("README.md", "Another text\n"), set(), id="readme"),
        pytest.param(written("checks/10-inside.sh", "false\n"), {"boot"}, id="check"),
        pytest.param(
            written("checks/10-inside.sh", "# timeout: 90\ntrue\n"),
            {"boot"},
            id="time limit of a check",
        ),
        pytest.param(written("checks/20-more.sh", "true\n"), {"boot"}, id="another check"),
        pytest.param(
            written("checks/outside/10-port.py", "exit()\n"), {"boot"}, id="check from outside"
        ),
        pytest.param(
            appended(
                "appliances/thing/appliance.yaml",
                "ports:\n  - {port: 80, protocol: tcp, purpose: Web}\n",
            ),
            {"boot"},
            id="port",
        ),
        pytest.param(
            appended("appliances/thing/appliance.yaml", "resources: {memory_mib: 2048}\n"),
            {"boot"},
            id="memory",
        ),
        pytest.param(
            appended("appliances/thing/appliance.yaml", "resources: {disk_gib: 30}\n"),
            {"artifact:qcow2", "boot"},
            id="disk's size",
        ),
        pytest.param(written("files/etc/thing.conf", "b\n"), FROM_TREE, id="file"),
        pytest.param(
            written("files/etc/other.conf.j2", "{{ spec.version }}\n"), FROM_TREE, id="template"
        ),
        pytest.param(written("files/etc/new.conf", ""), FROM_TREE, id="another file"),
        pytest.param(written("setup/10-users.sh", "false\n"), FROM_TREE, id="setup script"),
        pytest.param(written("firstboot/10-keys.sh", "false\n"), FROM_TREE, id="first boot script"),
        pytest.param(
            appended(
                "appliances/thing/appliance.yaml",
                "parameters:\n  - {name: domain, type: hostname, default: a.b, summary: It}\n",
            ),
            FROM_TREE,
            id="parameter",
        ),
        pytest.param(
            appended("appliances/thing/appliance.yaml", "services: {enable: [web]}\n"),
            FROM_TREE,
            id="service",
        ),
        pytest.param(
            appended("templates/guest/files/usr/lib/slipway/firstboot.py", "# more\n"),
            FROM_TREE,
            id="the guest's own files",
        ),
        pytest.param(
            appended("templates/disk/disk.sh.j2", "# more\n"), FROM_DISK, id="disk's template"
        ),
        pytest.param(another_package, FROM_PACKAGES, id="another package"),
        pytest.param(
            locked(packages=(package("web", "2"),)), FROM_PACKAGES, id="package's version"
        ),
        pytest.param(
            locked(base_packages=(package("apt"), package("libc6", "2"))),
            ALL,
            id="version in the base",
        ),
        pytest.param(locked(packages=(rebuilt("web"),)), FROM_PACKAGES, id="package's content"),
        pytest.param(
            locked(base_packages=(package("apt"), rebuilt("libc6"))), ALL, id="content in the base"
        ),
        pytest.param(
            appended("templates/mmdebstrap/base.sh.j2", "# more\n"), ALL, id="base's template"
        ),
        pytest.param(
            appended("templates/mmdebstrap/chroot.sh", "# more\n"), ALL, id="what all scripts share"
        ),
        pytest.param(
            appended("appliances/thing/appliance.yaml", "keep: [man]\n"),
            ALL,
            id="what is kept of packages",
        ),
        pytest.param(
            appended("slipway.toml", 'image_mirror = "http://m.example/debian"\n'),
            FROM_TREE,
            id="images' mirror",
        ),
    ],
)
def test_a_change_makes_new_what_it_touches(
    root: Path, change: Callable[[Path], None], new: set[str]
) -> None:
    before = stages(root)
    change(root)
    after = stages(root)
    assert before.keys() == after.keys()
    assert {kind for kind in after if before[kind] != after[kind]} == new


@pytest.mark.parametrize(
    "mirror", ["http://localhost:3142/debian", "file:///srv/debian", "http://10.1.2.3/debian"]
)
def test_the_mirror_that_builds_use_is_in_no_image(
    root: Path, monkeypatch: pytest.MonkeyPatch, mirror: str
) -> None:
    before = stages(root)
    monkeypatch.setenv("SLIPWAY_MIRROR", mirror)
    assert stages(root) == before
    shop = Workshop(root=root)
    job = prepare(shop, shop.library.load("thing"), builder="mmdebstrap", architecture="amd64")
    assert not [
        name for name, file in job.rendered.files.items() if mirror.encode() in file.content
    ]


def test_tools_are_a_stage_of_their_own_that_the_boot_alone_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_root(
        tmp_path, "thing", {**FILES, "appliance.yaml": f"{SPEC}tools: [sipp]\n"}, monkeypatch
    )
    before = stages(root)
    path = root / "appliances/thing/lock.amd64.json"
    lock = read_lock(path)
    write_lock(path, replace(lock, tools=(package("sipp", "2"),)))
    after = stages(root)
    assert {kind for kind in after if before[kind] != after[kind]} == {"tools", "boot"}
    write_lock(path, replace(lock, tools=(rebuilt("sipp"),)))
    assert stages(root)["tools"] not in (before["tools"], after["tools"])
    shop = Workshop(root=root)
    job = prepare(shop, shop.library.load("thing"), builder="mmdebstrap", architecture="amd64")
    assert {row["kind"]: row["state"] for row in explain(shop, job)}["tools"] == "to make"
    shop.cache.add(job.stage("boot").id, "boot", {}, {})
    assert {row["kind"]: row["state"] for row in explain(shop, job)}["tools"] == "not needed"


@pytest.mark.parametrize(
    ("unit", "late"),
    [("web", False), ("web.timer", False), ("web.socket", True), ("web.path", True)],
)
def test_services_wait_for_first_boot_without_an_ordering_cycle(
    root: Path, unit: str, late: bool
) -> None:
    appended("appliances/thing/appliance.yaml", f"services: {{enable: [{unit}]}}\n")(root)
    shop = Workshop(root=root)
    job = prepare(shop, shop.library.load("thing"), builder="mmdebstrap", architecture="amd64")
    name = unit if "." in unit else f"{unit}.service"
    text = job.rendered.files[
        f"tree/files/etc/systemd/system/{name}.d/10-slipway.conf"
    ].content.decode()
    assert "Requires=slipway-firstboot.service\nAfter=slipway-firstboot.service\n" in text
    assert ("DefaultDependencies=no" in text) is late


def test_another_format_is_one_more_stage(root: Path) -> None:
    before = stages(root)
    appended("appliances/thing/appliance.yaml", "formats: [raw]\n")(root)
    after = stages(root)
    assert after.items() <= before.items()
    assert {"artifact:qcow2", "boot"} <= after.keys()  # what is booted is made in any case


def test_the_same_content_elsewhere_and_later_is_the_same_stage(root: Path, tmp_path: Path) -> None:
    before = stages(root)
    shutil.copytree(root, tmp_path / "elsewhere", symlinks=True)
    assert stages(tmp_path / "elsewhere") == before


def test_a_plan_says_what_is_made_and_why(root: Path) -> None:
    shop = Workshop(root=root)
    job = prepare(shop, shop.library.load("thing"), builder="mmdebstrap", architecture="amd64")
    rows = explain(shop, job)
    assert {row["state"] for row in rows} == {"to make"}
    assert {tuple(row["reasons"]) for row in rows} == {("never built here",)}
    job.outputs.mkdir(parents=True)
    (job.outputs / "plan.json").write_text(json.dumps({"inputs": job.plan.record()}))
    for stage in job.plan.stages:
        shop.cache.add(stage.id, stage.kind, {}, {})
    assert {row["state"] for row in explain(shop, job)} == {"cached"}

    written("files/etc/thing.conf", "b\n")(root)
    shop = Workshop(root=root)
    job = prepare(shop, shop.library.load("thing"), builder="mmdebstrap", architecture="amd64")
    by_kind = {row["kind"]: row for row in explain(shop, job)}
    assert by_kind["packages"]["state"] == "cached"
    assert by_kind["tree"]["reasons"] == ["tree/files/etc/thing.conf changed"]
    assert by_kind["disk"]["reasons"] == ["its parent changed"]


def test_what_nothing_missing_is_made_from_is_not_needed(root: Path) -> None:
    shop = Workshop(root=root)
    job = prepare(shop, shop.library.load("thing"), builder="mmdebstrap", architecture="amd64")
    for stage in job.plan.stages:
        if stage.kind.startswith("artifact:"):
            shop.cache.add(stage.id, stage.kind, {}, {})
    states = {row["kind"]: row["state"] for row in explain(shop, job)}
    assert states["boot"] == "to make"
    assert states["base"] == states["tree"] == states["disk"] == "not needed"


def test_reasons_name_inputs_that_came_and_went() -> None:
    before = {"tree": {"a": "1", "b": "1", "parent": ""}}
    assert reasons(make_stage("tree", {"b": "2", "c": "1"}), before) == (
        "a removed",
        "b changed",
        "c added",
    )
    assert reasons(make_stage("tree", {"a": "1", "b": "1"}), before) == ()


def test_stages_of_two_kinds_or_parents_with_the_same_inputs_are_two() -> None:
    one, other = make_stage("base", {"a": "1"}), make_stage("base", {"a": "2"})
    stages = [
        make_stage(kind, {"b": "1"}, parent)
        for kind in ("tree", "disk")
        for parent in (None, one, other)
    ]
    assert len({stage.id for stage in stages}) == 6


IMAGES = {
    "artifact:qcow2",
    "artifact:vmdk",
    "artifact:ova",
    "artifact:rootfs",
    "artifact:incus",
    "artifact:libvirt",
}
#: What has to be made again when a program or a module of slipway is another one.
DEPENDING = {
    "apt-get": {"base", "packages", "tree", "disk", *IMAGES, "boot"},
    "mmdebstrap": {"base", "packages", "tree", "disk", *IMAGES, "boot"},
    "mke2fs": {"disk", *IMAGES, "boot"},
    "mcopy": {"disk", *IMAGES, "boot"},
    "python": {"artifact:ova", "artifact:rootfs", "artifact:incus"},
    "python:jinja2": {"artifact:ova", "artifact:incus", "artifact:libvirt"},
    "python:zstandard": {"artifact:rootfs", "artifact:incus"},
    "lzma": {"artifact:incus"},
    "qemu-img": IMAGES - {"artifact:rootfs"} | {"boot"},
    "zlib": {"artifact:vmdk", "artifact:ova"},
    "qemu-system-x86_64": {"boot"},
    "builders/mmdebstrap.py": {"base", "packages", "tree", "disk", *IMAGES, "boot"},
    "host/namespace.py": {"base", "packages", "tree", "disk", *IMAGES, "boot"},
    "host/process.py": {"base", "packages", "tree", "disk", *IMAGES, "boot"},
    "packages/pool.py": {"base", "packages", "tree", "disk", *IMAGES, "boot"},
    "rendering/templating.py": {"artifact:ova", "artifact:incus", "artifact:libvirt"},
    "builders/_secrets.py": {"base", "packages", "tree", "disk", *IMAGES, "boot"},
    "builders/_hygiene.py": {"tree", "disk", *IMAGES, "boot"},
    "disk/hygiene.py": {"tree", "disk", *IMAGES, "boot"},
    "disk/archives.py": {"tree", "disk", *IMAGES, "boot"},
    "disk/ext4.py": {"disk", *IMAGES, "boot"},
    "formats/_image.py": IMAGES - {"artifact:rootfs"} | {"boot"},
    "formats/qcow2.py": {"artifact:qcow2", "artifact:incus", "artifact:libvirt", "boot"},
    "formats/vmdk.py": {"artifact:vmdk", "artifact:ova"},
    "formats/ova.py": {"artifact:ova"},
    "formats/rootfs.py": {"artifact:rootfs", "artifact:incus"},
    "disk/files.py": {"artifact:rootfs", "artifact:incus"},
    "formats/_text.py": {"artifact:incus", "artifact:libvirt"},
    "boot": {"boot"},
}


def test_another_version_of_a_program_or_of_our_code_makes_new_what_it_shapes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    formats = "kernel: generic\nformats: [qcow2, vmdk, ova, rootfs, incus, libvirt]\n"
    root = make_root(
        tmp_path, "thing", {**FILES, "appliance.yaml": f"{SPEC}{formats}"}, monkeypatch
    )
    changed = ""

    def versions(names: tuple[str, ...], memory: Path) -> dict[str, str]:
        return tool_versions(names, memory) | ({changed: "new"} if changed in names else {})

    monkeypatch.setattr("slipway.job.tool_versions", versions)
    monkeypatch.setattr(
        "slipway.job.code_digest", lambda name: "new" if name == changed else code_digest(name)
    )
    before, found = stages(root), {}
    for changed in DEPENDING:
        after = stages(root)
        found[changed] = {kind for kind in after if before[kind] != after[kind]}
    assert found == DEPENDING


def test_appliances_with_the_same_packages_share_the_stage_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = []
    for name in ("thing", "other"):
        root = make_root(tmp_path / name, "thing", FILES, monkeypatch)
        if name != "thing":
            (root / "appliances/thing").rename(root / "appliances" / name)
            written(f"../{name}/appliance.yaml", SPEC.replace("name: thing", f"name: {name}"))(root)
        shop = Workshop(root=root)
        job = prepare(shop, shop.library.load(name), builder="mmdebstrap", architecture="amd64")
        ids.append({stage.kind: stage.id for stage in job.plan.stages})
    assert {kind for kind in ids[0] if ids[0][kind] == ids[1][kind]} == {"base", "packages"}


def test_a_layer_with_other_marks_is_another_layer(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With marks of another kind, an overlay would bring back what was removed."""
    before = stages(root)
    monkeypatch.setattr("slipway.builders.mmdebstrap.overlay_marks", lambda: "other")
    after = stages(root)
    assert {kind for kind in after if before[kind] != after[kind]} == FROM_PACKAGES


@pytest.mark.parametrize(
    ("release", "user", "marks"),
    [
        ("6.5.0-1-amd64", 0, "trusted"),
        ("6.6.1", 0, "user"),
        ("7.0", 0, "user"),
        ("6.1.0", 1000, "user"),
        ("10.1", 1000, "user"),
    ],
)
def test_marks_depend_on_the_kernel_and_the_user_alone(
    monkeypatch: pytest.MonkeyPatch, release: str, user: int, marks: str
) -> None:
    monkeypatch.setattr("slipway.host.namespace.os.uname", lambda: SimpleNamespace(release=release))
    monkeypatch.setattr("slipway.host.namespace.os.geteuid", lambda: user)
    assert overlay_marks() == marks


@pytest.mark.parametrize(
    ("change", "new"),
    [
        pytest.param(
            spec("A thing", "Another thing"),
            {"artifact:ova", "artifact:incus", "artifact:libvirt"},
            id="summary",
        ),
        pytest.param(
            spec("1.0.0", "1.0.1"),
            {"artifact:ova", "artifact:incus", "artifact:libvirt"},
            id="version",
        ),
        pytest.param(
            appended("templates/ovf/appliance.ovf.j2", "<!-- -->"),
            {"artifact:ova"},
            id="template of a description",
        ),
        pytest.param(
            appended("templates/incus/hostname.tpl", "x"), {"artifact:incus"}, id="another template"
        ),
    ],
)
def test_descriptions_are_made_of_what_they_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None], new: set[str]
) -> None:
    formats = "kernel: generic\nformats: [qcow2, ova, rootfs, incus, libvirt]\n"
    root = make_root(
        tmp_path, "thing", {**FILES, "appliance.yaml": f"{SPEC}{formats}"}, monkeypatch
    )
    before = stages(root)
    change(root)
    text = (root / "appliances/thing/appliance.yaml").read_text()
    (root / "appliances/thing/appliance.yaml").write_text(
        text if formats in text else text + formats
    )
    after = stages(root)
    assert {kind for kind in after if before[kind] != after[kind]} == new


def test_further_instances_are_another_boot(root: Path) -> None:
    before = stages(root)
    appended("appliances/thing/appliance.yaml", "instances:\n  - {name: other}\n")(root)
    after = stages(root)
    assert {kind for kind in after if before[kind] != after[kind]} == {"boot"}


def test_a_plan_has_what_its_stages_took_before_and_who_asks_is_told_why(root: Path) -> None:
    said = io.StringIO()
    shop = Workshop(root=root, progress=Progress(said, verbose=True))
    library, how = shop.library, {"builder": "mmdebstrap", "architecture": "amd64"}
    job = prepare(shop, library.load("thing"), **how)
    base = job.source.appliance.spec.base
    assert duration_key(job, "base") == f"{base} amd64/base"
    shop.durations.add(duration_key(job, "base"), 270.0)
    shop.durations.add(duration_key(job, "boot", "uefi"), 99.0)
    usual = {row["kind"]: row["usual_s"] for row in explain(shop, job)}
    assert usual.pop("base") == 270.0
    assert set(usual.values()) == {None}
    coming = {each.label: each.usual_s for each in expected(shop, job, boot=False)}
    assert coming["base"] == 270.0 and "qcow2" in coming and "boot" not in coming
    id = job.stage("base").id[:12]
    assert said.getvalue().splitlines()[0] == f"    base {id}: never built here"
    assert [each.usual_s for each in expected_boot(shop, job, "uefi")] == [99.0]
    for stage in job.plan.stages:
        shop.cache.add(stage.id, stage.kind, {}, {})
    assert expected(shop, job, boot=True) == []
