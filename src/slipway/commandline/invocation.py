"""A task around a function: its arguments from the signature, its end as a documented exit code.

What goes in: functions of :mod:`slipway.commands`, declared with :func:`task`. What comes out:
Invoke tasks. They end with the exit code of :mod:`slipway.errors` or 4 for an ``OSError``. Ctrl-C
gives 130, SIGTERM 143, and a bug 1 with a traceback.

Invariants: nothing heavy is imported, and nothing of Invoke is changed.
"""

from __future__ import annotations

import dataclasses
import errno
import functools
import inspect
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final, NoReturn, TextIO

from invoke import Context
from invoke.exceptions import Exit
from invoke.tasks import Task
from invoke.tasks import task as invoke_task

from slipway.commandline.answer import Answer
from slipway.errors import HostError, UserError
from slipway.host.credentials import leave_behind
from slipway.terminal.text import screened, shown

__all__ = ["Terminated", "open_streams", "option", "outcome", "task", "unread", "written"]

#: The remedies for refusals by the system, by errno.
_HINTS: Final = {
    errno.EACCES: "look at its owner and mode, and at those of the folders above it",
    errno.EDQUOT: "free some space, or raise the quota",
    errno.EMFILE: "raise the limit of open files: ulimit -n 4096",
    errno.ENOSPC: "free some space there",
    errno.EPERM: "look at its owner and mode, and at those of the folders above it",
    errno.ENOTDIR: "name a folder, or move away what is in its place",
    errno.EROFS: "mount it read-write, or use another folder",
}


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP: ends the work with the same cleaning up as after Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def _terminate(number: int, _frame: FrameType | None) -> NoReturn:
    raise Terminated(number)


@contextmanager
def outcome() -> Iterator[None]:
    """Turn the end of a task into Invoke's ``Exit``, with a message and the exit code.

    A bug passes through as it is: Python then shows its traceback and exits with 1.
    """
    previous: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        previous = {
            number: signal.signal(number, _terminate) for number in (signal.SIGTERM, signal.SIGHUP)
        }
        if signal.getsignal(signal.SIGINT) == signal.SIG_DFL:  # set by __main__
            previous[signal.SIGINT] = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
        sys.stdout.flush()
    except UserError as error:
        raise Exit(shown(str(error), sys.stderr), code=error.exit_code) from error
    except Terminated as error:
        raise Exit(
            f"terminated by {signal.Signals(error.number).name}", code=128 + error.number
        ) from error
    except KeyboardInterrupt as error:
        raise Exit("interrupted", code=128 + signal.SIGINT) from error
    except BrokenPipeError as error:
        raise unread(error) from error
    except OSError as error:
        refused = _refused(error)
        raise Exit(shown(str(refused), sys.stderr), code=refused.exit_code) from error
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def unread(error: BrokenPipeError) -> BaseException:
    """Return the exception for a broken pipe.

    For standard output it is a quiet end: the reader has seen enough (`invoke list | head`).
    """
    return error if _stdout_is_open() else Exit(code=128 + signal.SIGPIPE)


def _refused(error: OSError) -> HostError:
    """Return the error of a refusal by the system: the place, the reason and a remedy."""
    place = os.fsdecode(error.filename or error.filename2 or "")
    if (
        not place
        and error.errno in (errno.ENOSPC, errno.EIO, errno.EFBIG)
        and not _takes_more(sys.stdout)
    ):
        place = "standard output"
        _give_up(sys.stdout)
    reason = (error.strerror or str(error) or type(error).__name__).lower()
    return HostError(f"{place}: {reason}" if place else reason, hint=_HINTS.get(error.errno or 0))


def _takes_more(stream: TextIO) -> bool:
    """Return True if a stream takes an empty line; only for streams not shown on a terminal."""
    try:
        stream.write("\n")
        stream.flush()
    except OSError:
        return False
    return True


def _give_up(stream: TextIO) -> None:
    """Discard the rest of a stream's buffer silently."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def open_streams() -> None:
    """Make sure of the three standard streams.

    A file opened later would get the number of a closed one.

    Raises:
        HostError: Standard output is closed, and all results would be lost.
    """
    closed = []
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            closed.append(os.open(os.devnull, os.O_RDWR))  # the lowest free number
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w")
    if 1 in closed:
        raise HostError("standard output is closed", hint="to discard it: >/dev/null")


@contextmanager
def written() -> Iterator[None]:
    """End with the due exit code, even if standard error takes no message."""
    try:
        yield
    except UserError as error:
        sys.stderr.write(f"{shown(str(error), sys.stderr)}\n")
        raise SystemExit(error.exit_code) from error
    except OSError as error:
        ended = error.__context__  # the exit that Invoke tried to print
        if not isinstance(ended, Exit):
            raise
        _give_up(sys.stderr)
        raise SystemExit(ended.code) from error


def _stdout_is_open() -> bool:
    """Return True if standard output still has a reader.

    If not, discard the rest of its buffer silently.
    """
    poll = select.poll()
    poll.register(sys.stdout, 0)
    if not poll.poll(0):  # a pipe without a reader is in error (poll(2))
        return True
    _give_up(sys.stdout)
    return False


def option(default: Any, text: str) -> Any:
    """Declare a field of a group of options: its default and its help."""
    return dataclasses.field(default=default, metadata={"help": text})


def task(
    *, keyless: bool = False, help: Mapping[str, str] | None = None, name: str | None = None
) -> Callable[[Callable[..., None]], Task[Callable[..., None]]]:
    """Declare a task, with :func:`outcome` around the body.

    The body's signature is the task's. Its first parameters are words, those after ``*`` are
    options. A ``list[str]`` may be given several times. A parameter with a dataclass as its type is
    a group: each field (:func:`option`) is an option, and the body gets them as one value.

    Args:
        keyless: The task reads, builds or runs appliances, so it starts without credentials
            (:mod:`slipway.host.credentials`).
        help: A text for each parameter outside of groups.
        name: The task's name, if not the function's.
    """

    def declare(body: Callable[..., None]) -> Task[Callable[..., None]]:
        parameters = inspect.signature(body, eval_str=True).parameters
        groups = {
            each.name: each.annotation
            for each in parameters.values()
            if dataclasses.is_dataclass(each.annotation)
        }

        @functools.wraps(body)
        def reported(_: Context, **values: Any) -> None:
            arguments = _gathered(groups, values)
            answer = next(
                (each for each in arguments.values() if isinstance(each, Answer)), Answer()
            )
            with outcome(), answer.printed(name or body.__name__), outcome(), screened():
                if keyless:
                    leave_behind()
                body(**arguments)

        flat, texts = _flat(parameters, help or {})
        reported.__signature__ = inspect.Signature([_CONTEXT, *flat])  # type: ignore[attr-defined]
        declared: Task[Callable[..., None]] = invoke_task(
            name=name,
            help=texts,
            positional=[
                each.name for each in parameters.values() if each.kind is each.POSITIONAL_OR_KEYWORD
            ],
            iterable=[each.name for each in flat if each.annotation == list[str]],
            auto_shortflags=False,
        )(reported)
        return declared

    return declare


_CONTEXT: Final = inspect.Parameter("_", inspect.Parameter.POSITIONAL_ONLY)


def _flat(
    parameters: Mapping[str, inspect.Parameter], help: Mapping[str, str]
) -> tuple[list[inspect.Parameter], dict[str, str]]:
    """Return a body's parameters with groups taken apart, and the help of each."""
    flat: list[inspect.Parameter] = []
    texts = dict(help)
    for parameter in parameters.values():
        if not dataclasses.is_dataclass(parameter.annotation):
            flat.append(parameter.replace(kind=parameter.KEYWORD_ONLY))
            continue
        for field in _options(parameter.annotation):
            several = field.default_factory is list
            flat.append(
                inspect.Parameter(
                    field.name,
                    parameter.KEYWORD_ONLY,
                    default=inspect.Parameter.empty if several else field.default,
                    annotation=list[str] if several else field.type,
                )
            )
            texts[field.name] = field.metadata["help"]
    return flat, texts


def _gathered(groups: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a body: values by name, groups as one value each."""
    rest = dict(values)
    made = {}
    for name, group in groups.items():
        made[name] = group(**{field.name: rest.pop(field.name) for field in _options(group)})
    return rest | made


def _options(group: Any) -> list[dataclasses.Field[Any]]:
    """Return the options among a group's fields."""
    return [field for field in dataclasses.fields(group) if field.init]
