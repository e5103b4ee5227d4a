"""The workflows: pinned, without permissions they do not need, and made of commands that really do
what they say.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from example_release import write_example
from workflow_steps import ROOT, load, make_project, run_job, shell

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_project(tmp_path)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_has_no_permissions_but_those_of_its_jobs_and_pins_what_it_uses(
    path: Path,
) -> None:
    workflow = load(path)
    assert workflow["permissions"] == {}
    for job in workflow["jobs"].values():
        allowed = {"contents": "read"}
        if ".ci/identity" in json.dumps(job):
            allowed["id-token"] = "write"  # exchanged for the credentials of the store
        if ".ci/propose-locks" in json.dumps(job):
            allowed = {"contents": "write", "pull-requests": "write"}
            assert "secrets." not in json.dumps(job) and "./run" not in json.dumps(job)
        assert job["permissions"] == allowed
        for step in job["steps"]:
            if "uses" in step:
                assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", step["uses"])
            else:
                commands = [line for line in step["run"].splitlines() if line.strip()]
                assert all(
                    re.match(
                        r'\./run |\.ci/[a-z]+(-[a-z]+)*( locks)?$|echo "names=\$\(\./run |sudo ',
                        line,
                    )
                    for line in commands
                ), commands


def test_zizmor_finds_nothing() -> None:
    argv = [
        str(Path(sys.executable).with_name("zizmor")),
        "--offline",
        "--no-progress",
        str(ROOT / ".github/workflows"),
    ]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_only_the_environment_of_the_target_has_its_key() -> None:
    for workflow, job, environment in (
        ("nightly", "publish", "nightly"),
        ("promote", "promote", "${{ inputs.to }}"),
        ("refresh", "refresh", "${{ matrix.channel }}-online"),
        ("rollback", "rollback", "${{ inputs.channel }}"),
        ("withdraw", "withdraw", "${{ matrix.channel }}"),
    ):
        jobs = load(ROOT / f".github/workflows/{workflow}.yml")["jobs"]
        assert jobs[job]["environment"] == environment
        assert [name for name, each in jobs.items() if "secrets." in json.dumps(each)] == [job]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_secrets_are_in_steps_that_publish_and_in_nothing_else(path: Path) -> None:
    """A step that has them builds, boots and installs nothing: an earlier one of its job has set up
    what it needs.
    """
    publishing = r"publish --folder=|promote|refresh|prune|channels|rollback|withdraw"
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
            assert [
                line
                for line in step["run"].splitlines()
                if not re.match(rf"\./run ({publishing})\b", line)
            ] == []
        if "secrets." in json.dumps(job):
            everything = " ".join(step.get("run", "") for step in job["steps"])
            assert not re.search(
                r"run (build|nightly|lock|check|faults|test|start|render)\b", everything
            )


def test_a_night_and_a_promotion(project: Path) -> None:
    """nightly.yml's jobs but for the build itself (tests/vm has that), then promote.yml, against a
    directory store.
    """
    run_job(project, "nightly", "list", {})
    assert (project / "GITHUB_OUTPUT").read_text() == 'names=["my-thing"]\n'

    keys = {"SLIPWAY_KEYS": str(project / "keys")}
    for channel in ("nightly", "stable"):
        shell(project, f"./run keys init {channel}", keys)
    bundles = {
        channel: shell(project, f"./run keys export {channel}", keys)
        for channel in ("nightly", "stable")
    }
    (project / "trust").mkdir()
    (project / "trust/nightly.root.json").write_bytes(
        (project / "keys/nightly/1.root.json").read_bytes()
    )

    write_example(project / "built/build-example/1.0.0-b1", 1)
    write_example(project / "built/build-other/1.0.0-b1", 1, "other")
    variables = {"SLIPWAY_STORE": str(project / "store"), "SLIPWAY_KEY_BUNDLE": bundles["nightly"]}
    run_job(project, "nightly", "publish", variables)
    summary = (project / "GITHUB_STEP_SUMMARY").read_text()
    for name in ("example", "other"):
        assert f"| `{name}` | `1.0.0-b1` | `nightly` | `published` |" in summary
        assert f"{name}: nightly now has" not in summary, "it is listed twice"
    # one commit, one renewal
    assert len(list((project / "store/metadata/nightly").glob("*.snapshot.json"))) == 2

    variables |= {
        "SLIPWAY_KEY_BUNDLE": bundles["stable"],
        "APPLIANCE": "example",
        "BUILD": "b1",
        "FROM": "nightly",
        "TO": "stable",
    }
    run_job(project, "promote", "promote", variables)
    assert (
        "example: stable now has 1.0.0-b1 (before: none)"
        in (project / "GITHUB_STEP_SUMMARY").read_text()
    )

    # The schedule that keeps stable alive has neither its targets key nor those of another channel.
    online = shell(project, "./run keys export stable --online", keys)
    before = sorted((project / "store/metadata/stable").glob("*.snapshot.json"))
    run_job(
        project,
        "refresh",
        "refresh",
        variables | {"SLIPWAY_KEY_BUNDLE": online, "CHANNEL": "stable"},
    )
    assert (
        len(sorted((project / "store/metadata/stable").glob("*.snapshot.json"))) == len(before) + 1
    )
    held = {
        role
        for role, entries in json.loads(online)["signers"].items()
        for entry in entries
        if "pem" in entry
    }
    assert held == {"snapshot", "timestamp"}


def test_each_appliance_of_a_night_is_built_again_and_compared() -> None:
    """Also where a check did not notice its fault; not where there is nothing to compare."""
    job = load(ROOT / ".github/workflows/nightly.yml")["jobs"]["build"]
    assert job["strategy"]["matrix"] == {"name": "${{ fromJSON(needs.list.outputs.names) }}"}
    commands = {step["run"]: step for step in job["steps"] if "run" in step}
    assert commands['./run build "$NAME"']["id"] == "build"
    assert (
        commands['./run build "$NAME" --verify-reproducible']["if"]
        == "${{ !cancelled() && steps.build.outcome == 'success' }}"
    )


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_no_workflow_has_a_key_of_the_storage(path: Path) -> None:
    text = path.read_text()
    assert re.findall(r"secrets\.(\w+)", text) == ["SLIPWAY_KEY_BUNDLE"] * text.count("secrets.")
    for job in load(path)["jobs"].values():
        signing = [step for step in job["steps"] if "AWS_ROLE_ARN" in step.get("env", {})]
        before = [step.get("run") for step in job["steps"]]
        assert not signing or ".ci/identity" in before[: before.index(signing[0]["run"])]


def inputs_of(workflow: str) -> dict[str, Any]:
    """What a workflow that is started by hand asks for. (The key "on" is True in YAML 1.1.)"""
    keys = {
        str(key): value for key, value in load(ROOT / f".github/workflows/{workflow}.yml").items()
    }
    found: dict[str, Any] = keys["True"]["workflow_dispatch"]["inputs"]
    return found


def test_every_channel_that_is_promoted_to_is_refreshed_withdrawn_from_and_rolled_back() -> None:
    def default(workflow: str, job: str) -> set[str]:
        matrix = load(ROOT / f".github/workflows/{workflow}.yml")["jobs"][job]["strategy"][
            "matrix"
        ]["channel"]
        return set(json.loads(re.search(r"'(\[.*\])'", matrix)[1]))  # type: ignore[index]

    inputs = inputs_of("promote")
    channels = {*inputs["from"]["options"], *inputs["to"]["options"]}
    assert default("refresh", "refresh") == default("withdraw", "withdraw") == channels
    assert set(inputs_of("rollback")["channel"]["options"]) == channels


def test_owners_of_code_are_nobody_that_was_made_up() -> None:
    """A rule of an unknown owner looks like protection and is none: so each rule waits for its
    reader's own.
    """
    lines = (ROOT / ".github/CODEOWNERS").read_text().splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == []
    paths = {line.split()[1] for line in lines if line.split()[2:] == ["@OWNER/TEAM"]}
    assert paths == {
        "*",
        "/.ci/",
        "/.github/",
        "/requirements/",
        "/src/slipway/channels/",
        "/trust/",
    }
    assert [
        path for path in paths - {"*", "/trust/"} if not (ROOT / path.strip("/")).is_dir()
    ] == []


def test_every_workflow_variable_and_environment_is_on_the_page() -> None:
    page = (ROOT / "docs/how-to/run-in-ci.md").read_text()
    for path in WORKFLOWS:
        assert f"`{path.stem}`" in page
        assert [
            name for name in re.findall(r"vars\.(\w+)", path.read_text()) if f"`{name}`" not in page
        ] == []


def script(
    name: str,
    folder: Path,
    *words: str,
    status: int = 0,
    variables: Mapping[str, str] | None = None,
) -> str:
    """Run a script of .ci/ in a folder, with programs of its own first; return what it said."""
    environment = {
        "PATH": f"{folder}/bin:{os.environ['PATH']}",
        "HOME": str(folder),
        "GIT_CONFIG_NOSYSTEM": "1",
        **(variables or {}),
    }
    done = subprocess.run(
        [ROOT / f".ci/{name}", *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def program(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.mark.parametrize("variable", ["", "http://mirror.example/debian"])
def test_a_runner_gets_kvm_by_a_rule_and_a_mirror_also_in_a_fork(
    variable: str, tmp_path: Path
) -> None:
    program(tmp_path / "bin/sudo", 'echo "$*" >>asked; [ "$1" != tee ] || cat >>asked')
    script(
        "machine",
        tmp_path,
        variables={"SLIPWAY_MIRROR": variable, "GITHUB_ENV": str(tmp_path / "env")},
    )
    asked = (tmp_path / "asked").read_text()
    assert 'KERNEL=="kvm", GROUP="kvm", MODE="0666", OPTIONS+="static_node=kvm"\n' in asked
    assert "udevadm control --reload-rules\nudevadm trigger --name-match=kvm\n" in asked
    mirror = (tmp_path / "env").read_text()
    assert (
        mirror == f"SLIPWAY_MIRROR={variable}\n"
        if variable
        else re.fullmatch(r"SLIPWAY_MIRROR=http://\S+/debian\n", mirror)
    )


def git(folder: Path, *words: str) -> str:
    named = ["-c", "user.name=T", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"]
    done = subprocess.run(
        ["git", "-C", folder, *named, *words],
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    )
    return done.stdout


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone with an appliance and its lock, an origin, and a gh that notes what it is asked."""
    git(tmp_path, "init", "--quiet", "--bare", "origin")
    git(tmp_path, "clone", "--quiet", str(tmp_path / "origin"), "clone")
    clone = tmp_path / "clone"
    (clone / "appliances/thing").mkdir(parents=True)
    (clone / "appliances/thing/appliance.yaml").write_text("schema: 1\n")
    (clone / "appliances/thing/lock.amd64.json").write_text("old\n")
    git(clone, "add", "--all")
    git(clone, "commit", "--quiet", "-m", "first")
    git(clone, "push", "--quiet", "origin", "HEAD:main")
    program(clone / "bin/gh", 'echo "$*" >>../asked')
    return clone


def renewed(clone: Path, name: str, text: str) -> None:
    folder = clone / f"locks/lock-{name}"
    folder.mkdir(parents=True)
    (folder / "lock.amd64.json").write_text(text)


def test_renewed_locks_come_back_as_one_pull_request(clone: Path) -> None:
    renewed(clone, "thing", "new\n")
    (clone / "locks/lock-thing/appliance.yaml").write_text("hostile\n")
    script("propose-locks", clone, "locks")
    assert git(clone, "diff", "--name-only", "origin/main", "origin/renewed-locks").split() == [
        "appliances/thing/lock.amd64.json"
    ]
    assert git(clone, "show", "origin/renewed-locks:appliances/thing/lock.amd64.json") == "new\n"
    asked = (clone.parent / "asked").read_text().splitlines()
    assert asked[0] == "auth setup-git" and asked[-1].startswith(
        "pr create --head renewed-locks --title appliances: renew locks "
    )


def test_nothing_is_proposed_where_no_lock_changed_and_strangers_are_refused(clone: Path) -> None:
    renewed(clone, "thing", "old\n")
    assert script("propose-locks", clone, "locks") == "no lock has changed\n"
    renewed(clone, "stranger", "x\n")
    assert (
        script("propose-locks", clone, "locks", status=1)
        == "error: there is no appliance stranger\n"
    )
    assert not (clone.parent / "asked").exists()


def test_a_job_writes_its_token_where_sdks_look_for_it(tmp_path: Path) -> None:
    asked = []

    class Forge(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers["Authorization"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"count":1,"value":"header.body.signature"}')

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Forge) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/token?version=1"
        asking = {
            "ACTIONS_ID_TOKEN_REQUEST_URL": url,
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "bearer-1",
            "no_proxy": "127.0.0.1",
        }
        script("identity", tmp_path, variables=asking | {"AWS_WEB_IDENTITY_TOKEN_FILE": ""})
        assert asked == []
        script(
            "identity",
            tmp_path,
            variables=asking | {"AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "identity")},
        )
        server.shutdown()
    assert asked == [("/token?version=1&audience=sts.amazonaws.com", "bearer bearer-1")]
    assert (tmp_path / "identity").read_text() == "header.body.signature"
    assert (tmp_path / "identity").stat().st_mode & 0o777 == 0o600
