"""Messages write commands as they can be typed: by what started the program."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from slipway.errors import StoreError, as_called

TEXT = "run: invoke build x, or ./run --help; src/invoke x stays"


@pytest.mark.parametrize(
    ("program", "called", "said"),
    [
        ("/x/bin/slipway", None, "run: slipway build x, or slipway --help; src/invoke x stays"),
        ("/x/bin/slipway", "./run", "run: slipway build x, or slipway --help; src/invoke x stays"),
        (
            "/x/slipway/__main__.py",
            "./run",
            "run: ./run build x, or ./run --help; src/invoke x stays",
        ),
        (
            "/x/bin/invoke",
            "/a b/run",
            "run: '/a b/run' build x, or '/a b/run' --help; src/invoke x stays",
        ),
        (
            "/x/bin/invoke",
            r"/\1/run",
            r"run: '/\1/run' build x, or '/\1/run' --help; src/invoke x stays",
        ),
        ("/x/bin/invoke", None, TEXT),
    ],
)
def test_a_command_in_a_text_is_called_as_the_program_was(
    program: str, called: str | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [program])
    monkeypatch.delenv("SLIPWAY_RUN", raising=False)
    if called:
        monkeypatch.setenv("SLIPWAY_RUN", called)
    assert as_called(TEXT) == said


@pytest.mark.integration
def test_hints_and_help_have_it_also_behind_another_process(tmp_path: Path) -> None:
    (tmp_path / "appliances").mkdir()
    (tmp_path / "templates").mkdir()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "SLIPWAY_RUN": "./run",
        "SLIPWAY_KEY_BUNDLE": "x",
    }

    def said(*words: str) -> str:
        argv = [sys.executable, "-P", "-m", "slipway", f"--search-root={tmp_path}", *words]
        done = subprocess.run(
            argv, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
        )
        return done.stdout + done.stderr

    assert (
        said("build", "x")
        == 'error: there is no appliance "x"\n  hint: "./run new NAME" makes one\n'
    )
    assert said("build", "--help").startswith("Usage: ./run build [NAME...] [options]\n")


def test_an_error_keeps_its_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPWAY_RUN", "./run")
    error = StoreError("no", hint="run: invoke list")
    assert (error.hint, str(error)) == ("run: invoke list", "error: no\n  hint: run: ./run list")
