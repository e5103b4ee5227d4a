"""The only module that starts processes.

What goes in: an argument list (never a shell line), an explicit environment, a log file, a time
limit. What comes out: the captured output, or a :class:`~slipway.errors.BuildError`. Its message
has the command, ready to paste, its ending, its last lines and the path of its log.

Invariants: standard input is closed unless given. Every child leads a session of its own. When the
call ends, for any reason (also Ctrl-C), nothing of this session is left running. A child dies with
its maker, even by SIGKILL.
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
    """An ended process: its output if it was captured, and its duration."""

    returncode: int
    stdout: bytes
    duration_s: float


def find_tool(name: str, *, why: str | None = None) -> str:
    """Return the absolute path of a command.

    The system's folders come first: scripts started here find the same program there.

    Raises:
        HostError: The command is not installed; the hint is the command to install it.
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
    """Return every child's environment: the C locale, UTC, a full PATH, and the caller's
    additions.

    Proxies have lower-case names there, whatever the caller's are: apt reads no others.
    """
    kept = {name: os.environ[name] for name in ("HOME", "TMPDIR") if name in os.environ}
    for name in ("http_proxy", "https_proxy", "no_proxy"):
        proxy = os.environ.get(name, os.environ.get(name.upper()))
        if proxy is not None:
            kept[name] = proxy
    return {"LC_ALL": "C.UTF-8", "TZ": "UTC0", "PATH": SYSTEM_PATH, **kept, **(extra or {})}


def tail(path: Path, lines: int = 20, *, end: int | None = None) -> str:
    """Return the last lines of a log, at most 16 KiB of it, indented for display.

    The result is empty if there is no log.

    Args:
        end: The assumed end of the log in bytes; by default its real end.
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
    """End a process from :func:`spawn`, with all of its session.

    Args:
        patience_s: Seconds for an orderly end after SIGTERM; 0 kills at once.
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
    """Ask a process from :func:`spawn` for its state (SIGABRT), and end it with all of its
    session.
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
    """The streams of a process; missing ones are closed."""

    stdin: int | IO[bytes]
    stdout: int | IO[bytes]
    stderr: int | IO[bytes]


class Options(TypedDict, total=False):
    """More options of :func:`run`: streams, a time limit in seconds, and the check.

    With ``check``, the default, a non-zero exit status is an error.
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
    """Hold a running process for the ``with`` block, and end it with all its session afterwards."""
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
        what: The action, for the error message; by default the command's name.
        log: A file that standard error is appended to, and standard output too unless ``stdout`` is
            given. Without it, standard output is captured and standard error is kept for the error
            message alone.
        input: Bytes for standard input; otherwise ``stdin``, otherwise nothing.

    Raises:
        HostError: The command is not installed.
        BuildError: The command failed or ran out of time.
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
