"""Processes end with what started them, and failures can be read."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from slipway.errors import BuildError, HostError
from slipway.host import process


def gone(pid: int) -> bool:
    """Whether a process has ended, after a moment for the kernel to say so."""
    for _ in range(20_000):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state in "ZX":
            return True
        os.sched_yield()
    return False


def test_output_is_captured_and_the_environment_is_explicit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    done = process.run(
        ["sh", "-c", 'cat; echo "$LC_ALL $TZ ${LANG-none} $MORE"'], env={"MORE": "more"}
    )
    assert done.stdout == b"C.UTF-8 UTC0 none more\n"
    assert done.returncode == 0


def test_a_child_finds_the_proxies_by_the_names_that_apt_reads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever their case is: many hosts set HTTPS_PROXY alone."""
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    script = ["sh", "-c", 'echo "${http_proxy-none} ${https_proxy-none} ${no_proxy-none}"']
    assert process.run(script).stdout == b"none none none\n"
    monkeypatch.setenv("HTTP_PROXY", "http://upper.example")
    monkeypatch.setenv("HTTPS_PROXY", "http://upper.example")
    monkeypatch.setenv("https_proxy", "http://lower.example")
    monkeypatch.setenv("NO_PROXY", "localhost")
    assert process.run(script).stdout == b"http://upper.example http://lower.example localhost\n"


def test_a_child_has_the_same_umask_whatever_the_callers_is() -> None:
    before = os.umask(0o077)
    try:
        assert process.run(["sh", "-c", "umask"]).stdout == b"0022\n"
    finally:
        os.umask(before)


def test_what_is_found_is_what_a_script_would_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "mine"
    for program in (mine, tmp_path / "env"):
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin")
    assert (
        process.find_tool("env")
        == process.run(["sh", "-c", "command -v env"]).stdout.decode().strip()
    )
    assert process.find_tool(mine.name) == str(mine)


def test_a_failure_shows_the_command_its_end_and_its_last_lines(tmp_path: Path) -> None:
    with pytest.raises(BuildError) as caught:
        process.run(["sh", "-c", "echo one; echo 'two words' >&2; exit 3"])
    assert str(caught.value) == (
        "error: sh failed: exit status 3\n"
        "  command: sh -c 'echo one; echo '\"'\"'two words'\"'\"' >&2; exit 3'\n    two words"
    )
    log = tmp_path / "log"
    with pytest.raises(BuildError) as caught:
        process.run(["sh", "-c", "seq 30; exit 1"], what="counting", log=log)
    assert str(caught.value) == (
        "error: counting failed: exit status 1\n  command: sh -c 'seq 30; exit 1'\n"
        + "\n".join(f"    {number}" for number in range(11, 31))
        + f"\n  hint: the whole log is {log}"
    )
    assert log.read_text() == "".join(f"{number}\n" for number in range(1, 31))


def test_a_signal_and_a_time_limit_are_named() -> None:
    with pytest.raises(BuildError, match=r"^error: sh failed: ended by signal SIGKILL"):
        process.run(["sh", "-c", "kill -9 $$"])
    with pytest.raises(BuildError, match=r"^error: sleep failed: no end after 0\.1 s"):
        process.run(["sleep", "60"], timeout_s=0.1)
    assert process.run(["sleep", "60"], timeout_s=0.1, check=False).returncode == -signal.SIGKILL


def test_a_missing_tool_names_its_package() -> None:
    with pytest.raises(HostError) as caught:
        process.run(["mkfs.nothing"])
    assert (
        str(caught.value)
        == "error: mkfs.nothing is not installed\n  hint: sudo apt-get install mkfs.nothing"
    )
    assert process.find_tool("mke2fs").startswith("/")


def test_what_a_process_left_running_ends_with_the_block() -> None:
    with process.spawn(["sh", "-c", "sleep 1000 & echo $!; wait"], stdout=subprocess.PIPE) as child:
        assert child.stdout
        grandchild = int(child.stdout.readline())
    assert gone(child.pid)
    assert gone(grandchild)


def test_a_polite_end_comes_first_where_there_is_patience(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    script = f"trap 'echo ended >{mark}; exit' TERM; echo ready; while :; do sleep 0.01; done"
    with process.spawn(["sh", "-c", script], stdout=subprocess.PIPE, patience_s=10) as child:
        assert child.stdout
        assert child.stdout.readline() == b"ready\n"
    assert mark.read_text() == "ended\n"


def test_a_child_dies_with_its_maker_even_by_sigkill() -> None:
    script = (
        "import subprocess, sys\nfrom slipway.host import process\n"
        "with process.spawn(['sh', '-c', 'echo ready; exec sleep 1000'], "
        "stdout=subprocess.PIPE) as child:\n"
        "    child.stdout.readline()\n    print(child.pid, flush=True)\n    sys.stdin.read()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3] / "src")}
    with subprocess.Popen(
        [sys.executable, "-c", script],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as maker:
        assert maker.stdout
        child = int(maker.stdout.readline())
        maker.kill()
        maker.wait()
    assert gone(child)


def test_tail_gives_the_end_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert process.tail(log) == ""
    log.write_bytes(b"a\n\xff\nc\n")
    assert process.tail(log, 2) == "    \ufffd\n    c"


def test_standard_input_is_closed_unless_it_is_given() -> None:
    """Were it inherited, a program that asks would wait for an answer, and one in a loop would eat
    what is meant for others.
    """
    script = (
        "from slipway.host import process; print(process.run(['cat'], timeout_s=20).stdout, "
        "process.run(['cat'], input=b'x').stdout)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3] / "src")}
    said = subprocess.run(
        [sys.executable, "-c", script],
        input=b"not for it",
        capture_output=True,
        check=True,
        env=environment,
    )
    assert said.stdout == b"b'' b'x'\n"


def test_a_log_has_what_was_there_before(tmp_path: Path) -> None:
    log = tmp_path / "log"
    for word in ("one", "two"):
        process.run(["sh", "-c", 'echo "$0"; echo "$0" >&2', word], log=log)
    assert log.read_text() == "one\none\ntwo\ntwo\n"
