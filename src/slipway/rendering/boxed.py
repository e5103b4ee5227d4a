"""Render the templates of an appliance's folder in a process that can do nothing else.

What goes in: a template's text and a context of plain values. What comes out: the rendered text, or
all errors of the template.

Invariants: the process gets only the text and the values, no environment and no file of this one.
Once it has started, it can open no file, write none and start no process. A template over its limit
of processor time, memory or output is in error, and never holds up the command.

This module is also the program of the process. It answers requests, one JSON text a line, until its
input ends. One process serves a whole command, so a template costs about as much as without it.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import resource
import select
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import IO, Any, Final

import jinja2.debug  # noqa: F401 - Jinja2 loads it with the first error, when no file can be opened any more

from slipway.errors import SpecError, Where
from slipway.host import process
from slipway.rendering.plain import Context
from slipway.rendering.templating import check_text, line_of

__all__ = ["MAX_BYTES", "Box", "box", "main"]

#: Larger templates are refused before they are read.
MAX_BYTES: Final = 1 << 18
#: A template makes no more characters than this.
MAX_OUTPUT: Final = 1 << 20
#: The processor time of one template, in seconds. Once one appliance's templates together have used
#: up theirs, the rest is refused.
CPU_S: Final = 2.0
APPLIANCE_CPU_S: Final = 10.0
#: The memory for a template, beside that of Python and Jinja2.
MEMORY_MIB: Final = 192
#: The time for the process to neither work nor wait for a processor, and the interval between two
#: looks, in seconds. A busy kernel gives little processor time a second. The process' own limit
#: ends endless work.
_PATIENCE_S: Final = 60.0
_ASK_S: Final = 1.0
_START: Final = (
    "import sys; sys.path.insert(0, sys.argv[1]); from slipway.rendering.boxed import main; main()"
)
_HINT: Final = "write less into it, or make the file in a setup script"


class Box:
    """The process; it starts with the first template, and again if a template ended it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._stack = ExitStack()
        self._lock = threading.Lock()

    def close(self) -> None:
        """End the process."""
        self._process = None
        self._stack.close()

    def render(self, content: bytes, context: Context, *, shown: Path) -> str:
        """Render a template.

        Args:
            shown: The file's path, as written in errors.

        Raises:
            SpecError: The template is wrong, or exceeds a limit.
        """
        text, errors, _ = self._ask(content, context, shown)
        if errors:
            raise errors[0]
        return text

    def check(
        self, content: bytes, context: Context, *, shown: Path
    ) -> tuple[list[SpecError], float]:
        """Find the errors of a template.

        Returns:
            The errors, and the processor time in seconds.
        """
        _, errors, seconds = self._ask(content, context, shown)
        return errors, seconds

    def _ask(
        self, content: bytes, context: Context, shown: Path
    ) -> tuple[str, list[SpecError], float]:
        if len(content) > MAX_BYTES:
            message = f"the template has {len(content)} bytes; at most {MAX_BYTES} are rendered"
            return (
                "",
                [SpecError(message, where=Where(shown), hint="without .j2 it is copied as it is")],
                0.0,
            )
        try:
            text = content.decode()
        except UnicodeDecodeError as error:
            where = Where(shown, content[: error.start].count(b"\n") + 1)
            return (
                "",
                [
                    SpecError(
                        "a template has to be UTF-8",
                        where=where,
                        hint="without .j2 it is copied as it is",
                    )
                ],
                0.0,
            )
        with self._lock:
            answer = self._answer(
                f'{{"shown": {json.dumps(str(shown))}, "text": {json.dumps(text)}, "context": '
                f"{context.encoded}}}\n"
            )
            if answer is None or answer["ends"]:
                self.close()
        if answer is None:
            message = "this takes more time or memory than a template may have"
            return "", [SpecError(message, where=Where(shown), hint=_HINT)], CPU_S
        errors = [
            SpecError(said["message"], where=Where(shown, said["line"]), hint=said["hint"])
            for said in answer["errors"]
        ]
        return answer["text"], errors, answer["seconds"]

    def _answer(self, request: str) -> dict[str, Any] | None:
        """Send a request and return the answer; None if the process ended or did not answer in
        time.
        """
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._process = self._stack.enter_context(_started())
        assert self._process.stdin and self._process.stdout
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(request.encode())
            self._process.stdin.flush()
            line = _line(self._process.pid, self._process.stdout)
            if line:
                answer: dict[str, Any] = json.loads(line)
                return answer
        return None


def _started() -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
    source = Path(__file__).parents[2]
    argv: list[str | Path] = [
        "env",
        "-i",
        "LC_ALL=C.UTF-8",
        sys.executable,
        "-I",
        "-c",
        _START,
        source,
    ]
    return process.spawn(argv, cwd=Path("/"), stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def _line(pid: int, stream: IO[bytes]) -> bytes:
    """Return a line of the process' output; empty if it ends or is idle for too long."""
    begun = time.monotonic() - _busy_s(pid)
    while not select.select([stream], [], [], min(_ASK_S, _PATIENCE_S))[0]:
        if time.monotonic() - _busy_s(pid) - begun > _PATIENCE_S:
            return b""
    # Answers are written at once, and the limit of a template's processor time ends the writing
    # too.
    line = stream.readline()
    return line if line.endswith(b"\n") else b""


def _busy_s(pid: int) -> float:
    """Return the time a process has worked or waited for a processor, in seconds.

    Source: Linux, Documentation/scheduler/sched-stats.rst.
    """
    with contextlib.suppress(OSError, ValueError):
        ran, waited, _ = Path(f"/proc/{pid}/schedstat").read_text().split()
        return (int(ran) + int(waited)) / 1e9
    return 0.0


_BOX: Final = Box()
atexit.register(_BOX.close)


def box() -> Box:
    """Return the one box of this command."""
    return _BOX


class _TimeIsOver(BaseException):
    """Raised by a signal; no template can catch it."""


def _time_is_over(_: int, __: FrameType | None) -> None:
    raise _TimeIsOver


def main() -> None:
    """Answer requests from standard input on standard output until there are no more."""
    signal.signal(signal.SIGPROF, _time_is_over)
    # Python and Jinja2 load modules on first use; this has to happen before files become
    # unreachable.
    _answer(
        {
            "shown": "a",
            "text": "{% for a in b %}{{ 'a' ~ a | sh }}{{ c.d }}{% endfor %}",
            "context": {"b": ["x"], "c": {}},
        }
    )
    _give_up_everything()
    for line in sys.stdin.buffer:
        used = _used_s()
        # If one long call ignores the signal, the kernel ends the process.
        resource.setrlimit(resource.RLIMIT_CPU, (int(used + 3 * CPU_S) + 1, resource.RLIM_INFINITY))
        answer = _answer(json.loads(line))
        answer["seconds"] = _used_s() - used
        sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
        sys.stdout.buffer.flush()


def _give_up_everything() -> None:
    """Let the kernel refuse files, processes, and memory beyond a template's limit."""
    pages = int(Path("/proc/self/statm").read_bytes().split()[0])
    memory = pages * resource.getpagesize() + MEMORY_MIB * 2**20
    limits = {
        resource.RLIMIT_AS: memory,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NPROC: 0,
        resource.RLIMIT_NOFILE: 0,
    }
    for name, value in limits.items():
        resource.setrlimit(name, (value, value))


def _used_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    """Return the answer to a request; ``ends`` is True if the process is unfit for another one."""
    shown = Path(request["shown"])
    try:
        signal.setitimer(signal.ITIMER_PROF, CPU_S)
        text, found = check_text(
            request["text"], Context(request["context"]), shown=shown, longest=MAX_OUTPUT
        )
        errors = [
            {
                "message": error.message,
                "line": error.where.line if error.where else 0,
                "hint": error.hint,
            }
            for error in found
        ]
        answer = {"text": text, "errors": errors, "ends": False}
    except _TimeIsOver as error:
        answer = _ended(f"this takes more than {CPU_S:g} s", error)
    except MemoryError as error:
        answer = _ended(f"this takes more than {MEMORY_MIB} MiB of memory", error)
    except Exception as error:  # whatever a stranger's template can bring about is its error
        answer = _ended(f"{type(error).__name__}: {error}", error)
    signal.setitimer(signal.ITIMER_PROF, 0)
    return answer


def _ended(problem: str, error: BaseException) -> dict[str, Any]:
    return {
        "text": "",
        "errors": [{"message": problem, "line": line_of(error), "hint": _HINT}],
        "ends": True,
    }
