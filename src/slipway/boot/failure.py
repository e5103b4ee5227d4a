"""A trial that failed -> an error for its author, and for a public log.

What goes in: the checks that ran, their logs and the console. What comes out: a
:class:`~slipway.errors.BuildError` with the output of each failed check and the path of its log.

Invariants: the console's last lines are shown only where the machine did not come through its
checks. Its control sequences are gone, and no secret that the machine made for itself is shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from slipway.boot.report import CheckResult
from slipway.boot.trial import Trial
from slipway.errors import BuildError

__all__ = ["failure", "masked", "readable", "secrets_shown"]

#: How much of a console is read for its last lines, in bytes, and how many lines are shown.
_CONSOLE_BYTES: Final = 16384
_CONSOLE_LINES: Final = 25
#: How many lines of a check's output are shown.
_OUTPUT_LINES: Final = 15
#: Control sequences, ECMA-48: strings (OSC, DCS, SOS, PM, APC) up to their end, CSI, and short
#: ones.
_SEQUENCE: Final = re.compile(
    r"(?:\x1b[]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"
    r"|\x1b[ -/]*[0-~]?"
)
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
#: How a console's prompt shows a new secret: templates/guest/files/usr/lib/slipway/firstboot.py,
#: banner.
_SECRET: Final = re.compile(r"^\s*[a-z][a-z0-9_]*: (\S.*?) \(made now and shown", re.MULTILINE)


def readable(text: str) -> str:
    """Return what a terminal would show of a console: no control sequences, no lines written
    over.
    """
    lines = _SEQUENCE.sub("", text).replace("\r\n", "\n").split("\n")
    return "\n".join(_CONTROL.sub("", line.rstrip("\r").rpartition("\r")[2]) for line in lines)


def secrets_shown(console: str) -> frozenset[str]:
    """Return the secrets that a machine made for itself, from what its console's prompt showed."""
    return frozenset(_SECRET.findall(readable(console)))


def masked(text: str, secrets: Iterable[str]) -> str:
    """Return a text with secrets replaced by ``***``, longer ones first."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def failure(trial: Trial, message: str, *, console: bool = False) -> BuildError:
    """Return the error for a trial that failed.

    Args:
        message: What failed, in one sentence.
        console: Show the console's last lines: the machine did not come through its checks.
    """
    whole = _read(trial.console)
    parts = [
        message,
        *(_section(check, trial.log(check.place, check.name)) for check in trial.failed),
    ]
    passed = ", ".join(f"{check.place}/{check.name}" for check in trial.results if check.passed)
    parts.append(f"  passed: {passed or 'none'}")
    if console:
        last = readable(whole[-_CONSOLE_BYTES:]).rstrip().splitlines()[-_CONSOLE_LINES:]
        parts.append("\n".join(["  the console's last lines:", *_indented(last or ["(none)"])]))
    text = masked("\n".join(parts), secrets_shown(whole))
    journal = f", its journal {trial.journal}" if trial.journal.exists() else ""
    return BuildError(text, hint=f"the whole console is {trial.console}{journal}")


def _section(check: CheckResult, log: Path) -> str:
    """Return the end of a check's output, and where the rest is."""
    title = f"  {check.place}/{check.name} {check.outcome}:"
    where = [f"    log: {log}"] if log.exists() else []
    first = _last_lines(check.first)
    if first and first != _last_lines(check.output):
        first = [f"    the first of {check.attempts} tries:", *_indented(first)]
    else:
        first = []
    return "\n".join(
        [title, *_indented(_last_lines(check.output) or ["(no output)"]), *first, *where]
    )


def _last_lines(output: str) -> list[str]:
    return readable(output).splitlines()[-_OUTPUT_LINES:]


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"    {line}" for line in lines]


def _read(console: Path) -> str:
    """Return a console's text; the reader of results refuses one that has no end."""
    try:
        return console.read_bytes().decode(errors="replace")
    except OSError:
        return ""
