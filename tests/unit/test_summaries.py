"""The end of a build and of a publication: sizes, times, the next command; the job's summary."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

import pytest

from example_release import write_release_folder
from screen import Terminal
from slipway.channels.moves import Moved
from slipway.channels.publish import Published
from slipway.commands.options import Working
from slipway.commands.output import show
from slipway.commands.summaries import BuildSummary, publication_table
from slipway.errors import BuildError, StoreError, UsageError
from slipway.records.reference import ReleaseRef
from slipway.terminal.progress import Progress


@pytest.fixture
def summary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary"))
    monkeypatch.delenv("SLIPWAY_RUN", raising=False)
    return tmp_path / "summary"


def test_a_builds_last_lines(tmp_path: Path, summary: Path) -> None:
    release = write_release_folder(tmp_path / "web", {"qcow2": b"x" * 2048}, appliance="web")
    progress, told = Progress(io.StringIO()), BuildSummary()
    with progress.group("web"), told.row("web"), progress.step("boot"):
        pass
    progress.took = {"boot": 572.0, "disk": 3.9, "raw": 6.2, "qcow2": 6.3, "base": 0.4}
    told.add(release)
    *_, times, following = told.lines(progress, release, last=True)
    assert re.fullmatch(r" {7,8}0\.\d s  in all: boot 9 min 32 s, qcow2 6\.3 s, raw 6\.2 s", times)
    assert following == "next: invoke publish web, or: invoke start web"
    assert told.lines(progress, release, last=False) == [times]
    progress.took = {"base": 0.4}
    assert told.lines(progress, release, last=False)[0].endswith("in all")


def test_a_jobs_summary_has_every_build_also_the_one_that_failed(
    tmp_path: Path, summary: Path
) -> None:
    release = write_release_folder(tmp_path / "web", {"qcow2": b"x" * 2048}, appliance="web")
    told = BuildSummary()
    with pytest.raises(BuildError), told.written():
        with told.row("web"):
            pass
        told.add(release)
        with told.row("other"):
            raise BuildError("a |check| of `other`\n  failed")
    rows = summary.read_text().splitlines()
    assert rows[:4] == ["", "### Builds", "", "| appliance | release | checks | images | time |"]
    assert re.fullmatch(
        r"\| `web` \| `1\.0\.0-b1` \| `\d+ passed` \| `qcow2 2\.0 KiB` \| `0\.\d s` \|", rows[5]
    )
    assert rows[6] == r"| `other` | `failed: a \x7ccheck\x7c of \x60other\x60` |  |  |  |"


def test_a_summary_that_cannot_be_written_hides_nothing(
    summary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary.mkdir()
    told = BuildSummary()
    with pytest.raises(BuildError, match="a check failed"), told.written(), told.row("web"):
        raise BuildError("a check failed")
    publication_table([], "nightly", {"bad": StoreError("no")})
    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) == 2
    assert all("the job's summary has no table of this: " in each for each in warnings)


def test_a_jobs_summary_has_what_was_published_and_what_was_not(summary: Path) -> None:
    blobs = Published(
        ref=ReleaseRef("web", "1.0.0-b1"),
        created=(),
        existing=(),
        store="x",
        files={"a": (1024, "0")},
    )
    moved = Moved(
        appliance="web",
        channel="nightly",
        release="1.0.0-b1",
        before=None,
        written=True,
        blobs=(blobs,),
    )
    publication_table([moved], "nightly", {"bad": StoreError("no <b>")})
    assert summary.read_text().splitlines()[5:7] == [
        "| `web` | `1.0.0-b1` | `nightly` | `published` | `1.0 KiB` |",
        "| `bad` |  | `nightly` | `refused: no <b>` |  |",
    ]


def test_quiet_and_verbose_are_one_or_the_other() -> None:
    assert Working(quiet=True).workshop().progress.quiet
    assert Working(verbose=True).workshop().progress.verbose
    assert Working(verbose=True).words() == ["--verbose"] and Working().words() == []
    with pytest.raises(UsageError) as caught:
        Working(quiet=True, verbose=True).workshop()
    assert (
        str(caught.value)
        == "error: --quiet and --verbose exclude one another\n  hint: give one of them"
    )


def test_a_listing_has_headings_and_no_empty_column(capsys: pytest.CaptureFixture[str]) -> None:
    show(
        [
            {"name": "web", "state": "", "why": None, "summary": "A web\x1b server"},
            {"name": "db", "state": "", "why": "", "summary": ""},
        ]
    )
    assert capsys.readouterr().out == "NAME  SUMMARY\nweb   A web\\x1b server\ndb\n"
    show([])
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("columns", [60, 80, 120, 200])
def test_a_listing_fits_a_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        "A server that does one thing after another for whoever asks it in words of a few letters"
    )
    with Terminal(columns) as shown:
        monkeypatch.setattr(sys, "stdout", shown.stream)
        show([{"name": "web", "base": "debian-13", "summary": text}])
        monkeypatch.undo()
    first, *rows = shown.screen.text.splitlines()
    assert first == "NAME  BASE       SUMMARY"
    assert all(len(row) < columns for row in rows)
    assert rows[0].startswith("web   debian-13  A server") and all(
        row.startswith(" " * 17) for row in rows[1:]
    )
    assert " ".join(row[17:] for row in rows) == text


def test_a_column_without_room_stands_below_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "A server that does one thing after another for whoever asks it in words of letters"
    with Terminal(60) as shown:
        monkeypatch.setattr(sys, "stdout", shown.stream)
        show([{"name": "n" * 45, "summary": text}, {"name": "web", "summary": "short"}])
        monkeypatch.undo()
    heading, row, *below, last = shown.screen.text.splitlines()
    assert heading.split() == ["NAME", "SUMMARY"]
    assert row == "n" * 45
    assert all(line.startswith("    ") and len(line) < 60 for line in below)
    assert " ".join(line.strip() for line in below) == text
    assert last == f"web{' ' * 44}short"
