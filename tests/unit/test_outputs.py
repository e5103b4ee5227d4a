"""A build that was made before is taken for finished only if it is this very one, and all of it is
there.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from example_root import make_root
from slipway.cache import sha256_of
from slipway.job import Job, Workshop, prepare
from slipway.outputs import _key, finished, released_image

SPEC = """\
schema: 1
name: thing
version: 1.0.0
summary: A thing
category: system
packages: [web]
"""
RELEASE = "1.0.0-0123456789ab"


def prepared(root: Path) -> Job:
    shop = Workshop(root=root)
    return prepare(shop, shop.library.load("thing"), builder="mmdebstrap", architecture="amd64")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Job]:
    """A thing that is ready to be built."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        files = {"appliance.yaml": SPEC, "README.md": "A thing\n"}
        yield prepared(make_root(tmp_path_factory.mktemp("made"), "thing", files, monkeypatch))


@pytest.fixture
def job(made: Job) -> Job:
    """The same, built and booted."""
    folder = made.outputs / RELEASE
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "thing.qcow2").write_bytes(b"an image")
    (made.source.appliance.folder / "appliance.yaml").write_text(SPEC)
    stage = made.stage("artifact:qcow2").id
    known = {
        "release": RELEASE,
        "key": _key(made, boot=True),
        "sha256": {"thing.qcow2": hashlib.sha256(b"an image").hexdigest()},
    }
    known |= {"images": {stage: "thing.qcow2"}, "inputs": made.plan.record()}
    (made.outputs / "plan.json").write_text(json.dumps(known))
    return made


def grown(job: Job) -> None:
    with (job.outputs / RELEASE / "thing.qcow2").open("ab") as file:
        file.write(b"x")


def cut(job: Job) -> None:
    (job.outputs / RELEASE / "thing.qcow2").write_bytes(b"an")


def altered(job: Job) -> None:
    """One byte, in a file with the size and the times that it had."""
    path = job.outputs / RELEASE / "thing.qcow2"
    before = path.stat()
    path.write_bytes(b"an 1mage")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def gone(job: Job) -> None:
    (job.outputs / RELEASE / "thing.qcow2").unlink()


def forgotten(job: Job) -> None:
    (job.outputs / "plan.json").write_text("{")


def test_a_whole_release_of_the_same_job_is_finished(job: Job) -> None:
    assert finished(job, boot=True) == job.outputs / RELEASE


@pytest.mark.parametrize(
    "harm", [grown, cut, altered, gone, forgotten], ids=lambda function: function.__name__
)
def test_a_release_that_is_not_whole_is_not_finished(job: Job, harm: Callable[[Job], None]) -> None:
    assert finished(job, boot=True)
    harm(job)
    assert finished(job, boot=True) is None
    assert released_image(job) is None


def test_a_release_is_read_once_and_again_when_something_touched_it(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert finished(job, boot=True)
    read: list[Path] = []

    def reading(path: Path) -> str:
        read.append(path)
        return sha256_of(path)

    monkeypatch.setattr("slipway.whole.sha256_of", reading)
    assert finished(job, boot=True)
    assert read == []
    os.link(job.outputs / RELEASE / "thing.qcow2", job.outputs / "another")
    (job.outputs / "another").unlink()
    assert finished(job, boot=True) and finished(job, boot=True)
    assert read == [job.outputs / RELEASE / "thing.qcow2"]


def test_the_image_of_a_release_is_that_of_its_stage(job: Job) -> None:
    assert released_image(job) == job.outputs / RELEASE / "thing.qcow2"
    file = job.source.appliance.folder / "appliance.yaml"
    file.write_text(f"{SPEC}keep: [man]\n")
    assert released_image(prepared(job.outputs.parents[1])) is None


def test_a_release_that_was_not_booted_is_another_one(job: Job) -> None:
    assert finished(job, boot=False) is None
    plan = json.loads((job.outputs / "plan.json").read_text())
    (job.outputs / "plan.json").write_text(json.dumps({**plan, "key": _key(job, boot=False)}))
    assert finished(job, boot=False) == job.outputs / RELEASE
    assert finished(job, boot=True) is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("1.0.0", "1.0.1"),
        ("A thing", "Another"),
        ("[web]", "[web]\nformats: [raw]"),
        ("[web]", "[web]\nkeep: [man]"),
    ],
)
def test_a_release_of_another_spec_is_not_finished(job: Job, old: str, new: str) -> None:
    file = job.source.appliance.folder / "appliance.yaml"
    file.write_text(file.read_text().replace(old, new))
    assert finished(prepared(job.outputs.parents[1]), boot=True) is None
