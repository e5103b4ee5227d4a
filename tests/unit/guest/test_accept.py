"""The program by which first-boot scripts refuse a value before they make anything."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PROGRAM = ROOT / "templates/guest/files/usr/lib/slipway/accept"


def accept(value: str, *words: str) -> tuple[int, str]:
    command = [sys.executable, "-I", str(PROGRAM), "user", *words]
    ended = subprocess.run(
        command, env={"PARAM_USER": value}, capture_output=True, text=True, timeout=60, check=False
    )
    return ended.returncode, ended.stderr


@pytest.mark.parametrize("value", ["a", "a-b", "a" * 64])
def test_a_value_of_the_pattern_is_accepted(value: str) -> None:
    assert accept(value, "[a-z-]{1,64}", "a name") == (0, "")


@pytest.mark.parametrize("value", ["", "A", "a$(id)", "a b", "a" * 65, "grün"])
def test_a_value_of_which_only_the_beginning_fits_is_refused_by_its_parameters_name(
    value: str,
) -> None:
    assert accept(value, "[a-z-]{1,64}", "a name") == (1, "user must be a name\n")


def test_length_is_counted_in_bytes() -> None:
    assert accept("ü" * 36, ".+", "a password", "72") == (0, "")
    assert accept("ü" * 37, ".+", "a password", "72") == (
        1,
        "user must have at most 72 bytes as UTF-8\n",
    )


def test_no_script_of_an_appliance_sources_or_evaluates_a_file() -> None:
    """What is read by a shell as its own words may have come from a parameter."""
    scripts = [
        path
        for path in (ROOT / "appliances").rglob("*")
        if path.is_file() and path.read_bytes().startswith(b"#!/bin/sh")
    ]
    assert scripts
    words = (". /", "source ", "eval ")
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in scripts
        for line in path.read_text().splitlines()
        if line.strip().startswith(words)
    ]
    assert found == []
