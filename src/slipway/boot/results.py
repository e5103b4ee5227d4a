"""Read the results of a guest's checks, as runner.sh reports them over a virtio-serial port.

What goes in: a running machine, the file behind the port, the console, and the names of the checks.
What comes out: a :class:`~slipway.boot.report.CheckResult` for each check as it ends.

Invariants: a report is refused unless it has every expected check exactly once. Nothing here waits
forever or reads without a limit, whatever a guest writes.

The protocol has one message a line (docs/adr/0014): ``running``, ``started``, ``memory KIB``,
``finished``, and ``check NAME OUTCOME ATTEMPTS HUNDREDTHS OUTPUT [FIRST]``, with outputs in base64.
"""

from __future__ import annotations

import base64
import re
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from slipway.boot.machine import Running
from slipway.boot.report import CheckResult
from slipway.host.namespace import available_memory_mib

__all__ = ["Died", "Misreported", "Reported", "ending", "follow", "require_short"]

_CRASH: Final = re.compile(rb"Kernel panic|Oops:|BUG: unable to handle|end Kernel|mas_empty_area")
_OUTCOMES: Final = {"passed": "passed", "failed": "failed", "timed-out": "timed out"}
_NUMBER: Final = re.compile(r"[0-9]{1,9}")
#: The limits of a guest's output: a check's line has at most 3 KiB, and a console a MiB or two.
_RESULT_BYTES: Final = 4 << 20
_CONSOLE_BYTES: Final = 64 << 20


class Died(Exception):
    """The guest never came to its checks, or was gone before they ended."""


class Misreported(Exception):
    """The guest's report cannot be true, so nothing in it counts."""


@dataclass(slots=True, kw_only=True)
class Reported:
    """The guest's report so far.

    ``memory_kib`` is its use of memory, in KiB; None until it is reported.
    """

    expected: Sequence[str]
    names: set[str] = field(default_factory=set)
    memory_kib: int | None = None
    finished: bool = False

    def read(self, line: str) -> CheckResult | None:
        """Take in a line; return the result in it, if any.

        Raises:
            Misreported: The line has no meaning, or contradicts an earlier one.
        """
        word, _, rest = line.partition(" ")
        if word == "check":
            return self._check(line, rest.split(" "))
        if line in ("running", "started"):
            return None
        if word == "memory" and _NUMBER.fullmatch(rest):
            self.memory_kib = int(rest)
            return None
        if line == "finished":
            self._finish()
            return None
        raise Misreported(f"it reported a line without a meaning: {_shown(line)}")

    def _finish(self) -> None:
        missing = [name for name in self.expected if name not in self.names]
        if missing:
            raise Misreported(f"it reported an end, and nothing of: {', '.join(missing)}")
        self.finished = True

    def _check(self, line: str, words: Sequence[str]) -> CheckResult:
        if len(words) not in (5, 6) or words[5:] == [""]:
            raise Misreported(f"it reported a line without a meaning: {_shown(line)}")
        name, outcome, attempts, hundredths, *outputs = words
        if name not in self.expected:
            raise Misreported(f"it reported a check that does not exist: {_shown(name)}")
        if name in self.names:
            raise Misreported(f"it reported {name} twice")
        numbers = _NUMBER.fullmatch(attempts) and _NUMBER.fullmatch(hundredths)
        if outcome not in _OUTCOMES or not numbers or not int(attempts):
            raise Misreported(f"it reported no outcome of {name}: {_shown(line)}")
        said, *first = [_decoded(name, output) for output in outputs]
        self.names.add(name)
        return CheckResult(
            name=name,
            place="guest",
            outcome=_OUTCOMES[outcome],
            duration_s=int(hundredths) / 100,
            attempts=int(attempts),
            output=said,
            first="".join(first),
        )


def _decoded(name: str, output: str) -> str:
    try:
        return base64.b64decode(output, validate=True).decode(errors="replace")
    except ValueError:
        raise Misreported(f"the output of {name} is not base64: {_shown(output)}") from None


def _shown(text: str) -> str:
    """Return a piece of a guest's text, safe for a terminal."""
    return ascii(text[:80])


def follow(
    guest: Running,
    results: Path,
    console: Path,
    reported: Reported,
    *,
    start_s: float,
    check_s: float,
) -> Iterator[CheckResult]:
    """Yield the results of the guest's checks as they are reported, until all are in.

    Args:
        results: The file behind the guest's virtio-serial port.
        console: The guest's console, searched for a crashed kernel.
        reported: Filled with the report.
        start_s: Limit for the first word, in seconds on an idle host.
        check_s: Limit for each silence after the first word, in seconds on an idle host.

    Raises:
        Died: The guest is gone, or was silent for too long.
        Misreported: The report contradicts itself or the expected checks, or is too long.
    """
    patience, heard = start_s, time.monotonic()
    running_checks = False
    for line in _lines(results):
        require_short(results, console)
        if line is None:
            if guest.ended is not None:
                raise Died(ending(guest.ended))
            if not running_checks and _crashed(console):
                raise Died("its kernel crashed")
            if time.monotonic() - heard > patience * guest.slowdown:
                raise Died(f"nothing was heard of it for {patience:.0f} s")
            time.sleep(0.1)
            continue
        running_checks, patience, heard = True, check_s, time.monotonic()
        result = reported.read(line)
        if result:
            yield result
        elif reported.finished:
            return


def ending(status: int) -> str:
    """Describe QEMU's end by its exit status.

    SIGKILL comes from the kernel, of a host or a container without free memory.
    """
    if status != -signal.SIGKILL:
        return f"QEMU ended with status {status}"
    return (
        f"QEMU was killed (signal 9), as it is where memory is used up; {available_memory_mib()} "
        "MiB are available now"
    )


def _crashed(console: Path) -> bool:
    return console.exists() and _CRASH.search(console.read_bytes()) is not None


def require_short(results: Path, console: Path) -> None:
    """Refuse a guest that writes without end.

    Raises:
        Misreported: The port's file or the console's is too long.
    """
    for path, limit, what in (
        (results, _RESULT_BYTES, "its results have"),
        (console, _CONSOLE_BYTES, "its console has"),
    ):
        if path.exists() and path.stat().st_size > limit:
            raise Misreported(f"{what} more than {limit >> 20} MiB")


def _lines(file: Path) -> Iterator[str | None]:
    """Yield the whole lines of a growing file, and None whenever there is no further one yet."""
    rest = b""
    with file.open("rb") as reader:
        while True:
            data = reader.read(_RESULT_BYTES + 1)
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                yield line.decode(errors="replace")
            if not data or len(rest) > _RESULT_BYTES:
                yield None
