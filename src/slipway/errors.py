"""Foreseeable failures, as exceptions with a place and a hint.

Every foreseeable failure is a :class:`UserError`; each subclass is one documented exit code. Any
other exception is a bug: it shows a traceback and exits with 1.
"""

from __future__ import annotations

import difflib
import os
import re
import shlex
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

__all__ = [
    "BuildError",
    "Declined",
    "HostError",
    "SpecError",
    "SpecErrors",
    "StoreError",
    "UsageError",
    "UserError",
    "VerificationError",
    "Where",
    "as_called",
    "choose",
    "redacted",
    "suggestion",
]


#: User information of a URI (RFC 3986, 3.2.1), as far as it is secret.
_PASSWORD: Final = re.compile(r"(?<=://)[^\s/@'\"]*@")


def redacted(text: str) -> str:
    """Return a text without the names and passwords in its URIs."""
    return _PASSWORD.sub("***@", text)


#: The variable with the name that ``run`` was called by.
CALLED: Final = "SLIPWAY_RUN"
#: How texts name the program: as in a checkout.
_PROGRAM: Final = re.compile(r"(?<![\w./-])(?:invoke|\./run)(?= (?:--|[a-zA-Z]))")


def as_called(text: str) -> str:
    """Return a text with its commands as the user can type them.

    The program is called like the checkout's ``run``, or ``slipway`` if that is installed.
    """
    name = "slipway" if Path(sys.argv[0]).name == "slipway" else os.environ.get(CALLED)
    return _PROGRAM.sub(lambda _: shlex.quote(name), text) if name else text


@dataclass(frozen=True, slots=True, order=True)
class Where:
    """A place in a text file; lines and columns count from 1, 0 means "the file as a whole"."""

    path: Path
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        if not self.line:
            return str(self.path)
        return (
            f"{self.path}:{self.line}:{self.column}" if self.column else f"{self.path}:{self.line}"
        )


class UserError(Exception):
    """A failure with a remedy in the user's hands.

    Args:
        message: One sentence, lower case, no full stop.
        where: The place in the user's own file, if there is one.
        hint: The next step, as an instruction or a question.
    """

    exit_code: ClassVar[int] = 2

    def __init__(
        self, message: str, *, where: Where | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = redacted(message)
        self.where = where
        self.hint = redacted(hint) if hint else hint

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        hint = f"\n  hint: {as_called(self.hint)}" if self.hint else ""
        return f"{place}error: {self.message}{hint}"


class UsageError(UserError):
    """The command was called wrongly (exit code 2)."""

    exit_code = 2


class Declined(UserError):
    """A person said no to a question, or ended it with Ctrl-C or Ctrl-D (exit code 130)."""

    exit_code = 130

    def __init__(self) -> None:
        super().__init__("nothing was changed")

    def __str__(self) -> str:
        return self.message


class SpecError(UserError):
    """An error in a spec, or in a file of it (exit code 3)."""

    exit_code = 3


class SpecErrors(SpecError):
    """All errors of one or more specs, sorted by place and reported at once (exit code 3)."""

    def __init__(self, errors: Iterable[SpecError]) -> None:
        def place(error: SpecError) -> tuple[str, int, int, str]:
            where = error.where
            return (
                (str(where.path), where.line, where.column, error.message)
                if where
                else ("", 0, 0, error.message)
            )

        self.errors = tuple(sorted(errors, key=place))
        super().__init__(f"{len(self.errors)} errors")

    def __str__(self) -> str:
        return "\n".join(str(error) for error in self.errors)


class HostError(UserError):
    """This host lacks something needed by the command (exit code 4)."""

    exit_code = 4


class BuildError(UserError):
    """A build or a check failed (exit code 5)."""

    exit_code = 5


class StoreError(UserError):
    """The store refused, or someone else was first (exit code 6)."""

    exit_code = 6


class VerificationError(UserError):
    """The bytes read differ from the published ones (exit code 7)."""

    exit_code = 7


def suggestion(word: str, known: Iterable[str], shown: str = "{}") -> str | None:
    """Return a hint with the known word nearest to ``word``, or None if none is near.

    Args:
        shown: The hint's way to write a word, which takes the place of ``{}``.
    """
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f'did you mean "{shown.format(near[0])}"?' if near else None


def choose(word: str, known: Iterable[str]) -> str:
    """Return a hint with the known word nearest to ``word``, or all known ones if none is near."""
    listed = list(known)
    return suggestion(word, listed) or (
        f"choose from: {', '.join(listed)}" if listed else "none is defined"
    )
