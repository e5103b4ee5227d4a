"""`--json`: one document on standard output, as docs/reference/json.md says, whatever becomes of
the task.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from example_disk import write_disk
from example_release import write_example, write_release_folder
from json_shapes import judge, page, shape_of
from own_environment import environment_of
from slipway.channels.keys import init
from slipway.commands import namespace
from slipway.commands.records import release_record
from slipway.commands.shapes import Release
from slipway.formats import load

ROOT = Path(__file__).parents[2]
Ask = Callable[..., Any]
#: What a pipeline has no use for: it writes into the checkout, or is about Slipway itself.
WITHOUT = {"new", "test", "lint", "mutants", "deps", "schema", "appliances", "serve"}
#: The indexes for programs of others; beside them are the pages.
INDEXES = ["streams/v1/images.json", "streams/v1/index.json", "items.json", "lib.json"]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A root without appliances, three builds that were made elsewhere, and the keys of two
    channels.
    """
    for number in (1, 2, 3):
        write_example(tmp_path / f"builds/{number}", number)
    for channel in ("nightly", "stable"):
        init(channel, tmp_path / "keys")
    (tmp_path / "appliances").mkdir()
    (tmp_path / "templates").symlink_to(ROOT / "templates")
    return tmp_path


@pytest.fixture
def ask(project: Path) -> Ask:
    environment = environment_of(
        project, SLIPWAY_STATE=str(project / "state"), SLIPWAY_STORE=str(project / "store")
    )

    def ask(task: str, *words: str, status: int = 0, root: Path = project) -> Any:
        """Return a task's document, which is as the page says."""
        argv = [
            sys.executable,
            "-P",
            "-m",
            "slipway",
            f"--search-root={root}",
            task,
            *words,
            "--json",
        ]
        done = subprocess.run(
            argv, env=environment, cwd=project, capture_output=True, text=True, timeout=400
        )
        assert done.returncode == status, done.stdout + done.stderr
        told = json.loads(done.stdout)
        assert told["exit_code"] == status
        assert bool(told["errors"]) == bool(status)
        rest = {
            name: value
            for name, value in told.items()
            if name not in ("format", "exit_code", "errors")
        }
        if told["format"] == "slipway/error/1":
            assert status and rest == {"task": task}
        else:
            assert told["format"] == shape_of(task).FORMAT
            assert list(judge(rest, shape_of(task))) == []
        told["stderr"] = done.stderr
        return told

    return ask


def test_the_page_is_what_the_code_says() -> None:
    same = (ROOT / "docs/reference/json.md").read_text() == page()
    assert same, "run: PYTHONPATH=src:tests/support python tests/support/reference_pages.py"


def test_every_task_that_a_pipeline_uses_has_it() -> None:
    tasks = {str(context.name): context for context in namespace().to_contexts()}
    having = {name for name, context in tasks.items() if "json" in context.args}
    assert having == tasks.keys() - WITHOUT
    for name in having:
        shape_of(name)


def test_a_release_on_its_way_through_the_channels(project: Path, ask: Ask) -> None:
    told = ask("publish", "--folder=builds/1", "--dry-run")
    assert told["would"] == [
        "publish example 1.0.0-b1 into nightly, with 1.0.0-b1 as the current one (before: none)"
    ]
    told = ask("publish", "--folder=builds/1")
    move = {
        "appliance": "example",
        "channel": "nightly",
        "release": "1.0.0-b1",
        "before": None,
        "changed": True,
    }
    assert told["moved"] == [move]
    assert (told["store"], len(told["releases"][0]["created"])) == (str(project / "store"), 6)
    assert "example: nightly now has 1.0.0-b1 (before: none)\n" in told["stderr"]
    ask("publish", "--folder=builds/2")

    told = ask("promote", "example", "--to=stable", "--build=b1", "--dry-run")
    assert (told["moved"], told["added"]) == ([], {"nginx": "1.1"})
    ask("promote", "example", "--to=stable", "--build=b1", "--yes")
    told = ask("promote", "example", "--to=stable", "--yes")
    assert told["updated"] == {"nginx": ["1.1", "1.2"]}
    assert told["moved"] == [
        {**move, "channel": "stable", "release": "1.0.0-b2", "before": "1.0.0-b1"}
    ]
    told = ask("rollback", "example", "--yes")
    assert (told["release"], told["moved"][0]["before"]) == ("1.0.0-b1", "1.0.0-b2")

    told = ask("fetch", "example", "--out=out")
    assert Path(project, told["image"]["path"]).stat().st_size == told["image"]["size"] == 7000
    assert told["created"] == "2027-01-16T08:00:00Z"
    told = ask("refresh")
    assert [each["name"] for each in told["channels"]] == ["stable", "nightly"]
    assert all(each["expires"]["timestamp"].endswith("Z") for each in told["channels"])
    told = ask("withdraw", "example", "--build=b1", "--reason=it eats disks", "--yes")
    assert (told["releases"], [each["channel"] for each in told["moved"]]) == (
        ["1.0.0-b1"],
        ["stable", "nightly"],
    )

    told = ask("channels")
    held = told["holdings"][0]
    assert (held["channel"], held["current"]) == ("stable", "1.0.0-b2")
    assert held["withdrawn"][0]["reason"] == "it eats disks"
    files = {each["file"]: each for each in held["releases"][0]["files"]}
    assert (
        files["example.qcow2"]["key"]
        == f"targets/example/1.0.0-b2/{files['example.qcow2']['sha256']}.example.qcow2"
    )
    assert told["channels"][0]["version"] == 5
    assert ask("prune", "--dry-run")["would"] == ["drop nothing"]
    assert ask("prune")["channels"] == ["stable", "nightly"]
    assert ask("gc")["removed"] == []
    assert ask("verify")["problems"] == []
    assert [key for key in ask("catalog")["written"] if not key.startswith("www/")] == INDEXES
    assert ask("recover", "stable")["version"] is None
    ask("channels", "remove", "stable", "--force", "--dry-run")
    assert ask("channels", "remove", "stable", "--force", "--yes")["removed"] == "stable"


def test_what_failed_is_in_the_document_and_what_was_done_until_then(
    project: Path, ask: Ask
) -> None:
    write_release_folder(
        project / "builds/4",
        {"qcow2": b"x", "raw": b"y"},
        release="1.0.0-b4",
        build="b4",
        boot=None,
    )
    told = ask("publish", "--folder=builds", status=5)
    assert [each["release"] for each in told["moved"]] == ["1.0.0-b3"]
    message = "example 1.0.0-b4 was never booted, so it is not published"
    hint = "run: invoke build example"
    assert told["refused"] == [{"name": "example 1.0.0-b4", "message": message, "hint": hint}]
    assert told["errors"] == [
        {"message": message, "hint": hint, "file": None, "line": None, "column": None}
    ]
    assert told["stderr"].endswith(f"error: {message}\n  hint: {hint}\n")

    told = ask("fetch", "example", "--channel=stabel", status=6)
    assert (told["format"], told["errors"][0]["hint"]) == (
        "slipway/error/1",
        "choose from: nightly",
    )
    for path in (project / "store/targets").rglob("*.qcow2"):
        path.chmod(0o644)
        path.write_bytes(b"z" * path.stat().st_size)
    told = ask("verify", status=7)
    assert len(told["problems"]) == 3
    assert ask("keys", "show", "nightly")["roles"][0]["here"] is True
    assert ask("keys", "export", status=2)["errors"][0]["message"] == "keys export takes no --json"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("fetch", "--chanel=x"), "fetch: unknown option --chanel"),
        (("fetch",), "fetch: NAME is missing"),
        (("promote", "example", "--to="), "promote: --to has an empty value"),
        (("build",), "name appliances, or give --all"),
    ],
)
def test_a_wrong_command_line_is_a_document_too(
    ask: Ask, words: tuple[str, ...], message: str
) -> None:
    told = ask(*words, status=2)
    assert (told["format"], told["errors"][0]["message"]) == ("slipway/error/1", message)


def test_a_spec_with_errors_has_each_with_its_place(project: Path, ask: Ask) -> None:
    folder = project / "appliances/apart"
    folder.mkdir()
    (folder / "appliance.yaml").write_text(
        "schema: 1\nname: apart\nversion: 1.0.0\nbase: debian-13\nnosuch: 1\n"
    )
    told = ask("validate", status=3)
    assert told["format"] == "slipway/error/1"
    assert {each["file"] for each in told["errors"]} == {"appliances/apart/appliance.yaml"}
    assert any(each["line"] == 5 and each["column"] == 1 for each in told["errors"])


def test_what_checks_give_a_parameter_without_a_default_is_said(project: Path, ask: Ask) -> None:
    folder = project / "appliances/apart"
    folder.mkdir()
    spec = "schema: 1\nname: apart\nversion: 1.0.0\nsummary: It\ncategory: custom\n"
    spec += (
        "parameters: [{name: domain, type: hostname, summary: Its name}, {name: port, type: "
        "integer, default: '1', summary: Its port}]\n"
    )
    (folder / "appliance.yaml").write_text(spec)
    told = ask("validate")
    assert told["given"] == [{"appliance": "apart", "parameter": "domain", "value": "sample.test"}]
    assert (
        told["stderr"]
        == "apart: domain has no default: checks give it sample.test\n1 appliance is valid\n"
    )


def test_builds_and_exports(project: Path, ask: Ask) -> None:
    disk = write_disk(project / "disk.raw")
    raw = load("raw").export(disk, project / "packed", virtual_size=1 << 30, log=project / "log")
    facts: dict[str, Any] = {
        "artifacts": (replace(raw, file="example.raw"),),
        "booted_disk_sha256": raw.uncompressed_sha256,
    }
    facts["resources"] = {"cpus": 1, "memory_mib": 512, "disk_gib": 1}
    write_release_folder(project / "built", {"raw": (project / "packed").read_bytes()}, **facts)
    told = ask("export", "built", "--format=vhd", "--out=out")
    assert [each["format"] for each in told["images"]] == ["vhd"]
    assert (project / told["images"][0]["path"]).stat().st_size == told["images"][0]["size"]


def test_what_ended_the_process_that_builds_is_in_the_document(ask: Ask) -> None:
    for task in ("publish", "nightly"):
        told = ask(task, "nosuch", status=2)
        assert told["errors"][0]["message"] == 'there is no appliance "nosuch"'
        assert told["stderr"].count("error: ") == 1
    told = ask("build", "nosuch", "--publish", status=2)
    assert (told["format"], told["errors"][0]["message"]) == (
        "slipway/error/1",
        'there is no appliance "nosuch"',
    )


def test_a_finished_build_has_its_files_with_hashes(project: Path) -> None:
    release = write_example(project / "build/example/1.0.0-b7", 7)
    told = asdict(release_record(release))
    assert list(judge(json.loads(json.dumps(told)), Release)) == []
    assert (told["booted"], told["created"], told["manifest_sha256"]) == (
        True,
        "2027-01-22T08:00:00Z",
        release.hashes["manifest.json"],
    )
    for artifact in told["artifacts"]:
        assert hashlib.sha256(Path(artifact["path"]).read_bytes()).hexdigest() == artifact["sha256"]


def test_the_checkout_and_this_machine(ask: Ask) -> None:
    names = {each["name"] for each in ask("list", root=ROOT)["appliances"]}
    assert names == set(ask("validate", root=ROOT)["appliances"])
    assert ask("cache")["entries"] == []
    assert ask("cache", "prune")["removed"] == []
