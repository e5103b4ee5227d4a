"""What `run` starts: with no settings of other projects, and with an end that is documented
whatever the streams are.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from invoke.exceptions import Exit

from slipway.commandline.invocation import outcome
from slipway.errors import HostError

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
COMMAND = shlex.join([sys.executable, "-P", "-m", "slipway", "--search-root", str(ROOT)])


def slipway(words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command line of a shell."""
    argv = ["sh", "-c", f"{COMMAND} {words}"]
    return subprocess.run(
        argv,
        env={**os.environ, **environment},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_no_settings_of_invoke_count_but_ours(tmp_path: Path) -> None:
    for text in ("tasks: {collection_name: other}\n", "a: [\n"):
        (tmp_path / ".invoke.yaml").write_text(text)
        ended = slipway(
            f"list --names --root {ROOT}",
            HOME=str(tmp_path),
            INVOKE_TASKS_COLLECTION_NAME="other",
            INVOKE_RUN_ECHO="1",
        )
        assert (ended.returncode, ended.stderr) == (0, "")
        assert ended.stdout.splitlines() == sorted(
            path.name for path in (ROOT / "appliances").iterdir() if path.is_dir()
        )


@pytest.mark.integration
def test_ctrl_c_while_modules_are_loaded_ends_it_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "invoke.py").write_text(
        "import sys\nprint('loading', flush=True)\nsys.stdin.read()\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT / 'src'}"}
    pipe = subprocess.PIPE
    # What is run in the background ignores SIGINT, and what CI runs may be.
    argv = ["env", "--default-signal=INT", sys.executable, "-P", "-m", "slipway", "list"]
    with subprocess.Popen(
        argv, env=environment, cwd="/", stdin=pipe, stdout=pipe, stderr=pipe, text=True
    ) as started:
        assert started.stdout and started.stdout.readline() == "loading\n"
        started.send_signal(signal.SIGINT)
        assert started.communicate(timeout=30) == ("", "")
    assert started.returncode == -signal.SIGINT


def test_ctrl_c_is_said_once_a_task_has_begun() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        with pytest.raises(Exit) as caught, outcome():
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGINT, before)
    assert (caught.value.message, caught.value.code) == ("interrupted", 130)


FULL = "error: standard output: no space left on device\n  hint: free some space there\n"
CLOSED = "error: standard output is closed\n  hint: to discard it: >/dev/null\n"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("schema >/dev/full", 4, FULL),
        ("list >&-", 4, CLOSED),
        ("list --names 2>&- >/dev/null", 0, ""),
        ("list surplus 2>&-", 2, ""),
        ("list surplus 2>/dev/full", 2, ""),
    ],
)
def test_streams_that_take_nothing_end_with_a_documented_code(
    words: str, code: int, message: str
) -> None:
    ended = slipway(words)
    assert (ended.returncode, ended.stderr) == (code, message)


def test_what_the_system_refuses_is_one_line_with_its_path_and_a_hint(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Exit) as ended, outcome():
        (tmp_path / "file/below").write_text("")
    assert (ended.value.code, ended.value.message) == (
        HostError.exit_code,
        (
            f"error: {tmp_path}/file/below: not a directory\n"
            "  hint: name a folder, or move away what is in its place"
        ),
    )
    with pytest.raises(Exit) as ended, outcome():
        raise PermissionError(13, "Permission denied", "/some/place")
    hint = "look at its owner and mode, and at those of the folders above it"
    assert ended.value.message == f"error: /some/place: permission denied\n  hint: {hint}"


def test_signatures_do_not_wait_for_boto3_and_amazons_still_find_it() -> None:
    program = """
import sys
import slipway.channels, tuf.api.metadata
assert "boto3" not in sys.modules
from securesystemslib.signer import _aws_signer
assert _aws_signer.AWS_IMPORT_ERROR is None
client = _aws_signer.boto3.client
import boto3
assert client is boto3.client and boto3.__path__
"""
    pytest.importorskip("boto3")
    subprocess.run([sys.executable, "-c", program], check=True)
