"""A job's summary: tables whose cells are nobody's Markdown."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.terminal.summary import add_table, cell


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("nginx 1.2", "`nginx 1.2`"),
        (7, "`7`"),
        ("", ""),
        ("  ", ""),
        ("a|b", r"`a\x7cb`"),
        (r"a\|b", r"`a\\x7cb`"),
        ("`x` ![y](http://evil.example)", r"`\x60x\x60 ![y](http://evil.example)`"),
        ("<script>&amp;", "`<script>&amp;`"),
        ("a\nb\r\x1b[2J\u2028", r"`a\nb\r\x1b[2J\u2028`"),
        ("ends with \\", "`ends with \\`"),
    ],
)
def test_a_cell_is_shown_as_it_is(value: object, shown: str) -> None:
    assert cell(value) == shown
    assert shown.count("`") in (0, 2) and "|" not in shown and "\n" not in shown


def test_a_table_goes_to_the_end_of_the_summary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = tmp_path / "summary"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    add_table("Built", ["appliance", "size"], [("web", "1 MiB"), ("x|`y", "")])
    add_table("Nothing", ["appliance"], [])
    assert summary.read_text() == (
        "before\n\n### Built\n\n| appliance | size |\n| - | - |\n| `web` | `1 MiB` |\n"
        "| `x\\x7c\\x60y` |  |\n\n"
    )


def test_without_a_summary_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    add_table("Built", ["appliance"], [("web",)])
    assert list(tmp_path.iterdir()) == []
