"""Whole builds of a small disk: what a manifest says, and what stays in the cache while it is
used.
"""

from __future__ import annotations

import io
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import pytest

from example_root import make_root
from race_builder import Quick
from slipway import pipeline
from slipway.boot import checks
from slipway.boot import trial as trial_module
from slipway.boot.report import CheckResult
from slipway.boot.trial import Trial
from slipway.builders import Workplace
from slipway.builders.mmdebstrap import _LAYERS, _Job
from slipway.cache import Cache, sha256_of
from slipway.errors import SpecErrors, UsageError
from slipway.host.namespace import Namespace
from slipway.job import Job, Workshop, lock_path, prepare
from slipway.outputs import capture
from slipway.terminal.progress import Progress, Step
from slipway.workflows import inspection

SPEC = """\
schema: 1
name: thing
version: 1.0.0
summary: A thing
category: system
packages: [web]
formats: [qcow2]
"""

Ready = Callable[..., Job]


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    root = make_root(
        tmp_path, "thing", {"appliance.yaml": SPEC, "README.md": "A thing\n"}, monkeypatch
    )
    monkeypatch.setattr("slipway.job.find_builder", lambda name: Quick())
    return Workshop(root=root, progress=Progress(io.StringIO()))


@pytest.fixture
def ready(shop: Workshop) -> Ready:
    """Prepares the thing, in these formats."""

    def prepared(*formats: str) -> Job:
        return prepare(
            shop, shop.library.load("thing"), builder="quick", architecture="amd64", formats=formats
        )

    return prepared


def _write(file: IO[bytes]) -> None:
    file.write(b"layer")


def git(root: Path, *words: str) -> str:
    names = {
        f"GIT_{who}_{what}": "x" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    done = subprocess.run(
        ["git", "-C", root, *words],
        env={**os.environ, **names},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.strip()


def test_a_manifest_is_about_what_was_there_when_the_build_began(
    shop: Workshop, ready: Ready, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit, another lock and another base come meanwhile."""
    git(shop.root, "init", "-q")
    git(shop.root, "add", "-A")
    git(shop.root, "commit", "-qm", "one")
    job = ready()
    base = job.source.appliance.base.folder / "base.yaml"
    before = (
        git(shop.root, "rev-parse", "HEAD"),
        sha256_of(lock_path(job.source.appliance, "amd64")),
        sha256_of(base),
    )
    real = Quick.disk

    @contextmanager
    def disk(self: Quick, *given: Any) -> Iterator[Path]:
        with real(self, *given) as raw:
            for path in (lock_path(job.source.appliance, "amd64"), base):
                path.write_text(f"{path.read_text()}\n")
            git(shop.root, "commit", "-qam", "two")
            yield raw

    monkeypatch.setattr(Quick, "disk", disk)
    inputs = pipeline.build(shop, job, boot=False).manifest.inputs
    assert inputs.git is not None
    assert (inputs.git.commit, inputs.lock, inputs.base) == before
    assert git(shop.root, "rev-parse", "HEAD") != before[0]


def test_a_release_keeps_its_manifest_when_it_is_built_again(
    shop: Workshop, ready: Ready, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = pipeline.build(shop, ready(), boot=False)
    record = (first.folder / "manifest.json").read_bytes()
    monkeypatch.setattr("time.time", lambda: 4_000_000_000.0)
    other = pipeline.build(shop, ready("raw"), boot=False)
    assert other.folder != first.folder
    again = pipeline.build(shop, ready(), boot=False)
    assert again.folder == first.folder
    assert (first.folder / "manifest.json").read_bytes() == record


def test_a_manifest_names_the_engine_of_templates_that_a_format_fills_in(
    shop: Workshop, ready: Ready
) -> None:
    assert "python:jinja2" in capture(shop, ready("libvirt")).tool_versions
    assert "python:jinja2" not in capture(shop, ready("raw")).tool_versions


def test_an_image_that_is_looked_into_stays(
    shop: Workshop, ready: Ready, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = ready()
    pipeline.build(shop, job, boot=False)
    (job.outputs / "plan.json").unlink()

    def contents(_: Path) -> Mapping[str, Any]:
        Cache(shop.cache.directory, limit_bytes=0).prune(keep_bytes=0)
        assert shop.cache.find(job.stage("artifact:qcow2").id)
        return {}

    monkeypatch.setattr(inspection, "contents", contents)
    assert inspection.sizes(shop, job) == {"packages": [], "folders": []}


def test_the_first_build_stays_while_it_is_compared_with_others(
    shop: Workshop, ready: Ready, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = ready()
    seen: list[bool] = []

    def explain(_: Workshop, first: Any, second: Any) -> list[str]:
        Cache(shop.cache.directory, limit_bytes=0).prune(keep_bytes=0)
        seen.append(first.file("disk").exists())
        return []

    real = pipeline.export

    def export(place: Workshop, of: Job) -> dict[str, Any]:
        """The second build makes something else."""
        made = real(place, of)
        other = {
            name: replace(entry, facts={**entry.facts, "sha256": "b" * 64})
            for name, entry in made.items()
        }
        return other if place.cache_directory else made

    monkeypatch.setattr(inspection, "_explain", explain)
    monkeypatch.setattr(inspection, "export", export)
    with pytest.raises(Exception, match="a build of thing from an empty cache made another qcow2"):
        inspection.verify_reproducible(shop, job)
    assert seen == [True]


def test_a_tree_that_was_harmed_is_not_made_again_without_its_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan takes a layer of the right size for good; that it is not is found when it is
    read.
    """
    files = {"appliance.yaml": f"{SPEC}secrets: [LICENCE]\n", "README.md": "A thing\n"}
    root = make_root(tmp_path, "thing", files, monkeypatch)
    shop = Workshop(root=root, progress=Progress(io.StringIO()))
    job = prepare(shop, shop.library.load("thing"), builder="mmdebstrap", architecture="amd64")
    stage = job.stage("tree")
    entry = shop.cache.add(stage.id, "tree", {"layer.tar.zst": _write})
    path = entry.file("layer.tar.zst")
    before = path.stat()
    path.chmod(0o644)
    path.write_bytes(b"lAyer")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert shop.cache.find(stage.id)
    place = Workplace(cache=shop.cache, pool=shop.pool, progress=shop.progress, logs=tmp_path)
    with Namespace(memory_mib=64) as namespace, ThreadPoolExecutor(1) as savers:
        work = _Job(namespace, job.plan, job.rendered, job.source, place, savers, {})
        with pytest.raises(UsageError) as caught:
            work.layer(stage)
    assert (
        caught.value.message == "thing is built with secrets missing from the environment: LICENCE"
    )


def test_a_unit_that_the_image_has_not_is_missed_before_the_tree_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = f"{SPEC}services: {{enable: [there, ngnix]}}\n"
    root = make_root(
        tmp_path, "thing", {"appliance.yaml": spec, "README.md": "A thing\n"}, monkeypatch
    )
    shop = Workshop(root=root, progress=Progress(io.StringIO()))
    job = prepare(shop, shop.library.load("thing"), builder="mmdebstrap", architecture="amd64")
    place = Workplace(cache=shop.cache, pool=shop.pool, progress=shop.progress, logs=tmp_path)
    with Namespace(memory_mib=64) as namespace, ThreadPoolExecutor(1) as savers:
        work = _Job(namespace, job.plan, job.rendered, job.source, place, savers, {})
        units = _LAYERS / "packages/usr/lib/systemd/system"
        namespace.run(["mkdir", "-p", _LAYERS / "base", units])
        for name in ("there", "nginx"):
            namespace.run(["touch", units / f"{name}.service"])
        with pytest.raises(SpecErrors) as caught:
            work.layer(job.stage("tree"))
    where = "appliances/thing/appliance.yaml:8:28"
    assert str(caught.value).replace(f"{root}/", "") == (
        f'{where}: error: services.enable[1]: the image has no unit "ngnix"\n'
        '  hint: did you mean "nginx"?'
    )
    assert not (tmp_path / "tree.log").exists()


def test_a_check_may_say_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its log is UTF-8 whatever this process's locale is, and half a character pair is written as
    its number.
    """
    said = CheckResult(
        name="it",
        place="guest",
        outcome="passed",
        duration_s=0.1,
        attempts=1,
        output="grün \ud800\n",
    )
    monkeypatch.setattr(checks, "follow", lambda *_, **__: iter([said]))
    monkeypatch.setattr(trial_module, "expected_checks", lambda _: ("guest/it",))
    monkeypatch.setattr(checks, "expected_in_guest", lambda _: ("it",))
    source: Any = SimpleNamespace(appliance=SimpleNamespace(checks=()))
    emulator: Any = SimpleNamespace(accelerator=SimpleNamespace(name="kvm"))
    step = Step("boot")
    trial = Trial(
        source=source,
        tools=None,
        image=tmp_path,
        work=tmp_path,
        logs=tmp_path,
        step=step,
        firmware="bios",
        emulator=emulator,
        first_failure=False,
    )
    guest: Any = None
    checks._inside(trial, guest)
    assert (tmp_path / "guest-it.log").read_bytes() == "grün \\ud800\n".encode()
