"""What a build refuses before and after its stages: disks that are too large, and images that were
harmed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from example_root import make_root
from slipway import pipeline
from slipway.cache import Entry
from slipway.errors import BuildError
from slipway.job import Job, Workshop, lock, lock_path, prepare
from slipway.packages.lock import read_lock
from slipway.pipeline import built_image, export, export_one
from slipway.plan import Stage

SPEC = """\
schema: 1
name: thing
version: 1.0.0
summary: A thing
category: system
packages: [web]
resources: {disk_gib: 2}
"""


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Workshop, Job]]:
    """A thing with a disk of 2 GiB, of which nothing is built."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        files = {"appliance.yaml": SPEC, "README.md": "A thing\n"}
        shop = Workshop(
            root=make_root(tmp_path_factory.mktemp("made"), "thing", files, monkeypatch)
        )
        formats = ["qcow2", "raw"]
        yield (
            shop,
            prepare(
                shop,
                shop.library.load("thing"),
                builder="mmdebstrap",
                architecture="amd64",
                formats=formats,
            ),
        )


@pytest.mark.parametrize("form", ["qcow2", "raw"])
def test_a_disk_larger_than_the_spec_allows_becomes_no_artifact(
    job: tuple[Workshop, Job], form: str, tmp_path: Path
) -> None:
    shop, prepared = job
    raw = tmp_path / "disk.raw"
    with raw.open("wb") as file:
        file.truncate((2 << 30) + 1)
    stage = prepared.stage(f"artifact:{form}")
    with pytest.raises(BuildError) as caught:
        export_one(shop, prepared, stage, raw, tmp_path / "scratch", {})
    assert str(caught.value) == (
        "error: the disk needs 3 GiB, and resources.disk_gib is 2\n"
        "  hint: raise resources.disk_gib in the spec"
    )
    assert shop.cache.find(stage.id) is None


def test_a_disk_of_the_cache_that_is_too_large_now_becomes_no_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The raw disk does not hold the size that a machine sees, so it stays when that changes."""
    files = {"appliance.yaml": f"{SPEC}formats: [raw]\n", "README.md": "A thing\n"}
    shop = Workshop(root=make_root(tmp_path, "thing", files, monkeypatch))
    prepared = prepare(shop, shop.library.load("thing"), builder="mmdebstrap", architecture="amd64")
    for stage in prepared.plan.stages:
        shop.cache.add(
            stage.id, stage.kind, {"disk": write_image}, {"uncompressed_size": (2 << 30) + 1}
        )
    with pytest.raises(BuildError) as caught:
        export(shop, prepared)
    assert str(caught.value) == (
        "error: the disk needs 3 GiB, and resources.disk_gib is 2\n"
        "  hint: raise resources.disk_gib in the spec"
    )


def write_image(file: IO[bytes]) -> None:
    file.write(b"an image")


def test_an_image_that_was_harmed_is_not_started(job: tuple[Workshop, Job]) -> None:
    shop, prepared = job
    stage = prepared.stage("artifact:qcow2")
    entry = shop.cache.add(stage.id, stage.kind, {"disk": write_image}, {})
    image = built_image(shop, prepared)
    assert image.read_bytes() == b"an image"
    before = image.stat()
    image.chmod(0o644)
    image.write_bytes(b"an 1mage")
    os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(BuildError) as caught:
        built_image(shop, prepared)
    assert str(caught.value) == (
        "error: thing is not up to date: its inputs have changed, or it was never built\n"
        "  hint: run: invoke build thing"
    )
    assert not entry.folder.exists()


def test_formats_that_have_not_begun_when_one_fails_are_not_begun(
    job: tuple[Workshop, Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop, _ = job
    formats = ["vhd", "vhdx", "vmdk", "rootfs", "oci"]
    prepared = prepare(
        shop,
        shop.library.load("thing"),
        builder="mmdebstrap",
        architecture="amd64",
        formats=formats,
    )
    begun: list[str] = []

    @contextmanager
    def no_disk(*_: object) -> Iterator[Path]:
        yield tmp_path / "disk.raw"

    def fail(_shop: Workshop, _job: Job, stage: Stage, *_: object) -> Entry:
        begun.append(stage.kind)
        time.sleep(0.2 if len(begun) == 1 else 0.5)
        raise BuildError(f"{stage.kind} failed")

    monkeypatch.setattr(pipeline, "disk", no_disk)
    monkeypatch.setattr(pipeline, "export_one", fail)
    with pytest.raises(BuildError):
        pipeline.export(shop, prepared)
    assert 0 < len(begun) < len(formats)


def test_a_lock_with_a_merge_conflict_is_made_anew(
    job: tuple[Workshop, Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    shop, _ = job
    appliance = shop.library.load("thing")
    path = lock_path(appliance, "amd64")
    good = path.read_text()
    known = read_lock(path)
    monkeypatch.setattr("slipway.job.resolve", lambda *_, **__: known)
    path.write_text(f"<<<<<<< ours\n{good}=======\n{good}>>>>>>> theirs\n")
    try:
        made, _ = lock(shop, appliance, "amd64")
        assert (made, path.read_text()) == (known, good)
    finally:
        path.write_text(good)
