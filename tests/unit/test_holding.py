"""A shell in what failed: lines go both ways, and nothing of it is obeyed by the terminal."""

from __future__ import annotations

import os
import sys

import pytest

from slipway.commands.holding import _relay
from slipway.terminal import screened

ECHO = r"""
while read -r line; do printf "got %s \033[2J\n" "$line"; [ "$line" != last ] || exit 0; done
printf "no more"
"""


@pytest.mark.parametrize(
    ("typed", "end"), [("one\n", "no more"), ("last\nnobody reads this\n", "")], ids=["eof", "exit"]
)
def test_lines_go_to_the_shell_and_come_back(
    typed: str, end: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reading, writing = os.pipe()
    os.write(writing, typed.encode())
    os.close(writing)
    with os.fdopen(reading) as terminal, screened():
        monkeypatch.setattr(sys, "stdin", terminal)
        _relay(["sh", "-c", ECHO])
        monkeypatch.undo()
    line = typed.partition("\n")[0]
    assert capsys.readouterr().out == f"got {line} \\x1b[2J\n{end}"
