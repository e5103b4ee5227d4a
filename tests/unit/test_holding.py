"""A person at what failed: lines of a shell go both ways, and nothing of it is obeyed by the
terminal; a machine that is kept goes whenever Ctrl-C is pressed.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from slipway.boot.trial import Held
from slipway.commandline.invocation import Terminated
from slipway.commands.holding import Holding, _relay
from slipway.terminal.text import screened

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


class Hasty(io.StringIO):
    """Standard output before somebody who ends it as soon as some words stand there."""

    def __init__(self, words: str, end: BaseException) -> None:
        super().__init__()
        self._words, self._end = words, end

    def flush(self) -> None:
        if self._words and self._words in self.getvalue():
            self._words = ""
            raise self._end


@pytest.mark.parametrize("end", [KeyboardInterrupt(), Terminated(signal.SIGTERM)], ids=repr)
def test_ctrl_c_counts_from_the_line_that_names_it_and_sigterm_ends_the_task(
    end: KeyboardInterrupt, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest: Any = None
    held = Held(appliance="web", why="no", login=("ssh",), console=Path("log"), guest=guest)
    seen = Hasty("until Enter or Ctrl-C\n", end)
    monkeypatch.setattr(sys, "stdout", seen)
    look = Holding(keep_failed=True).on_failure
    assert look
    passed: BaseException | None = None
    try:
        look(held)
    except KeyboardInterrupt as error:  # pytest itself would end by it
        passed = error
    terminated = isinstance(end, Terminated)
    assert passed is (end if terminated else None)
    last = "going on: the machine is switched off\n"
    assert seen.getvalue().endswith("Ctrl-C\n" if terminated else f"Ctrl-C\n{last}")
