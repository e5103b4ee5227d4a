"""What a person sees while it works: on terminals of every width, in pipes and in workflows."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from screen import Screen, Terminal
from slipway.terminal import live
from slipway.terminal.durations import Durations
from slipway.terminal.progress import Expected, Progress, Step, clock, seconds
from slipway.terminal.text import Screen as Output
from slipway.terminal.text import aside

WIDTHS = (60, 80, 120, 200)


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """An xterm with colours that is drawn on often, and no workflow."""
    monkeypatch.setattr(live, "_PER_SECOND", 40)
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "GITHUB_ACTIONS", "COLUMNS", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)


def expected(label: str, usual_s: float | None = None) -> Expected:
    return Expected(label=label, key=f"web/{label}", usual_s=usual_s)


def wait_for(condition: threading.Event) -> None:
    assert condition.wait(20), "nothing was drawn"


def drawn(step: Step) -> threading.Event:
    """Return what is set when the step's row has been asked for twice more: the first of them is
    drawn by then.
    """
    event, times = threading.Event(), [0]

    def measure() -> int:
        times[0] += 1
        if times[0] > 2:
            event.set()
        return 0

    step.measure = measure
    return event


def drawing() -> list[threading.Thread]:
    """Return the threads that draw, after the moment that one takes to see that it is no longer
    wanted.
    """
    found = [each for each in threading.enumerate() if "Refresh" in type(each).__name__]
    for each in found:
        each.join(5)
    return [each for each in found if each.is_alive()]


def states(raw: str, columns: int) -> list[str]:
    """Return what stood on a terminal whenever something had been drawn."""
    screen = Screen(columns)
    for part in re.split(r"(?=\r\x1b\[2K)", raw):
        screen.feed(part)
    return screen.seen


@pytest.mark.parametrize("columns", WIDTHS)
def test_the_steps_of_a_build_on_a_terminal(columns: int) -> None:
    coming = [expected("disk", 4), expected("qcow2"), expected("boot", 520)]
    with Terminal(columns) as shown:
        progress = Progress(shown.stream)
        with progress.expecting(coming, Durations()):
            progress.note("base", "from the cache")
            with progress.step("disk") as step:
                wait_for(drawn(step))
                step.detail = "made, 515 MiB, 302 MiB used"
            with progress.step("boot") as step:
                step.started -= 192.5
                step.detail = "check 7 of 24: outside/20-clients-of-a-network-with-a-long-name.py"
                wait_for(drawn(step))
                progress.line("a line " * 30)
                step.detail = (
                    "24 of 24 checks passed (tcg, bios); started again after: nothing was heard"
                )
    first, *others = shown.screen.text.splitlines()
    assert first == "  base               from the cache"
    assert all(len(line) < columns for line in others)
    assert [line.split()[0] for line in others if line[2] != " "][:2] == ["disk", "a"]
    assert others[0].endswith(" s") and "3 min 1" in shown.screen.text
    seen = states(shown.raw, columns)
    disk = next(
        state for state in seen if "  qcow2              to come" in state and "disk" in state
    )
    assert re.search(r"^[-/|\\] disk {15}0:0[0-9] of about 0:04$", disk, re.MULTILINE)
    assert re.search(r"^  boot {15}to come, about 8:40$", disk, re.MULTILINE)
    boot = next(state for state in seen if "3:12 of about 8:40" in state)
    row = next(line for line in boot.splitlines() if "3:12" in line)
    whole = "3:12 of about 8:40, check 7 of 24: outside/20-clients-of-a-network-with-a-long-name.py"
    text = row[21:]
    assert (
        text == whole
        if columns >= 120
        else whole.startswith(text.removesuffix("…")) and text.endswith("…")
    )
    assert "?25l" not in shown.raw, "the cursor is hidden"


@pytest.mark.parametrize("columns", WIDTHS)
def test_a_transfer_has_a_bar_its_rate_and_what_is_left(columns: int) -> None:
    with Terminal(columns) as shown, Progress(shown.stream).step("fetch") as step:
        step.transferred(0, 120 << 20)
        step._looked = (time.monotonic() - 10, 0)
        step.transferred(30 << 20, 120 << 20)
        time.sleep(0.6)
        step.detail = "120.0 MiB"
    row = next(
        line for state in states(shown.raw, columns) for line in state.splitlines() if "#" in line
    )
    bar = {60: "#.....", 80: "##........"}.get(columns, "#######.......................")
    text = rf"[-/|\\] fetch {{14}}{re.escape(bar)} 30\.0 of 120\.0 MiB, \d\.\d MiB/s.*"
    assert re.fullmatch(text, row), row
    assert columns < 80 or re.search(r" 0:[23]\d left$", row)
    assert shown.screen.text.startswith("  fetch              120.0 MiB")


def test_a_step_that_takes_longer_than_usual_says_so() -> None:
    step = Step("boot", usual_s=10)
    step.started -= 75
    assert step.row(time.monotonic()).text == "1:15, usually 0:10"
    assert [clock(each) for each in (7.9, 760, 3723)] == ["0:07", "12:40", "1:02:03"]


def test_after_ctrl_c_nothing_is_left_but_what_was_interrupted() -> None:
    with Terminal() as shown:
        progress = Progress(shown.stream)
        with (
            pytest.raises(KeyboardInterrupt),
            progress.expecting([expected("boot")], Durations()),
            progress.step("disk") as step,
        ):
            wait_for(drawn(step))
            raise KeyboardInterrupt
        progress.line("interrupted")
    assert re.fullmatch(r"  disk +interrupted +\d\.\d s\ninterrupted", shown.screen.text)
    assert drawing() == []


def test_steps_side_by_side_share_the_screen() -> None:
    with Terminal() as shown:
        progress = Progress(shown.stream)
        with progress.step("qcow2") as one, progress.step("raw") as other:
            wait_for(drawn(one))
            one.detail = other.detail = "made"
    assert [line.split()[:2] for line in shown.screen.text.splitlines()] == [
        ["raw", "made"],
        ["qcow2", "made"],
    ]
    both = next(state for state in states(shown.raw, 80) if "raw" in state and "qcow2" in state)
    assert [line[2:].split()[0] for line in both.splitlines()] == ["qcow2", "raw"]


def test_more_steps_than_lines_do_not_scroll() -> None:
    with Terminal(lines=6) as shown:
        progress = Progress(shown.stream)
        with (
            progress.expecting([expected(f"step-{number}") for number in range(20)], Durations()),
            progress.step("step-0") as step,
        ):
            wait_for(drawn(step))
    assert max(len(state.splitlines()) for state in states(shown.raw, 80)) <= 6
    assert len(shown.screen.text.splitlines()) == 1


def test_nobodys_text_moves_the_cursor_or_is_markup() -> None:
    with Terminal() as shown:
        progress = Progress(shown.stream)
        with progress.step("check \x9b2J[red]") as step:
            step.detail = "\x1b[2Jgone\r\n\u202e[bold]x[/bold] :smile:"
            wait_for(drawn(step))
            progress.line("\x1b]0;owned\x07[blink]")
    text = "\n".join(states(shown.raw, 80))
    assert "[red]" in text and r"\x1b[2Jgone\r\n\u202e[bold]x[/bold] :smile:" in text
    assert "\\x1b]0;owned\\x07[blink]" in shown.screen.text


def test_standard_output_on_the_same_terminal_comes_between(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    coming = [expected(f"step-{number}") for number in range(5)]
    with Terminal() as shown:
        progress = Progress(shown.stream)
        with progress.expecting(coming, Durations()), progress.step("boot") as step:
            wait_for(drawn(step))
            print("a result", file=Output(shown.stream), flush=True)
            with aside():
                print("inside", file=Output(shown.stream), flush=True)
                shown.stream.write("password: ")
                shown.stream.flush()
                time.sleep(0.4)  # longer than it takes to draw once more
                shown.stream.write("\n")
            wait_for(drawn(step))
    lines = shown.screen.text.splitlines()
    assert lines[:3] == ["a result", "inside", "password:"]
    assert lines[3].split()[0] == "boot" and len(lines) == 4


@pytest.mark.parametrize("name", ["dumb", "unknown", ""])
def test_a_terminal_that_writes_nothing_over_gets_plain_lines(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("TERM", name)
    with Terminal() as shown, Progress(shown.stream).step("disk") as step:
        step.detail = "made"
    assert "\x1b" not in shown.raw and shown.screen.text.split()[:2] == ["disk", "made"]


def test_without_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    with Terminal() as shown, Progress(shown.stream).step("fetch") as step:
        step.transferred(1, 2)
        step.measure = lambda: 1
        time.sleep(0.4)
    colours = {
        word for words in re.findall(r"\x1b\[([0-9;]*)m", shown.raw) for word in words.split(";")
    }
    assert colours <= {"", "0", "1", "2"}, "a colour"
    assert "#" in shown.raw


def test_a_pipe_gets_plain_lines_and_is_told_how_long_a_step_takes() -> None:
    stream = io.StringIO()
    progress = Progress(stream)
    with progress.expecting([expected("disk", 4), expected("boot", 520)], Durations()):
        with progress.step("disk") as step:
            step.detail = "made"
        with progress.step("boot") as step:
            step.detail = "x " * 60
    first, second, third = stream.getvalue().splitlines()
    assert re.fullmatch(r"  disk {15}made +\d\.\d s", first)
    assert second == "  boot               begins; it usually takes 8 min 40 s here"
    assert third.startswith("  boot               x x x x") and third.count("x") == 60


def test_what_a_step_took_is_kept_unless_it_failed_or_made_nothing(tmp_path: Path) -> None:
    kept = Durations(tmp_path / "durations.json")
    progress = Progress(io.StringIO())
    with progress.expecting([expected(name) for name in ("disk", "base", "boot")], kept):
        with progress.step("disk"):
            pass
        with progress.step("base") as step:
            step.detail = "from the cache"
        with pytest.raises(OSError), progress.step("boot"):
            raise OSError
        with progress.step("other"):
            pass
    with progress.step("boot"):
        pass
    assert kept.usual_s("web/disk") == 0
    assert {kept.usual_s(f"web/{name}") for name in ("base", "boot", "other")} == {None}


def test_quiet_is_quiet_and_verbose_says_more() -> None:
    for quiet, verbose, count in ((True, True, 0), (False, False, 2), (False, True, 3)):
        stream = io.StringIO()
        progress = Progress(stream, quiet=quiet, verbose=verbose)
        with progress.group("web"), progress.step("disk") as step:
            step.tell("guest/10-a.sh: passed, 1.0 s")
        assert len(stream.getvalue().splitlines()) == count


def test_a_workflow_folds_what_belongs_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    stream = io.StringIO()
    progress = Progress(stream)
    with pytest.raises(OSError), progress.group("web\n::add-mask::x %0A"):
        progress.line("::add-mask::y")
        raise OSError
    assert stream.getvalue().splitlines() == [
        r"::group::web\n::add-mask::x %250A",
        r"\::add-mask::y",
        "::endgroup::",
    ]


def test_rich_is_not_imported_where_nothing_is_drawn() -> None:
    """Its import takes a tenth of a second; `list` and pipes need none of it."""
    script = """
import io, sys
from slipway.terminal.progress import Progress
with Progress(io.StringIO()).step("a"):
    pass
print("rich" in sys.modules)
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3] / "src")}
    argv = [sys.executable, "-c", script]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_durations_for_people() -> None:
    assert [seconds(each) for each in (0.04, 59.9, 60, 572)] == [
        "0.0 s",
        "59.9 s",
        "1 min 00 s",
        "9 min 32 s",
    ]


def test_the_rate_of_a_transfer_counts_what_this_run_has_moved() -> None:
    step = Step("fetch")
    step.transferred(60 << 20, 120 << 20)
    assert step._begun is not None
    step._begun = (step._begun[0] - 10, step._begun[1])
    step.transferred(120 << 20, 120 << 20)
    assert step.transfer == "120.0 MiB, 6.0 MiB/s"
    there = Step("fetch")
    there.transferred(5, 5)
    assert there.transfer == "5 B"


def test_a_download_of_another_program_is_counted_in_its_folder(tmp_path: Path) -> None:
    step = Step("fetch")
    step.watch(tmp_path, 100)
    (tmp_path / "a").write_bytes(b"x" * 40)
    assert step.row(time.monotonic()).part == 0.4
    (tmp_path / "a").unlink()  # it has its place now
    assert step.row(time.monotonic()).part == 0.4
    tmp_path.rmdir()
    assert step.row(time.monotonic()).text == "40 of 100 B"


@pytest.mark.parametrize("columns", WIDTHS)
def test_a_long_note_is_broken_beside_its_label(columns: int) -> None:
    text = (
        "10.0.13, from a tree of its own: there is no KVM, and this host's 7.2.22 is older than 9"
    )
    with Terminal(columns) as shown:
        Progress(shown.stream).note("qemu", text)
    first, *rest = shown.screen.text.splitlines()
    assert first.startswith("  qemu               10.0.13, from")
    assert all(line.startswith(" " * 21) and len(line) < columns for line in rest)
    assert " ".join(line[21:] for line in (first, *rest)) == text
    assert bool(rest) == (columns < 110)
