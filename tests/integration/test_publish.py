"""From a raw disk to a published release and back, with the real formats and the real store."""

from __future__ import annotations

import json
import os
import random
import select
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from slipway import formats
from slipway.channels.publish import publish
from slipway.formats.raw import unpack
from slipway.host import process
from slipway.records.git import git_state
from slipway.records.manifest import Inputs, Manifest, boot_record
from slipway.records.provenance import Run, provenance
from slipway.records.release import (
    PROVENANCE,
    SBOM,
    SUMS,
    Release,
    read_release,
    record_file,
    write_release,
)
from slipway.records.sbom import Contents, sbom
from slipway.records.sums import parse_sums
from slipway.stores import open_store

MIB = 1 << 20


@pytest.fixture
def release(tmp_path: Path) -> Release:
    """A build of a disk of 64 MiB, 20 of them noise."""
    raw = tmp_path / "disk.raw"
    with raw.open("wb") as file:
        file.seek(8 * MIB)
        file.write(random.Random(7).randbytes(20 * MIB))
        file.truncate(64 * MIB)
    folder = tmp_path / "build"
    made = tuple(
        form.export(
            raw, folder / f"example-1.0.0{form.suffix}", virtual_size=1 << 30, log=tmp_path / "log"
        )
        for form in map(formats.load, ("qcow2", "raw"))
    )
    package: Any = SimpleNamespace(
        name="base-files", version="13.8", architecture="amd64", archive="debian", sha256="a" * 64
    )
    git = git_state(tmp_path)
    common: dict[str, Any] = {"appliance": "example", "version": "1.0.0"}
    contents = Contents(distribution="debian", release="trixie", packages=[package])
    bill = sbom(**common, contents=contents, source_date_epoch=1_790_000_000)
    built: dict[str, Any] = {
        **common,
        "build": "b1",
        "architecture": "amd64",
        "builder": "mmdebstrap",
        "created": 1_800_000_000,
    }
    statement = provenance(
        Run(**built),
        contents,
        tool_versions={},
        digests={"lock": "3" * 64},
        git=git,
        artifacts=made,
    )
    manifest = Manifest(
        **built,
        release="1.0.0-b1",
        summary="An example",
        category="examples",
        source_date_epoch=1_790_000_000,
        inputs=Inputs(
            git=git,
            spec="1" * 64,
            templates="2" * 64,
            lock="3" * 64,
            base="4" * 64,
            tools="5" * 64,
            tool_versions={},
        ),
        stages=(("disk", "7" * 64),),
        artifacts=made,
        boot=boot_record(
            {"accelerator": "tcg", "checks": [{"name": "system-running", "outcome": "passed"}]}
        ),
        booted_disk_sha256=made[0].uncompressed_sha256,
        sbom=record_file(SBOM, bill),
        provenance=record_file(PROVENANCE, statement),
        resources={"cpus": 1, "memory_mib": 1024, "disk_gib": 1},
        interfaces=({"name": "outside"},),
        ports=(),
        parameters=(),
    )
    return write_release(folder, manifest, sbom=bill, provenance=statement)


def test_the_folder_passes_sha256sum_and_reads_back(release: Release) -> None:
    process.run(["sha256sum", "--strict", "-c", SUMS], cwd=release.folder)
    assert read_release(release.folder) == release


def test_a_published_disk_comes_back(release: Release, tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    published = publish(store, release.folder)
    assert len(published.created) == 6
    packed = next(artifact for artifact in release.manifest.artifacts if artifact.format == "raw")
    key = next(key for key in published.created if key.endswith(packed.file))
    size = unpack(
        tmp_path / "store" / key,
        tmp_path / "back.raw",
        sha256=packed.sha256,
        uncompressed_sha256=packed.uncompressed_sha256,
        uncompressed_size=packed.uncompressed_size,
    )
    assert size == 64 * MIB
    image = next(tmp_path / "store" / key for key in published.created if key.endswith(".qcow2"))
    process.run(["qemu-img", "check", "-f", "qcow2", image])
    process.run(["qemu-img", "compare", "-f", "raw", "-F", "qcow2", tmp_path / "back.raw", image])
    bill = next(store.read(key).data for key in published.created if key.endswith(SBOM))
    assert json.loads(bill)["specVersion"] == "1.6"


PUBLISH = """
import sys
from pathlib import Path
from slipway.channels.publish import publish
from slipway.records.release import read_release
from slipway.stores import open_store

read_release(Path(sys.argv[2]))  # so that everything is imported
sys.stdout.write("ready")
sys.stdout.flush()
publish(open_store(sys.argv[1]), Path(sys.argv[2]))
"""


def kill_after(argv: list[str], env: dict[str, str], delay_s: float) -> bool:
    """Start a publication, wait until it begins, and kill it some time later.

    Whether it was still running then.
    """
    readable, writable = os.pipe()
    with (
        os.fdopen(readable, "rb") as output,
        process.spawn(argv, env=env, stdout=writable) as child,
    ):
        os.close(writable)
        assert output.read(5) == b"ready"
        # it becomes readable only when the child has ended
        select.select([output], [], [], delay_s)
        os.kill(child.pid, signal.SIGKILL)
        return child.wait() == -signal.SIGKILL


def test_a_kill_at_any_time_leaves_what_the_next_run_completes(
    release: Release, tmp_path: Path
) -> None:
    argv = [sys.executable, "-c", PUBLISH]
    env = {"PYTHONPATH": os.pathsep.join(sys.path)}
    started = time.monotonic()
    publish(open_store(str(tmp_path / "measure")), release.folder)
    duration_s = time.monotonic() - started
    killed = 0
    for number in range(10):
        store = tmp_path / f"store-{number}"
        killed += kill_after(
            [*argv, str(store), str(release.folder)], env, duration_s * number / 10
        )
        publish(open_store(str(store)), release.folder)
        keys = {status.key for status in open_store(str(store)).list()}
        assert keys == {
            "releases/example/1.0.0-b1/SHA256SUMS",
            *(
                f"targets/example/1.0.0-b1/{digest}.{file}"
                for file, digest in parse_sums(release.sums).items()
            ),
        }
        assert [path.name for path in (store / ".tmp").glob("*")] in ([], ["lock"])
    assert killed >= 3


def test_other_bytes_under_the_same_release_never_replace(release: Release, tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    publish(store, release.folder)
    before = {status.key: status for status in store.list()}
    manifest = replace(release.manifest, created=1_800_009_999)
    write_release(
        release.folder,
        manifest,
        sbom=(release.folder / SBOM).read_bytes(),
        provenance=(release.folder / PROVENANCE).read_bytes(),
    )
    assert publish(store, release.folder, listed=release.files).created == ()
    assert {status.key: status for status in store.list()} == before
