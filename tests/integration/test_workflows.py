"""The workflows: pinned, without permissions they do not need, and made of commands that really do what they say."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from example_release import write_example

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


def load(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(path.read_text())
    return document


def steps(workflow: str, job: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = load(ROOT / f".github/workflows/{workflow}.yml")["jobs"][job]["steps"]
    return found


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A checkout as far as the workflows can tell: ./run, and an appliance."""
    run = tmp_path / "run"
    run.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m slipway --search-root {tmp_path} "$@"\n')
    run.chmod(0o755)
    (tmp_path / "templates").symlink_to(ROOT / "templates")
    shell(tmp_path, "./run new my-thing", {})
    return tmp_path


def shell(project: Path, script: str, variables: dict[str, str]) -> str:
    """Run a step as GitHub does (bash -e), in an environment that has what the workflow gives it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLIPWAY_", "AWS_"))}
    environment = {**kept, "PYTHONPATH": str(ROOT / "src"), "SLIPWAY_CACHE": str(project / "cache"), **variables}
    environment.setdefault("SLIPWAY_KEYS", str(project / "no-keys"))
    for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"):
        environment[name] = str(project / name)
    done = subprocess.run(["bash", "-e", "-c", script], cwd=project, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
    return done.stdout


def run_job(project: Path, workflow: str, job: str, variables: dict[str, str]) -> None:
    """Run a job's steps, each with those of the variables that the workflow gives it."""
    for_all = load(ROOT / f".github/workflows/{workflow}.yml")["jobs"][job].get("env", {})
    for step in steps(workflow, job):
        if "run" in step:
            given = {**for_all, **step.get("env", {})}
            shell(project, step["run"], {name: value for name, value in variables.items() if name in given})


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_has_no_permissions_but_those_of_its_jobs_and_pins_what_it_uses(path: Path) -> None:
    workflow = load(path)
    assert workflow["permissions"] == {}
    for job in workflow["jobs"].values():
        assert job["permissions"] == {"contents": "read"}
        for step in job["steps"]:
            if "uses" in step:
                assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", step["uses"])
            else:
                commands = [line for line in step["run"].splitlines() if line.strip()]
                assert all(re.match(r'\./run |\.ci/run$|echo "names=\$\(\./run |sudo ', line) for line in commands), commands


def test_zizmor_finds_nothing() -> None:
    argv = [str(Path(sys.executable).with_name("zizmor")), "--offline", "--no-progress", str(ROOT / ".github/workflows")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_only_the_environment_of_the_target_has_its_key() -> None:
    for workflow, job, environment in (
        ("nightly", "publish", "nightly"),
        ("promote", "promote", "${{ inputs.to }}"),
        ("refresh", "refresh", "${{ matrix.channel }}-online"),
    ):
        jobs = load(ROOT / f".github/workflows/{workflow}.yml")["jobs"]
        assert jobs[job]["environment"] == environment
        assert [name for name, each in jobs.items() if "secrets." in json.dumps(each)] == [job]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_secrets_are_in_steps_that_publish_and_in_nothing_else(path: Path) -> None:
    """A step that has them builds, boots and installs nothing: an earlier one of its job has set up what it needs."""
    publishing = r"publish --folder=|promote|refresh|prune|channels"
    workflow = load(path)
    assert "secrets." not in json.dumps({**workflow, "jobs": {}})
    for job in workflow["jobs"].values():
        assert "secrets." not in json.dumps({**job, "steps": []})
        ready = False
        for step in job["steps"]:
            if "secrets." not in json.dumps(step):
                ready = ready or step.get("run") == "./run --list"
                continue
            assert ready
            assert "secrets." not in json.dumps({**step, "env": {}})
            assert [line for line in step["run"].splitlines() if not re.match(rf"\./run ({publishing})\b", line)] == []
        if "secrets." in json.dumps(job):
            everything = " ".join(step.get("run", "") for step in job["steps"])
            assert not re.search(r"run (build|nightly|lock|check|faults|test|start|render)\b", everything)


def test_a_night_and_a_promotion(project: Path) -> None:
    """nightly.yml's jobs but for the build itself (tests/vm has that), then promote.yml, against a directory store."""
    run_job(project, "nightly", "list", {})
    assert (project / "GITHUB_OUTPUT").read_text() == 'names=["my-thing"]\n'

    keys = {"SLIPWAY_KEYS": str(project / "keys")}
    for channel in ("nightly", "stable"):
        shell(project, f"./run keys init {channel}", keys)
    bundles = {channel: shell(project, f"./run keys export {channel}", keys) for channel in ("nightly", "stable")}
    (project / "trust").mkdir()
    (project / "trust/nightly.root.json").write_bytes((project / "keys/nightly/1.root.json").read_bytes())

    write_example(project / "built/build-example/1.0.0-b1", 1)
    write_example(project / "built/build-other/1.0.0-b1", 1, "other")
    variables = {"SLIPWAY_STORE": str(project / "store"), "SLIPWAY_KEY_BUNDLE": bundles["nightly"]}
    run_job(project, "nightly", "publish", variables)
    summary = (project / "GITHUB_STEP_SUMMARY").read_text()
    assert "example: nightly now has 1.0.0-b1 (before: none)" in summary
    assert "other: nightly now has 1.0.0-b1 (before: none)" in summary
    assert len(list((project / "store/metadata/nightly").glob("*.snapshot.json"))) == 2  # one commit, one renewal

    variables |= {"SLIPWAY_KEY_BUNDLE": bundles["stable"], "APPLIANCE": "example", "BUILD": "b1", "FROM": "nightly", "TO": "stable"}
    run_job(project, "promote", "promote", variables)
    assert "example: stable now has 1.0.0-b1 (before: none)" in (project / "GITHUB_STEP_SUMMARY").read_text()

    # The schedule that keeps stable alive has neither its targets key nor those of another channel.
    online = shell(project, "./run keys export stable --online", keys)
    before = sorted((project / "store/metadata/stable").glob("*.snapshot.json"))
    run_job(project, "refresh", "refresh", variables | {"SLIPWAY_KEY_BUNDLE": online, "CHANNEL": "stable"})
    assert len(sorted((project / "store/metadata/stable").glob("*.snapshot.json"))) == len(before) + 1
    held = {role for role, entries in json.loads(online)["signers"].items() for entry in entries if "pem" in entry}
    assert held == {"snapshot", "timestamp"}
