"""A build that was made before is taken for finished only if it is this very one, and all of it is there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from example_root import make_root
from slipway.job import Job, Workshop, prepare
from slipway.outputs import _key, finished

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
    known = {"release": RELEASE, "key": _key(made, boot=True), "files": {"thing.qcow2": 8}, "inputs": made.plan.record()}
    (made.outputs / "plan.json").write_text(json.dumps(known))
    return made


def grown(job: Job) -> None:
    with (job.outputs / RELEASE / "thing.qcow2").open("ab") as file:
        file.write(b"x")


def cut(job: Job) -> None:
    (job.outputs / RELEASE / "thing.qcow2").write_bytes(b"an")


def gone(job: Job) -> None:
    (job.outputs / RELEASE / "thing.qcow2").unlink()


def forgotten(job: Job) -> None:
    (job.outputs / "plan.json").write_text("{")


def test_a_whole_release_of_the_same_job_is_finished(job: Job) -> None:
    assert finished(job, boot=True) == job.outputs / RELEASE


@pytest.mark.parametrize("harm", [grown, cut, gone, forgotten], ids=lambda function: function.__name__)
def test_a_release_that_is_not_whole_is_not_finished(job: Job, harm: Callable[[Job], None]) -> None:
    harm(job)
    assert finished(job, boot=True) is None


def test_a_release_that_was_not_booted_is_another_one(job: Job) -> None:
    assert finished(job, boot=False) is None
    plan = json.loads((job.outputs / "plan.json").read_text())
    (job.outputs / "plan.json").write_text(json.dumps({**plan, "key": _key(job, boot=False)}))
    assert finished(job, boot=False) == job.outputs / RELEASE
    assert finished(job, boot=True) is None


@pytest.mark.parametrize(
    ("old", "new"), [("1.0.0", "1.0.1"), ("A thing", "Another"), ("[web]", "[web]\nformats: [raw]"), ("[web]", "[web]\nkeep: [man]")]
)
def test_a_release_of_another_spec_is_not_finished(job: Job, old: str, new: str) -> None:
    file = job.source.appliance.folder / "appliance.yaml"
    file.write_text(file.read_text().replace(old, new))
    assert finished(prepared(job.outputs.parents[1]), boot=True) is None
