"""The commands about channels, as people type them, against a directory store; and the README's for
those without any of them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from example_disk import ABOUT, write_disk
from example_release import write_example, write_release_folder
from own_environment import environment_of
from slipway.channels.keys import init
from slipway.formats import load
from slipway.records.manifest import parameter_records

ROOT = Path(__file__).parents[2]
Invoke = Callable[..., str]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A root without appliances, and three builds that were made elsewhere; nightly has keys."""
    for number in (1, 2, 3):
        write_example(tmp_path / f"builds/{number}", number)
    init("nightly", tmp_path / "keys")
    return tmp_path


@pytest.fixture
def invoke(project: Path) -> Invoke:
    environment = environment_of(project)

    def invoke(*words: str, status: int = 0) -> str:
        argv = [sys.executable, "-P", "-m", "slipway", f"--search-root={project}", *words]
        done = subprocess.run(
            argv, env=environment, cwd=project, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout if status == 0 else done.stderr

    return invoke


def test_a_release_on_its_way_through_the_channels(project: Path, invoke: Invoke) -> None:
    store = f"--store={project / 'store'}"
    said = invoke("publish", "--folder=builds/1", store)
    assert said == (
        "example: nightly now has 1.0.0-b1 (before: none)\n"
        f"  in {project / 'store'}, 6 objects created\n"
    )
    assert (project / "keys/nightly/signers.json").stat().st_mode & 0o777 == 0o600
    assert invoke("publish", "--folder=builds/1", store).startswith(
        "example: nightly has 1.0.0-b1 already, nothing changed\n"
    )
    invoke("publish", "--folder=builds/2", store)

    said = invoke("promote", "example", store, "--to=stable", "--yes", status=4)
    assert said == (
        f"error: there is no channel stable in {project / 'store'}, and no keys of it\n"
        "  hint: choose from: nightly; a new one is made by: invoke keys init stable\n"
    )
    invoke("keys", "init", "stable", "--root-keys=3", "--threshold=2")
    said = invoke("promote", "example", store, "--to=stable", status=2)
    assert said == (
        "error: cannot ask without a terminal: promote example 1.0.0-b2 from nightly to "
        "stable, the first example there?\n"
        "  hint: pass --yes; to preview: --dry-run\n"
    )
    said = invoke("promote", "example", store, "--to=stable", "--build=b1", "--yes")
    assert said == "  + nginx 1.1\nexample: stable now has 1.0.0-b1 (before: none)\n"
    said = invoke("promote", "example", store, "--to=stable", "--yes")
    assert said == "  nginx 1.1 -> 1.2\nexample: stable now has 1.0.0-b2 (before: 1.0.0-b1)\n"
    assert (
        invoke("rollback", "example", store, "--yes")
        == "example: stable now has 1.0.0-b1 (before: 1.0.0-b2)\n"
    )

    image = project / "out/example-1.0.0-b1.amd64.qcow2"
    assert invoke("fetch", "example", store, "--out=out") == "out/example-1.0.0-b1.amd64.qcow2\n"
    assert image.read_bytes() == b"image 1" * 1000
    assert (
        invoke("fetch", "example", store, "--out=new", "--channel=nightly", "--format=raw")
        == "new/example-1.0.0-b2.amd64.raw.zst\n"
    )
    assert invoke("fetch", "example", store, "--format=ova", status=6) == (
        "error: example 1.0.0-b1 was not made as ova\n"
        "  hint: choose from: qcow2, raw; invoke export makes others of raw\n"
    )

    said = invoke("withdraw", "example", store, "--build=b1", "--reason=it eats disks", "--yes")
    assert said == (
        "example 1.0.0-b1 is withdrawn from stable, nightly\n"
        "example: stable now has 1.0.0-b2 (before: 1.0.0-b1)\n"
    )
    held = json.loads(invoke("channels", store, "--json"))["holdings"][0]
    assert (held["appliance"], held["channel"], held["current"]) == (
        "example",
        "stable",
        "1.0.0-b2",
    )
    assert [each["release"] for each in held["releases"]] == ["1.0.0-b2"]
    assert [(each["release"], each["reason"]) for each in held["withdrawn"]] == [
        ("1.0.0-b1", "it eats disks")
    ]
    assert invoke("channels", store) == (
        "CHANNEL  APPLIANCE  CURRENT   RELEASES   WITHDRAWN\n"
        "stable   example    1.0.0-b2  1 release  1 withdrawn\n"
        "nightly  example    1.0.0-b2  1 release  1 withdrawn\n"
    )
    assert invoke("refresh", store) == "refreshed: stable, nightly\n"
    assert invoke("prune", store, "--dry-run") == "nothing to drop from stable, nightly\n"
    assert invoke("gc", store, "--dry-run") == "0 objects, 0 B; 0 unfinished uploads\n"
    assert invoke("gc", store) == "0 objects, 0 B; 0 unfinished uploads\n"
    said = invoke("verify", store)
    assert said.startswith("stable: 5 objects, ")
    assert said.endswith(
        "\n5 objects belong to no channel: invoke gc removes them when they are a week old\n"
    )


def test_a_changed_object_is_found(project: Path, invoke: Invoke) -> None:
    store = f"--store={project / 'store'}"
    invoke("publish", "--folder=builds/1", store)
    (image,) = (project / "store/targets").rglob("*.qcow2")
    image.chmod(0o644)
    image.write_bytes(image.read_bytes().replace(b"i", b"I", 1))
    key = image.relative_to(project / "store")
    said = invoke("verify", store, status=7)
    assert f"error: 1 problem in the store:\n  nightly: {key} is not what was published\n" in said
    said = invoke("fetch", "example", store, "--channel=nightly", "--out=out", status=7)
    assert "its channel says" in said
    assert list((project / "out").iterdir()) == []


def test_a_damaged_channel_is_named_and_the_others_go_on(project: Path, invoke: Invoke) -> None:
    store = f"--store={project / 'store'}"
    for number in (1, 2):
        invoke("publish", f"--folder=builds/{number}", store)
    invoke("keys", "init", "stable")
    invoke("promote", "example", store, "--to=stable", "--build=b1", "--yes")
    (project / "store/metadata/stable/timestamp.json").write_text("{}")
    (project / "store/metadata/bogus").mkdir()
    (project / "store/metadata/bogus/1.root.json").write_text("{}")
    stable = "stable: metadata/stable/timestamp.json is not TUF metadata"
    bogus = "bogus: no trusted root for channel bogus"
    said = invoke(
        "withdraw", "example", store, "--build=b1", "--reason=it eats disks", "--yes", status=6
    )
    assert said == (
        f"error: example 1.0.0-b1 may still be in 2 channels:\n  {stable}\n  {bogus}\n"
        "  hint: repair them, or run this where their keys are\n"
    )
    for command in ("channels", "gc"):
        said = invoke(command, store, status=7)
        assert said == (
            f"error: 1 channel cannot be read:\n  {stable}\n"
            "  hint: the store was changed by something else\n"
        )
    said = invoke("verify", store, status=7)
    assert "error: the channel stable cannot be trusted" in said or "is not TUF metadata" in said
    shutil.rmtree(project / "store/metadata/stable")
    shutil.rmtree(project / "keys/stable")
    assert invoke("channels", store).endswith(
        f"\nbogus  not trusted here: {bogus.removeprefix('bogus: ')}\n"
    )
    shutil.rmtree(project / "store/metadata/bogus")
    _, held = invoke("channels", store).splitlines()
    assert held == "nightly  example    1.0.0-b2  1 release  1 withdrawn"


def test_what_a_job_left_counts_for_its_appliance_alone(project: Path, invoke: Invoke) -> None:
    store = f"--store={project / 'store'}"
    said = invoke("publish", "--folder=builds", "--only=other", store, status=5)
    assert said == (
        "error: builds/1 has a build of example, and is for other\n"
        "  hint: the build is not the requested one, and nothing is published\n"
    )
    assert not (project / "store/metadata").exists()
    assert invoke("publish", "other", "--only=other", store, status=2).startswith(
        "error: --only goes with --folder\n"
    )
    assert invoke("publish", "--folder=builds/1", "--only=example", store).startswith(
        "example: nightly now has 1.0.0-b1"
    )


def test_a_reader_needs_the_root_alone(project: Path, invoke: Invoke) -> None:
    store = f"--store={project / 'store'}"
    invoke("publish", "--folder=builds/1", store)
    said = invoke("fetch", "example", store, "--channel=nightly", "--keys=none", status=4)
    assert said == (
        "error: no trusted root for channel nightly\n"
        "  hint: get root.json from the publisher over a trusted channel, and save it as "
        f"{project}/trust/nightly.root.json\n"
    )
    (project / "trust").mkdir()
    (project / "trust/nightly.root.json").write_bytes(
        (project / "keys/nightly/1.root.json").read_bytes()
    )
    assert (
        invoke("fetch", "example", store, "--channel=nightly", "--keys=none")
        == "downloads/example/example-1.0.0-b1.amd64.qcow2\n"
    )
    said = invoke("publish", "--folder=builds/2", store, "--keys=none", status=4)
    assert said.startswith(
        f"error: there are no keys of the channel nightly in {project / 'none'}\n"
    )


def test_a_key_can_be_replaced_and_shown(project: Path, invoke: Invoke) -> None:
    store = f"--store={project / 'store'}"
    invoke("publish", "--folder=builds/1", store)
    before = invoke("keys", "show", "nightly")
    assert [line.split()[0] for line in before.splitlines()] == [
        "root",
        "targets",
        "snapshot",
        "timestamp",
        "trust",
        "minisign",
    ]
    after = invoke("keys", "rotate", "nightly", "--role=targets")
    assert before.splitlines()[1] not in after
    assert len(list((project / "keys/nightly").glob("*.pem"))) == 4
    assert invoke("refresh", store) == "refreshed: nightly\n"
    assert invoke("verify", store).startswith("nightly: 5 objects")
    assert invoke("keys", "rotate", "nightly", status=2) == (
        "error: rotate needs --role\n  hint: one of: root, targets, snapshot, timestamp\n"
    )


def test_what_ci_holds_signs_its_own_channel_and_nothing_else(
    project: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = f"--store={project / 'store'}"
    bundle = invoke("keys", "export", "nightly")
    assert len(bundle.splitlines()) == 1
    assert not json.loads(bundle)["signers"].get("root")
    environment = {
        **os.environ,
        "SLIPWAY_KEY_BUNDLE": bundle,
        "SLIPWAY_KEYS": str(project / "none"),
    }
    argv = [
        sys.executable,
        "-P",
        "-m",
        "slipway",
        f"--search-root={project}",
        "publish",
        "--folder=builds/1",
        store,
    ]
    done = subprocess.run(
        argv,
        env={**environment, "PYTHONPATH": str(ROOT / "src")},
        cwd=project,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    argv += ["--channel=stable"]
    done = subprocess.run(
        argv,
        env={**environment, "PYTHONPATH": str(ROOT / "src")},
        cwd=project,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 4
    assert done.stderr.startswith(
        f"error: there is no channel stable in {project / 'store'}, and no keys of it\n"
    )


def test_a_directory_with_git_is_no_place_for_keys(project: Path, invoke: Invoke) -> None:
    (project / "repository/.git").mkdir(parents=True)
    said = invoke("keys", "init", "nightly", "--keys=repository/keys", status=2)
    assert said == (
        f"error: {project}/repository/keys/nightly is inside a repository\n"
        "  hint: keep keys outside of it: --keys DIR, or SLIPWAY_KEYS\n"
    )
    (next((project / "keys/nightly").glob("targets*.pem"))).chmod(0o644)
    said = invoke("publish", "--folder=builds/1", f"--store={project / 'store'}", status=4)
    assert "can be read by others\n  hint: run: chmod 600 " in said


def test_other_formats_of_what_was_published_are_those_that_a_build_makes(
    project: Path, invoke: Invoke
) -> None:
    """The files are the very ones; what the machine is comes from the manifest alone."""
    disk, kinds = write_disk(project / "disk.raw"), ("ova", "qcow2", "oci", "libvirt")
    raw = load("raw").export(disk, project / "packed", virtual_size=1 << 30, log=project / "log")
    facts = {
        "artifacts": (replace(raw, file="thing.raw"),),
        "booted_disk_sha256": raw.uncompressed_sha256,
        "resources": {"cpus": ABOUT.cpus, "memory_mib": ABOUT.memory_mib, "disk_gib": 1},
        "interfaces": tuple(each.model_dump(mode="json") for each in ABOUT.interfaces),
        "parameters": parameter_records(each.model_dump(mode="json") for each in ABOUT.parameters),
        **{name: getattr(ABOUT, name) for name in ("version", "summary", "system", "kernel")},
        "source_date_epoch": ABOUT.epoch,
    }
    content = (project / "packed").read_bytes()
    write_release_folder(project / "build", {"raw": content}, appliance=ABOUT.name, **facts)
    store = f"--store={project / 'store'}"
    invoke("publish", "--folder=build", store)

    # the last two want the qcow2 beside them
    formats = [f"--format={name}" for name in ("ova", "oci", "libvirt")]
    said = invoke(
        "export", ABOUT.name, store, "--channel=nightly", "--out=out", f"--root={ROOT}", *formats
    )
    made = {name: project / line for name, line in zip(kinds, said.splitlines(), strict=True)}
    about = replace(ABOUT, images={"qcow2": project / "qcow2"})
    for name, path in made.items():
        assert path == project / f"out/thing-1.0.0-b1.amd64{load(name).suffix}"
        load(name).export(
            disk, project / name, virtual_size=1 << 30, log=project / "log", about=about
        )
        assert path.read_bytes() == (project / name).read_bytes()
        assert path.stat().st_mode & 0o777 == 0o644
    assert sorted(project.glob("out/*")) == sorted(made.values())
    assert not list((project / "cache/downloads").iterdir())

    # the same content is success
    assert invoke("export", "build", "--out=out", f"--root={ROOT}", *formats) == said
    image = made["ova"]
    image.unlink()
    image.symlink_to(project / "disk.raw")
    before = (project / "disk.raw").read_bytes()
    assert invoke(
        "export", "build", "--out=out", f"--root={ROOT}", "--format=ova", status=4
    ).endswith(
        f"error: {image.relative_to(project)} exists with other content, and is left as it is\n"
        "  hint: move it away, or give another folder: --out DIR\n"
    )
    assert (project / "disk.raw").read_bytes() == before
    assert sorted(project.glob("out/*")) == sorted(made.values())
    image.unlink()
    invoke("export", "build", "--out=out", f"--root={ROOT}", "--format=ova")

    invoke("export", "build", "--out=again", f"--root={ROOT}", *formats)
    assert [path.read_bytes() for path in sorted(project.glob("again/*"))] == [
        path.read_bytes() for path in sorted(project.glob("out/*"))
    ]


def test_what_cannot_be_exported_is_said_before_anything_is_fetched(
    project: Path, invoke: Invoke
) -> None:
    assert (
        invoke("export", "builds/1", status=2)
        == "error: export needs --format\n  hint: for example: --format ova\n"
    )
    assert (
        invoke("export", "builds/1", "--format=ovb", status=2)
        == 'error: there is no format "ovb"\n  hint: did you mean "ova"?\n'
    )
    assert invoke("export", "builds/1", "--format=ova", status=5) == (
        "error: example 1.0.0-b1 does not say which kernel it has, and ova needs the generic one\n"
        "  hint: export a newer release\n"
    )
    assert invoke("export", "elsewhere", "--format=vhd", "--channel=nightly", status=6).startswith(
        "error: "
    )
    write_release_folder(project / "cloud", {"qcow2": b"a disk"}, kernel="cloud")
    assert invoke("export", "cloud", "--format=ova", status=5) == (
        "error: the machine of an ova has hardware that the cloud kernel of example has "
        "no drivers for\n"
        "  hint: set in the spec: kernel: generic\n"
    )
    assert (
        invoke("export", "cloud", "--format=vhd", status=5)
        == "error: example 1.0.0-b1 was not made as raw\n  hint: choose from: qcow2\n"
    )


def test_an_old_timestamp_is_refused_and_recovered_from(project: Path, invoke: Invoke) -> None:
    """Somebody who can write to the store puts the timestamp back that was there before a
    withdrawal.
    """
    store, timestamp = (
        f"--store={project / 'store'}",
        project / "store/metadata/nightly/timestamp.json",
    )
    for number in (1, 2):
        invoke("publish", f"--folder=builds/{number}", store)
    old = timestamp.read_bytes()
    invoke("withdraw", "example", store, "--build=b2", "--reason=it eats disks", "--yes")
    assert invoke("recover", "nightly", store).endswith(
        "\nsigned and whole: 1, 2, 3\nnothing is wrong\n"
    )
    timestamp.unlink()
    timestamp.write_bytes(old)
    (seen,) = (project / "keys/nightly/seen").glob("*.json")
    assert seen.stat().st_mode & 0o777 == 0o600
    message = "the store has version 2 of the channel nightly, version 3 was seen here"
    hint = "  hint: somebody may have put an old copy back; what is known: invoke recover nightly\n"
    for words in (["refresh"], ["publish", "--folder=builds/3"], ["gc"], ["channels"]):
        assert message in invoke(*words, store, status=7)
    assert invoke("refresh", store, status=7) == f"error: {message}\n{hint}"
    said = invoke("recover", "nightly", store, status=2)
    assert said == (
        "error: cannot ask without a terminal: sign version 3 of nightly anew?\n"
        "  hint: pass --yes; to preview: --dry-run\n"
    )
    said = invoke("recover", "nightly", store, "--yes")
    assert said.endswith(
        f"problem: {message}\nto be signed anew: version 3\n"
        "  example: 1.0.0-b1, 1 releases, 1 withdrawn (now: 1.0.0-b2, 2 releases, 0 withdrawn)\n"
        "nightly goes on from version 3\n"
    )
    _, held = invoke("channels", store).splitlines()
    assert held == "nightly  example    1.0.0-b1  1 release  1 withdrawn"
    assert invoke("refresh", store) == "refreshed: nightly\n"
    assert invoke("verify", store).startswith("nightly: 5 objects, ")
