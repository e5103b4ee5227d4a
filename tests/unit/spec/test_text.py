"""What YAML's notations become: an int or a bool only where its text is the one way to write it."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.spec.text import read_document


def read(tmp_path: Path, text: str) -> object:
    file = tmp_path / "x.yaml"
    file.write_text(f"key: {text}\n")
    document = read_document(file)
    assert document.errors == []
    value = document.data["key"]
    return type(value), value


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("7", 7), ("-7", -7), ("10", 10), ("true", True), ("false", False)],
)
def test_plain_numbers_and_booleans_are_what_they_look_like(
    tmp_path: Path, text: str, value: object
) -> None:
    assert read(tmp_path, text) == (type(value), value)


NUMBERS = (
    "0644",
    "007",
    "0x10",
    "0b1",
    "1_000",
    "+5",
    "-0",
    "12:30",
    "1.0",
    "24.10",
    ".5",
    ".inf",
    "1" * 19,
    "2026-01-01",
)
WORDS = ("yes", "no", "on", "Off", "True", "FALSE")


@pytest.mark.parametrize("text", NUMBERS + WORDS)
def test_what_yaml_reads_as_something_else_is_no_number_that_a_model_takes(
    tmp_path: Path, text: str
) -> None:
    assert read(tmp_path, text) == (float, 0.0)


@pytest.mark.parametrize("text", ['"0644"', "'yes'", "0644a", "1.2.3", "yess"])
def test_text_is_text(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text) == (str, text.strip("\"'"))
