"""The only module that starts processes.

What goes in: an argument list (never a shell line), an explicit environment, a log file, a time
limit. What comes out: the captured output, or a :class:`~slipway.errors.BuildError` that shows the
command as one could paste it, how it ended, the last lines it wrote and where its whole log is.

Invariants: standard input is closed unless given; every child leads a session of its own, and when
the call ends, for whatever reason (also Ctrl-C), nothing of that session is left running; a child
dies with its maker, even by SIGKILL.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypedDict, Unpack

from slipway.errors import BuildError, HostError
from slipway.host.programs import package_of

__all__ = [
    "Completed",
    "Options",
    "Streams",
    "abort",
    "end",
    "environment",
    "find_tool",
    "run",
    "spawn",
    "tail",
]

#: Where programs are: for every child, and before the caller's own PATH for what this process
#: starts by name.
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: Every child's, whatever the caller's is: what it makes has the same modes everywhere.
UMASK = 0o022


@dataclass(frozen=True, slots=True)
class Completed:
    """A process that ended: its output where it was captured, and how long it took."""

    returncode: int
    stdout: bytes
    duration_s: float


def find_tool(name: str, *, why: str | None = None) -> str:
    """The absolute path of a command.

    The system's folders come first: a script that is started here finds the same program there.

    Raises:
        HostError: It is not installed; the hint is the command that installs it.
    """
    path = shutil.which(name, path=f"{SYSTEM_PATH}:{os.environ.get('PATH', '')}")
    if path is None:
        purpose = f" ({why})" if why else ""
        raise HostError(
            f"{name} is not installed{purpose}",
            hint=f"sudo apt-get install {package_of(name) or name}",
        )
    return path


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment that every child gets: the C locale, UTC, a full PATH, and what the caller
    adds.
    """
    kept = {
        name: os.environ[name]
        for name in ("HOME", "TMPDIR", "http_proxy", "https_proxy", "no_proxy")
        if name in os.environ
    }
    return {"LC_ALL": "C.UTF-8", "TZ": "UTC0", "PATH": SYSTEM_PATH, **kept, **(extra or {})}


def tail(path: Path, lines: int = 20, *, end: int | None = None) -> str:
    """The last lines of a log, at most 16 KiB of it, indented for display.

    Empty if there is no log.

    Args:
        end: Where the log is taken to end, in bytes; by default where it does.
    """
    try:
        end = path.stat().st_size if end is None else end
        with path.open("rb") as log:
            start = log.seek(max(0, end - 16384))
            text = log.read(end - start).decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(f"    {line}" for line in text.splitlines()[-lines:])


def end(process: subprocess.Popen[bytes], *, patience_s: float = 0.0) -> None:
    """End a process that :func:`spawn` started, with all of its session: politely first where there
    is patience.
    """
    if patience_s and process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience_s)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream:
            with contextlib.suppress(BrokenPipeError):  # what it was still to read goes nowhere
                stream.close()


def abort(process: subprocess.Popen[bytes], *, patience_s: float) -> None:
    """Have a process that :func:`spawn` started say where it stands, if it can (SIGABRT), and end
    it with all of its session.
    """
    with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
        os.killpg(process.pid, signal.SIGABRT)
        process.wait(patience_s)
        until = time.monotonic() + patience_s
        while time.monotonic() < until:
            os.killpg(process.pid, 0)  # until nobody of the session is left
            time.sleep(0.02)
    end(process)


class Streams(TypedDict, total=False):
    """What a process reads and writes; what is not given is closed."""

    stdin: int | IO[bytes]
    stdout: int | IO[bytes]
    stderr: int | IO[bytes]


class Options(TypedDict, total=False):
    """What else :func:`run` takes: streams in place of its own, a time limit, and whether a
    non-zero exit status is an error (it is, by default).
    """

    stdin: int | IO[bytes] | None
    stdout: int | IO[bytes] | None
    timeout_s: float
    check: bool


@contextlib.contextmanager
def spawn(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    pass_fds: Sequence[int] = (),
    patience_s: float = 0.0,
    **streams: Unpack[Streams],
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that runs for as long as the ``with`` block and is ended, with all its session,
    after it.
    """
    words = [str(word) for word in argv]
    words[0] = find_tool(words[0]) if "/" not in words[0] else words[0]
    # However this thread ends, the kernel ends the child (prctl(2), PR_SET_PDEATHSIG). If it has
    # ended before that was set, the child has another parent by then.
    guard = [
        find_tool("setpriv"),
        "--pdeathsig",
        "KILL",
        "--",
        "sh",
        "-c",
        'test "$PPID" = "$0" && exec "$@"',
        str(os.getpid()),
    ]
    process = subprocess.Popen(
        [*guard, *words],
        env=environment(env),
        cwd=cwd,
        stdin=streams.get("stdin", subprocess.DEVNULL),
        stdout=streams.get("stdout", subprocess.DEVNULL),
        stderr=streams.get("stderr", subprocess.DEVNULL),
        pass_fds=pass_fds,
        start_new_session=True,
        umask=UMASK,
    )
    try:
        yield process
    finally:
        end(process, patience_s=patience_s)


def run(
    argv: Sequence[str | Path],
    *,
    what: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    log: Path | None = None,
    input: bytes | None = None,
    **options: Unpack[Options],
) -> Completed:
    """Run a command to its end, of an hour at most unless there is another ``timeout_s``.

    Args:
        what: What it does, for the error message; by default the command's name.
        log: A file that standard error is appended to, and standard output too unless ``stdout`` is
            given. Without it, standard output is captured and standard error is kept for the error
            message alone.
        input: Bytes for standard input; otherwise ``stdin``, otherwise nothing.

    Raises:
        HostError: The command is not installed.
        BuildError: It failed or ran out of time.
    """
    started = time.monotonic()
    timeout_s = options.get("timeout_s", 3600)
    stdin, stdout = options.get("stdin"), options.get("stdout")
    with contextlib.ExitStack() as stack:
        sink: int | IO[bytes] = stack.enter_context(log.open("ab")) if log else subprocess.PIPE
        process = stack.enter_context(
            spawn(
                argv,
                env=env,
                cwd=cwd,
                stdin=subprocess.PIPE
                if input is not None
                else subprocess.DEVNULL
                if stdin is None
                else stdin,
                stdout=sink if stdout is None else stdout,
                stderr=sink,
            )
        )
        try:
            captured, errors = process.communicate(input, timeout=timeout_s)
            ending = f"exit status {process.returncode}"
            if process.returncode < 0:
                ending = f"ended by signal {signal.Signals(-process.returncode).name}"
        except subprocess.TimeoutExpired:
            captured, errors = b"", b""
            ending = f"no end after {timeout_s:g} s"
            end(process)
    returncode = process.returncode
    if options.get("check", True) and (returncode or ending.startswith("no end")):
        lines = (errors or b"").decode(errors="replace").splitlines()[-20:]
        last = tail(log) if log else "\n".join(f"    {line}" for line in lines)
        raise BuildError(
            (
                f"{what or Path(str(argv[0])).name} failed: {ending}\n"
                f"  command: {shlex.join(map(str, argv))}"
            )
            + (f"\n{last}" if last else ""),
            hint=f"the whole log is {log}" if log else None,
        )
    return Completed(returncode, captured or b"", time.monotonic() - started)
