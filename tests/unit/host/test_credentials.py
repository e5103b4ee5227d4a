"""Credentials are in one process's memory, and in nothing that it starts or that others can read of
it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from slipway.host.credentials import build_environment
from slipway.settings import KEYS

SOURCE = Path(__file__).parents[3] / "src"
#: Prints what this process knows, what the kernel shows of it, and what a program sees that it
#: starts.
PROGRAM = """
import json, os, sys
from pathlib import Path
from slipway.host.credentials import leave_behind, run_apart, seal
{{"seal": seal, "leave_behind": leave_behind}}[sys.argv[1]]()
try:
    shown = Path("/proc/self/environ").read_bytes().decode().split("\\0")
except PermissionError:  # root alone may look, and this is another user
    shown = ["SLIPWAY_CACHE=/c"]
opened = [f"/proc/self/fd/{{name}}" for name in os.listdir("/proc/self/fd")]
files = [os.readlink(path) for path in opened if os.path.exists(path)]
knows = os.environ.get("AWS_SECRET_ACCESS_KEY")
print(json.dumps({{"knows": knows, "shown": shown, "files": files, "words": sys.argv[2:]}}))
sys.exit(run_apart(["sh", "-c", "env; exit 3"]))
""".replace("{{", "{").replace("}}", "}")


def started(how: str, **more: str) -> tuple[dict[str, Any], list[str]]:
    """What a process says of itself, and what its child sees."""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(SOURCE),
        "HOME": "/nowhere",
        **more,
    }
    argv = [sys.executable, "-c", PROGRAM, how, "two words", ""]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 3, done.stderr
    first, *lines = done.stdout.splitlines()
    said: dict[str, Any] = json.loads(first)
    return said, lines


def test_a_sealed_process_knows_what_nobody_else_sees() -> None:
    said, child = started(
        "seal", AWS_SECRET_ACCESS_KEY="spied", SLIPWAY_KEY_BUNDLE="spied", SLIPWAY_CACHE="/c"
    )
    assert said["knows"] == "spied"
    assert said["words"] == ["two words", ""]
    assert "SLIPWAY_CACHE=/c" in said["shown"]
    assert "SLIPWAY_CACHE=/c" in child
    assert not [line for line in [*said["shown"], *child] if "spied" in line]
    assert not [name for name in said["files"] if "memfd" in name]


def test_a_process_that_left_its_credentials_behind_does_not_know_them() -> None:
    said, child = started("leave_behind", AWS_SECRET_ACCESS_KEY="spied", SLIPWAY_CACHE="/c")
    assert said["knows"] is None
    assert "SLIPWAY_CACHE=/c" in said["shown"]
    assert not [line for line in [*said["shown"], *child] if "spied" in line]


@pytest.mark.parametrize("how", ["seal", "leave_behind"])
def test_there_may_be_none(how: str) -> None:
    said, child = started(how)
    assert said["knows"] is None
    assert "HOME=/nowhere" in child


def test_every_setting_reaches_a_build() -> None:
    given = {f"SLIPWAY_{key.upper()}": "x" for key in KEYS}
    assert build_environment(given) == given


def test_what_is_not_on_the_list_is_left_out() -> None:
    given = {
        "PATH": "p",
        "https_proxy": "x",
        "SLIPWAY_MIRROR": "m",
        "SLIPWAY_IMAGE_MIRROR": "i",
        "SLIPWAY_STORE": "s",
        "LC_ALL": "C",
    }
    given |= {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": "/summary"}
    given |= {"SSL_CERT_FILE": "c", "REQUESTS_CA_BUNDLE": "c", "PIP_INDEX_URL": "i"}
    others = (
        "SLIPWAY_KEYS",
        "SLIPWAY_KEY_BUNDLE",
        "AWS_PROFILE",
        "GITHUB_TOKEN",
        "SSH_AUTH_SOCK",
        "LD_PRELOAD",
        "PATHS",
        "LC_a",
    )
    assert build_environment(given | dict.fromkeys(others, "spied")) == given


def test_a_build_has_the_secrets_it_is_given_by_their_prefix_and_no_credential_by_its_name() -> (
    None
):
    given = {
        "SLIPWAY_SECRET_LICENCE_KEY": "1",
        "LICENCE_KEY": "2",
        "AWS_SECRET_ACCESS_KEY": "3",
        "SLIPWAY_KEY_BUNDLE": "4",
        "PATH": "/bin",
    }
    assert build_environment(given) == {"SLIPWAY_SECRET_LICENCE_KEY": "1", "PATH": "/bin"}
