"""A try of a check on this host: its limit grows with the host's work, and what is cut off says
what it was doing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from slipway.boot import attempt as module
from slipway.boot.attempt import PYTHON, attempt


def growing(*limits: float) -> Callable[[], float]:
    """A limit that is asked for again and again."""
    left = list(limits)
    return lambda: left.pop(0) if len(left) > 1 else left[0]


def wait_until(true: Callable[[], bool]) -> None:
    """Return when a condition holds; half a minute is long for it."""
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize(("script", "status"), [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", -9)])
def test_a_program_that_ends_has_its_status(tmp_path: Path, script: str, status: int) -> None:
    log = tmp_path / "log"
    assert attempt(["sh", "-c", f"echo said; {script}"], {}, log, limit_s=lambda: 60) == status
    assert log.read_text() == "said\n"


def test_a_limit_that_grows_meanwhile_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host got other work after the program had been started, and is rid of it before the
    program ends.
    """
    monkeypatch.setattr(module, "_ASK_S", 0.01)
    assert (
        attempt(["sh", "-c", "sleep 0.4"], {}, tmp_path / "log", limit_s=growing(0.3, 60, 0.3)) == 0
    )


def test_a_program_whose_time_is_up_is_cut_off(tmp_path: Path) -> None:
    """With all that it has started."""
    pid = tmp_path / "pid"
    script = f"trap '' ABRT; sleep 600 & echo $! >{pid}; wait"

    def once_it_runs() -> float:
        wait_until(lambda: pid.exists() and pid.read_text().endswith("\n"))
        return 0.1

    assert attempt(["sh", "-c", script], {}, tmp_path / "log", limit_s=once_it_runs) is None
    status = Path(f"/proc/{int(pid.read_text())}/stat")
    # Who has lost its parent is reaped by init, sooner or later.
    wait_until(
        lambda: not status.exists() or status.read_text().rpartition(")")[2].split()[0] in "ZX"
    )


def test_python_says_where_it_stands_and_what_it_has_printed(tmp_path: Path) -> None:
    check, log = tmp_path / "check.py", tmp_path / "log"
    check.write_text(
        "import signal\n\n\ndef ask():\n    print('asking')\n    signal.pause()\n\n\nask()\n"
    )
    assert attempt([*PYTHON, check], {}, log, limit_s=growing(1.0)) is None
    lines = log.read_text().splitlines()
    assert lines[0] == "asking"
    assert lines[1] == "Fatal Python error: Aborted"
    assert [line for line in lines if line.startswith("  File")] == [
        f'  File "{check}", line 6 in ask',
        f'  File "{check}", line 9 in <module>',
    ]
