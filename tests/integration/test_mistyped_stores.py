"""A store's name that was mistyped: every command says so, and none of them makes a folder of
it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import boto3
import pytest

from example_release import write_example
from slipway.channels.keys import init

ROOT = Path(__file__).parents[2]
Invoke = Callable[..., str]
READING = {
    "channels": (),
    "verify": (),
    "fetch": ("example",),
    "promote": ("example", "--yes"),
    "rollback": ("example", "--yes"),
    "withdraw": ("example", "--build=b1", "--reason=a test", "--yes"),
    "prune": (),
    "gc": (),
    "refresh": (),
    "catalog": (),
}


@pytest.fixture
def invoke(tmp_path: Path) -> Invoke:
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SLIPWAY_", "AWS_")) and name != "CI"
    }
    environment |= {
        "SLIPWAY_CACHE": str(tmp_path / "cache"),
        "SLIPWAY_KEYS": str(tmp_path / "keys"),
        "PYTHONPATH": str(ROOT / "src"),
    }
    environment |= {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_CONFIG_FILE": "/nonexistent",
    }

    def invoke(*words: str, status: int = 0) -> str:
        argv = [sys.executable, "-P", "-m", "slipway", f"--search-root={tmp_path}", *words]
        done = subprocess.run(
            argv, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout if status == 0 else done.stderr

    return invoke


@pytest.mark.parametrize("task", READING)
def test_a_folder_that_is_not_there_is_no_store(tmp_path: Path, invoke: Invoke, task: str) -> None:
    store = tmp_path / "stroe"
    assert invoke(task, *READING[task], f"--store={store}", status=6) == (
        f"error: there is no store in {store}: there is no such folder\n"
        "  hint: check --store and SLIPWAY_STORE; a new store begins with: invoke keys init "
        f"nightly; invoke publish NAME --store={store}\n"
    )
    assert not store.exists()


def test_publish_begins_a_store_where_nothing_is_and_nowhere_else(
    tmp_path: Path, invoke: Invoke
) -> None:
    init("nightly", tmp_path / "keys")
    write_example(tmp_path / "build", 1)
    other, empty = tmp_path / "other", tmp_path / "empty"
    (other / "metadata").mkdir(parents=True)
    (other / "metadata/letter.txt").write_text("not of a store")
    empty.mkdir()
    message = (
        f"error: {other} is not a store: something else is there\n"
        "  hint: name the folder of a store, or an empty one\n"
    )
    assert invoke("publish", "--folder=build", f"--store={other}", status=6) == message
    assert invoke("verify", f"--store={other}", status=6) == message
    assert [path.name for path in other.rglob("*")] == ["metadata", "letter.txt"]
    assert invoke("verify", f"--store={empty}", status=6) == (
        f"error: there is no store in {empty}: the folder is empty\n"
        "  hint: check --store and SLIPWAY_STORE; a new store begins with: invoke keys init "
        f"nightly; invoke publish NAME --store={empty}\n"
    )
    for store in (empty, tmp_path / "new"):
        invoke("publish", "--folder=build", f"--store={store}")
        assert invoke("verify", f"--store={store}").endswith("\n0 objects belong to no channel\n")


def test_a_url_with_one_slash_is_no_folder(tmp_path: Path, invoke: Invoke) -> None:
    write_example(tmp_path / "build", 1)
    assert invoke("publish", "--folder=build", "--store=s3:/bucket/p", status=6) == (
        "error: there is no kind of store for s3:/bucket/p\n"
        "  hint: write s3://bucket/p; a folder of this name is ./s3:/bucket/p\n"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["build"]


def test_a_prefix_without_any_object_is_no_store(invoke: Invoke) -> None:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **keys).create_bucket(
            Bucket="bucket"
        )
        for task in ("channels", "verify", "refresh"):
            said = invoke(task, "--store=s3://bucket/stroe", f"--endpoint-url={endpoint}", status=6)
            assert said == (
                "error: there is no store in s3://bucket/stroe: nothing was published there\n"
                "  hint: check --store and SLIPWAY_STORE; a new store begins with: "
                "invoke keys init nightly; invoke publish NAME --store=s3://bucket/stroe\n"
            )
    finally:
        server.stop()
