"""The document of `--json`: one, whatever ends the task, and nothing else on standard output."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pytest
from invoke import Context
from invoke.exceptions import Exit

from slipway.commandline.answer import Answer, Problem, ended_by, read_document
from slipway.commandline.invocation import task
from slipway.errors import SpecError, SpecErrors, StoreError, Where


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    FORMAT: ClassVar[str] = "slipway/count/1"
    found: list[str] = field(default_factory=list)


def ended(
    body: Callable[..., None], capsys: pytest.CaptureFixture[str], **values: object
) -> tuple[int, str, str]:
    """Run a task; return its exit code and what it wrote."""
    code = 0
    try:
        task()(body).body(Context(), json=True, **values)
    except Exit as error:
        code = error.code
    except ValueError:
        code = 1
    out, err = capsys.readouterr()
    return code, out, err


def problem(message: str, **more: object) -> dict[str, object]:
    return {"message": message, "hint": None, "file": None, "line": None, "column": None, **more}


def test_what_a_task_prints_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    def count(*, answer: Answer) -> None:
        print("for people")
        answer.tell(Counted(found=["\x1b[2Ja"]))

    code, out, err = ended(count, capsys)
    assert (code, err) == (0, "for people\n")
    assert "\x1b" not in out
    assert json.loads(out) == {
        "format": "slipway/count/1",
        "found": ["\x1b[2Ja"],
        "exit_code": 0,
        "errors": [],
    }


def test_what_was_found_until_an_error_is_there_with_the_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def count(*, answer: Answer) -> None:
        found: list[str] = []
        answer.tell(Counted(found=found))
        found.append("one")
        raise StoreError("no", hint="run: invoke list")

    code, out, _err = ended(count, capsys)
    assert code == 6
    assert json.loads(out) == {
        "format": "slipway/count/1",
        "found": ["one"],
        "exit_code": 6,
        "errors": [problem("no", hint="run: invoke list")],
    }


@pytest.mark.parametrize(
    ("error", "code", "problems"),
    [
        (
            SpecErrors(
                [
                    SpecError("a", where=Where(Path("x.yaml"), 3, 4)),
                    SpecError("b", where=Where(Path("y.yaml"))),
                ]
            ),
            3,
            [problem("a", file="x.yaml", line=3, column=4), problem("b", file="y.yaml")],
        ),
        (KeyboardInterrupt(), 130, [problem("interrupted")]),
        (
            PermissionError(13, "Permission denied", "/x"),
            4,
            [
                problem(
                    "/x: permission denied",
                    hint="look at its owner and mode, and at those of the folders above it",
                )
            ],
        ),
        (ValueError("oops"), 1, [problem("a bug: ValueError: oops")]),
        (
            Exit(code=5),
            5,
            [problem("a process that this one started has failed; standard error says why")],
        ),
        (ended_by(5, {"errors": [problem("inner", line=2)]}), 5, [problem("inner", line=2)]),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_a_task_that_fails_at_once_is_a_document_of_errors(
    error: BaseException,
    code: int,
    problems: list[dict[str, object]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    def count(*, answer: Answer) -> None:
        raise error

    done, out, _err = ended(count, capsys)
    assert done == code
    assert json.loads(out) == {
        "format": "slipway/error/1",
        "task": "count",
        "exit_code": code,
        "errors": problems,
    }


def test_what_a_killed_process_left_is_no_document() -> None:
    assert read_document(b"") == read_document(b'{"errors": [') == read_document(b"[]") == {}
    assert ended_by(137, {}).problems == list[Problem]()


def test_a_task_that_goes_on_tells_at_once_and_its_exit_code_the_rest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    said: list[str] = []

    def run(*, answer: Answer) -> None:
        answer.tell_now(Counted(found=["a"]))
        said.append(capsys.readouterr().out)
        answer.tell_now(Counted(found=["b"]))
        print("for people")
        raise StoreError("gone")

    code, out, err = ended(run, capsys)
    assert json.loads(said[0]) == {
        "format": "slipway/count/1",
        "found": ["a"],
        "exit_code": 0,
        "errors": [],
    }
    assert (code, out, err) == (StoreError.exit_code, "", "for people\n")
    without = Answer()
    with without.printed("run"):
        without.tell_now(Counted(found=["a"]))
    assert capsys.readouterr().out == ""
