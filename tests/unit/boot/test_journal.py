"""The journal of a machine whose checks failed: whole, or not there."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from slipway.boot.journal import LINES, keep

#: Says the command that it was given, instead of logging in.
ECHO = ("sh", "-c", 'printf "%s\\n" "$1"', "login")


def test_what_the_machine_says_is_kept(tmp_path: Path) -> None:
    assert keep(ECHO, tmp_path / "journal.log", limit_s=60)
    command = (tmp_path / "journal.log").read_text()
    assert command.startswith("journalctl ") and f"--lines={LINES}" in command
    assert [file.name for file in tmp_path.iterdir()] == ["journal.log"]


@pytest.mark.parametrize("script", ["echo half of it; exit 255", "echo half of it; sleep 1000"])
def test_half_a_journal_is_none(tmp_path: Path, script: str) -> None:
    begun = time.monotonic()
    assert not keep(("sh", "-c", script, "login"), tmp_path / "journal.log", limit_s=1)
    assert time.monotonic() - begun < 60
    assert not list(tmp_path.iterdir())


def test_a_machine_that_says_too_much_does_not_fill_this_hosts_disk(tmp_path: Path) -> None:
    """It could send what it wants, for as long as it may take."""
    begun = time.monotonic()
    assert not keep(("sh", "-c", "exec head -c 70000000 /dev/zero"), tmp_path / "a", limit_s=60)
    assert not keep(("sh", "-c", "exec cat /dev/zero"), tmp_path / "b", limit_s=60)
    assert time.monotonic() - begun < 60
    assert not list(tmp_path.iterdir())
