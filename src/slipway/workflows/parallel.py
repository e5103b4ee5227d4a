"""Several commands at once, one process each, with one display: appliances built side by side.

What goes in: a command line and a need of memory by name. What comes out: the exit status and the
output of each. Stages needed by two of them are made once, because each waits for the other's lock
in the cache.

Invariants: never more at once than asked for. Never more memory promised than was free, except to
one running alone. When the block is left, for any reason, every process has ended.
"""

from __future__ import annotations

import os
import selectors
import subprocess
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from slipway.host import process
from slipway.terminal.progress import Progress, Step

__all__ = ["Command", "Ended", "run_all"]

#: How long a command may take to end when it is told to: it has a machine or a namespace to put
#: away.
_PATIENCE_S = 20.0
#: What tells a process that it is a workflow's own.
_OF_THE_JOB = ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY")


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command to run, and its expected need of memory."""

    name: str
    argv: Sequence[str]
    memory_mib: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """An ended command: its exit status, and its standard output."""

    name: str
    status: int
    output: str


@dataclass(slots=True)
class _Running:
    command: Command
    child: subprocess.Popen[bytes]
    step: Step
    stack: ExitStack
    output: bytearray = field(default_factory=bytearray)
    line: bytearray = field(default_factory=bytearray)
    open: int = 2


def run_all(
    commands: Sequence[Command], *, jobs: int, memory_mib: int, progress: Progress
) -> Generator[Ended]:
    """Run commands, at most ``jobs`` at once, and yield each as it ends.

    Their standard error is shown line by line, with their names.

    Args:
        memory_mib: The memory for all of them together.
    """
    waiting = deque(commands)
    running: list[_Running] = []
    with ExitStack() as everything, selectors.DefaultSelector() as selector:
        while waiting or running:
            while waiting and len(running) < jobs and _fits(waiting[0], running, memory_mib):
                one = _start(waiting.popleft(), progress, everything)
                assert one.child.stdout and one.child.stderr
                selector.register(one.child.stdout, selectors.EVENT_READ, one)
                selector.register(one.child.stderr, selectors.EVENT_READ, one)
                running.append(one)
            for key, _ in selector.select():
                one = key.data
                data = os.read(key.fd, 1 << 16)
                if not data:
                    selector.unregister(key.fileobj)
                    one.open -= 1
                elif key.fileobj is one.child.stdout:
                    one.output += data
                else:
                    _show(one, data, progress)
            for one in [one for one in running if not one.open]:
                running.remove(one)
                status = one.child.wait()
                one.step.detail = "done" if status == 0 else f"exit code {status}"
                one.stack.close()
                yield Ended(
                    name=one.command.name, status=status, output=one.output.decode(errors="replace")
                )


def _fits(command: Command, running: Sequence[_Running], memory_mib: int) -> bool:
    """Return True if there is memory for one more; one alone always fits."""
    return (
        not running
        or command.memory_mib + sum(one.command.memory_mib for one in running) <= memory_mib
    )


def _start(command: Command, progress: Progress, everything: ExitStack) -> _Running:
    stack = everything.enter_context(ExitStack())
    step = stack.enter_context(progress.step(command.name))
    # Lines of several are not folded one under another, and a job has one summary.
    environment = {name: value for name, value in os.environ.items() if name not in _OF_THE_JOB}
    child = stack.enter_context(
        process.spawn(
            command.argv,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            patience_s=_PATIENCE_S,
        )
    )
    return _Running(command, child, step, stack)


def _show(one: _Running, data: bytes, progress: Progress) -> None:
    """Print complete lines."""
    *lines, rest = (bytes(one.line) + data).split(b"\n")
    one.line[:] = rest
    for line in lines:
        text = line.decode(errors="replace").rstrip()
        if text:
            one.step.detail = " ".join(text.split())
            progress.line(f"{one.command.name:<20} {text.strip()}")
