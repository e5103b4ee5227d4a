"""The result of a task, as one JSON document on standard output (``--json``).

What goes in: a dataclass for each task (:mod:`slipway.commands.shapes`), and the task's end. What
comes out: a document with a line feed at its end. It has ``format``, ``exit_code``, ``errors`` and
the fields of the dataclass. Invariants: with ``--json`` nothing else is written to standard output;
a failed task prints a document, too.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Final, Protocol, TextIO

from invoke.exceptions import Exit

from slipway.errors import SpecErrors, UserError, as_called

__all__ = [
    "ERROR_FORMAT",
    "Answer",
    "Problem",
    "Shape",
    "document",
    "ended_by",
    "failure",
    "problems_of",
    "read_document",
    "stamp",
]

#: The format of the document of a task that failed without a result.
ERROR_FORMAT: Final = "slipway/error/1"


class Shape(Protocol):
    """A frozen dataclass with the fields of a document."""

    FORMAT: ClassVar[str]
    __dataclass_fields__: ClassVar[dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One problem."""

    message: Annotated[str, "what is wrong, one sentence"]
    hint: Annotated[str | None, "the next step"] = None
    file: Annotated[str | None, "the file that has to be changed"] = None
    line: Annotated[int | None, "its line, from 1"] = None
    column: Annotated[int | None, "its column, from 1"] = None


@dataclass(slots=True)
class Answer:
    """The option ``--json`` of a task, and the task's result."""

    json: bool = field(
        default=False,
        metadata={
            "help": (
                "print one JSON document (docs/reference/json.md), and everything else "
                "on standard error"
            )
        },
    )
    _told: Shape | None = field(default=None, init=False)
    _line: str = field(default="", init=False)
    _out: TextIO | None = field(default=None, init=False)

    def tell_now(self, shape: Shape) -> None:
        """Print a document at once, for a task that goes on.

        Its exit code alone then tells its end.
        """
        if self._out is not None:
            self._out.write(
                document({"format": shape.FORMAT, **asdict(shape), "exit_code": 0, "errors": []})
            )
            self._out.flush()
            self._out = None

    def tell(self, shape: Shape) -> None:
        """Take the result to print when the task ends; lists in it may still grow."""
        self._told = shape

    def tell_line(self, data: list[str]) -> None:
        """Take an array to print on one line, instead of a document, if the task succeeds."""
        self._line = json.dumps(data) + "\n"

    @contextmanager
    def printed(self, task: str) -> Iterator[None]:
        """Print the document when the block ends in any way; without ``--json``, do nothing."""
        if not self.json:
            yield
            return
        before, sys.stdout = sys.stdout, sys.stderr
        self._out = before
        code, problems = 0, list[Problem]()
        try:
            yield
        except Exit as ended:
            code, problems = ended.code, problems_of(ended)
            raise
        except Exception as bug:
            code, problems = 1, [Problem(message=f"a bug: {type(bug).__name__}: {bug}")]
            raise
        finally:
            sys.stdout = before
            told, self._out = self._out is None, None
            # What ended the task is told by its exit code, also where nobody reads standard output
            # any more.
            with suppress(*([OSError] if code else [])):
                if not told:
                    before.write(self._document(task, code, problems))
                before.flush()

    def _document(self, task: str, code: int, problems: list[Problem]) -> str:
        if self._line and not code:
            return self._line
        if self._told is None and code:
            return failure(task, code, problems)
        told = {} if self._told is None else {"format": self._told.FORMAT, **asdict(self._told)}
        return document({**told, "exit_code": code, "errors": [asdict(each) for each in problems]})


def document(data: dict[str, Any]) -> str:
    """Return the text of a document: ASCII, so that no terminal obeys its content."""
    return json.dumps(data, indent=2, sort_keys=True) + "\n"


def failure(task: str, code: int, problems: list[Problem]) -> str:
    """Return the document of a task without a result."""
    return document(
        {
            "format": ERROR_FORMAT,
            "task": task,
            "exit_code": code,
            "errors": [asdict(each) for each in problems],
        }
    )


def problems_of(ended: BaseException) -> list[Problem]:
    """Return the problems behind the end of a task.

    The exception is Invoke's, from :func:`slipway.commandline.invocation.outcome`, or the original.
    """
    if isinstance(ended, Ended) and ended.problems:
        return ended.problems
    cause = ended.__cause__ if isinstance(ended, Exit) else ended
    if isinstance(cause, SpecErrors):
        return [problem for error in cause.errors for problem in problems_of(error)]
    if not isinstance(cause, UserError):
        message = ended.message if isinstance(ended, Exit) else str(ended)
        message, _, hint = (
            message or "a process that this one started has failed; standard error says why"
        ).partition("\n  hint: ")
        return [Problem(message=message.removeprefix("error: "), hint=hint or None)]
    where = cause.where
    return [
        Problem(
            message=cause.message,
            hint=as_called(cause.hint) if cause.hint else None,
            file=str(where.path) if where else None,
            line=where.line or None if where else None,
            column=where.column or None if where else None,
        )
    ]


class Ended(Exit):
    """The failure of a process started by this one; it has explained itself on standard error."""

    def __init__(self, code: int, problems: list[Problem]) -> None:
        super().__init__(code=code)
        self.problems = problems


def read_document(text: bytes) -> dict[str, Any]:
    """Return the document of a process of our own; an empty one if it printed none."""
    with suppress(ValueError):
        found = json.loads(text)
        return found if isinstance(found, dict) else {}
    return {}


def ended_by(code: int, told: Mapping[str, Any]) -> Ended:
    """Return the exception to end a task with, after a process has failed.

    Args:
        told: The process's document, or nothing.
    """
    return Ended(code, [Problem(**each) for each in told.get("errors", ())])


def stamp(seconds: float) -> str:
    """Return a time, in seconds since 1970, as documents write it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
