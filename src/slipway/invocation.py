"""How the tasks meet Invoke: several names in a row, exit codes that mean something, help that a person understands.

What goes in: functions of ``tasks.py``, declared with :func:`task`. What comes out: Invoke tasks that end with the exit
code of :mod:`slipway.errors`, 4 for what the system refuses (an ``OSError``), 130 after Ctrl-C, 143 after SIGTERM, and 1
with a traceback for a bug.

Invariants: importing this module is what installs it, once; nothing heavy is imported; tasks that are not declared
here behave as Invoke documents. Invoke has no hook for what is changed (its parser takes one value for each positional
argument, and exits with 1 when it is called wrongly), so :func:`install` replaces the parser's machine and
wraps three methods of its ``Program``: the ``invoke`` command on the user's PATH makes its own ``Program``, and a
subclass of it would never be used.
"""

from __future__ import annotations

import errno
import functools
import inspect
import os
import select
import signal
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final, NoReturn, TextIO

import invoke.parser.parser
from invoke import Program
from invoke.exceptions import Exit, ParseError
from invoke.parser import Argument, ParserContext
from invoke.parser.parser import ParseMachine
from invoke.tasks import Task
from invoke.tasks import task as invoke_task

from slipway.credentials import leave_behind
from slipway.errors import HostError, UsageError, UserError, suggestion
from slipway.terminal import report, screened, shown

__all__ = ["Machine", "install", "open_streams", "outcome", "task", "written"]

#: What can be done where the system refuses something.
_HINTS: Final = {
    errno.EACCES: "look at its owner and mode, and at those of the folders above it",
    errno.EDQUOT: "free some space, or raise the quota",
    errno.EMFILE: "raise the limit of open files: ulimit -n 4096",
    errno.ENOSPC: "free some space there",
    errno.EPERM: "look at its owner and mode, and at those of the folders above it",
    errno.EROFS: "mount it read-write, or use another folder",
}


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP: ends the work just as Ctrl-C does, so that what was begun is cleaned up."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def _terminate(number: int, _frame: FrameType | None) -> NoReturn:
    raise Terminated(number)


@contextmanager
def outcome() -> Iterator[None]:
    """Turn what ends a task into Invoke's ``Exit``, with the message for standard error and the exit code.

    A bug passes through as it is: Python then shows its traceback and exits with 1.
    """
    previous: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        previous = {number: signal.signal(number, _terminate) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
        sys.stdout.flush()
    except UserError as error:
        raise Exit(shown(str(error), sys.stderr), code=error.exit_code) from error
    except Terminated as error:
        raise Exit(f"terminated by {signal.Signals(error.number).name}", code=128 + error.number) from error
    except KeyboardInterrupt as error:
        raise Exit("interrupted", code=128 + signal.SIGINT) from error
    except BrokenPipeError as error:
        raise _unread(error) from error
    except OSError as error:
        refused = _refused(error)
        raise Exit(shown(str(refused), sys.stderr), code=refused.exit_code) from error
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _unread(error: BrokenPipeError) -> BaseException:
    """What a broken pipe means: a quiet end for standard output (`invoke list | head`: the reader has seen enough)."""
    return error if _stdout_is_open() else Exit(code=128 + signal.SIGPIPE)


def _refused(error: OSError) -> HostError:
    """Say what the system refused: where, why, and what can be done about it."""
    place = os.fsdecode(error.filename or error.filename2 or "")
    if not place and error.errno in (errno.ENOSPC, errno.EIO, errno.EFBIG) and not _takes_more(sys.stdout):
        place = "standard output"
        _give_up(sys.stdout)
    reason = (error.strerror or str(error) or type(error).__name__).lower()
    return HostError(f"{place}: {reason}" if place else reason, hint=_HINTS.get(error.errno or 0))


def _takes_more(stream: TextIO) -> bool:
    """Whether a stream that nobody looks at on a terminal has room for a line."""
    try:
        stream.write("\n")
        stream.flush()
    except OSError:
        return False
    return True


def _give_up(stream: TextIO) -> None:
    """Let what is left in a stream's buffer go nowhere, silently."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def open_streams() -> None:
    """Make sure of the three standard streams: a file that is opened later would get the number of one that is closed.

    Raises:
        HostError: Standard output is closed, and whatever is found out would be lost.
    """
    closed = []
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            closed.append(os.open(os.devnull, os.O_RDWR))  # the lowest number that is free
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w")
    if 1 in closed:
        raise HostError("standard output is closed", hint="to throw it away: >/dev/null")


@contextmanager
def written() -> Iterator[None]:
    """End with the exit code that is due, also where standard error takes no message."""
    try:
        yield
    except UserError as error:
        sys.stderr.write(f"{shown(str(error), sys.stderr)}\n")
        raise SystemExit(error.exit_code) from error
    except OSError as error:
        ended = error.__context__  # what Invoke wanted to print
        if not isinstance(ended, Exit):
            raise
        _give_up(sys.stderr)
        raise SystemExit(ended.code) from error


def _stdout_is_open() -> bool:
    """Whether standard output still has a reader; if not, what is left in its buffer goes nowhere, silently."""
    poll = select.poll()
    poll.register(sys.stdout, 0)
    if not poll.poll(0):  # a pipe without a reader is in error (poll(2))
        return True
    _give_up(sys.stdout)
    return False


def task(*, keyless: bool = False, **options: Any) -> Callable[[Callable[..., None]], Task[Callable[..., None]]]:
    """Declare a task: Invoke's own decorator, with :func:`outcome` around the body.

    A ``keyless`` task reads, builds or runs what appliances bring along, so it starts without credentials
    (:mod:`slipway.credentials`).

    An argument that is both ``iterable`` and ``positional`` takes all names that follow, as in ``build a b c``; no
    second task can then follow on the same line. One-letter flags are not made up (they would change their
    meaning whenever an argument is added); a task asks for them with ``auto_shortflags=True``.
    """

    def declare(body: Callable[..., None]) -> Task[Callable[..., None]]:
        @functools.wraps(body)
        def reported(*args: Any, **kwargs: Any) -> None:
            with outcome(), screened():
                if keyless:
                    leave_behind()
                body(*args, **kwargs)

        declared: Task[Callable[..., None]] = invoke_task(**{"auto_shortflags": False, **options})(reported)
        return declared

    return declare


def _variadic(context: ParserContext | None) -> Argument | None:
    """The argument of a task that takes any number of names, if it has one."""
    positional = context.positional_args if context else []
    return next((argument for argument in positional if argument.kind is list), None)


def _optional(context: ParserContext | None) -> Argument | None:
    """The first argument of a task that may be given without a flag, need not be, and has not been."""
    positional = context.positional_args if context else []
    return next((each for each in positional if each.kind is not list and each.default is not None and not each.got_value), None)


class Machine(ParseMachine):
    """Invoke's parser, to which words that are no flags are values of a task's list argument."""

    def handle(self, token: str) -> None:
        """Take one word of the command line."""
        self.token = token
        context: Any = self.context  # None before the first task
        if token in ("--help", "-h") and context is not None and context.name:
            # Invoke would take it for the value of an argument that is still missing.
            for argument in context.missing_positional_args:
                argument.value = ""
        many = _optional(context) or _variadic(context)
        if (
            many is None
            or self.current_state == "unknown"
            or token.startswith("-")
            or self.waiting_for_flag_value
            or self.context.missing_positional_args
        ):
            super().handle(token)
        else:
            many.value = token

    def see_value(self, value: Any) -> None:
        """Take the value of a flag; Invoke lets the ``ValueError`` of ``int("many")`` through as if it were a bug."""
        try:
            super().see_value(value)
        except ValueError:
            flag: Any = self.flag
            self.error(f"{invoke.parser.context.to_flag(str(flag.name))} wants a whole number, not {value!r}")

    def error(self, msg: str) -> NoReturn:
        """Say what is wrong with the command line."""
        context: Any = self.context  # None before the first task
        flag: Any = self.flag
        if msg.startswith("No idea what"):
            in_task = context is not None and context.name is not None
            if self.token.startswith("-"):
                message = f"{context.name}: unknown option {self.token}" if in_task else f"unknown option {self.token}"
                known = [*(context.flags if in_task else ()), *self.initial.flags]
            else:
                message = f'{context.name}: unexpected "{self.token}"' if in_task else f'unknown task "{self.token}"'
                known = [] if in_task else list(self.contexts)
            listing = f"invoke {context.name} --help shows what it takes" if in_task else "invoke --list shows the tasks"
            raise ParseError(str(UsageError(message, hint=suggestion(self.token, known) or listing)), context)
        if "needed value" in msg:
            name = invoke.parser.context.to_flag(flag.names[0])
            raise ParseError(str(UsageError(f"{name} needs a value")), context)
        missing = context.missing_positional_args if context else []
        if missing:
            names = " ".join(_metavariable(argument) for argument in missing)
            hint = f"invoke {context.name} --help shows what it takes"
            raise ParseError(str(UsageError(f"{context.name}: {names} is missing", hint=hint)), context)
        raise ParseError(str(UsageError(msg)), context)


# fluidity's metaclass gives every class a table of its own, and a subclass an empty one.
Machine._class_states = ParseMachine._class_states
Machine._class_transitions = ParseMachine._class_transitions


def _metavariable(argument: Argument) -> str:
    """How help writes an argument's value."""
    return argument.names[0].removesuffix("s").upper().replace("-", "_") + ("..." if argument.kind is list else "")


def _usage(context: ParserContext) -> str:
    """One line that shows how a task is called."""
    words = []
    for argument in context.positional_args:
        word = _metavariable(argument)
        words.append(f"[{word}]" if argument.kind is list or argument.default is not None else word)
    options = [] if len(context.args) == len(context.positional_args) else ["[options]"]
    return " ".join(["Usage: invoke", str(context.name), *words, *options])


def _option(argument: Argument) -> str:
    """How help writes an option: its flag and what follows it."""
    flag = invoke.parser.context.to_flag(argument.names[0])
    if argument.kind is bool:
        return flag.replace("--", "--[no-]", 1) if argument.default is True else flag
    value = {int: "N"}.get(argument.kind, argument.names[0].upper().replace("-", "_"))
    return f"{flag}[={value}]" if argument.optional else f"{flag} {value}"


def task_help(context: ParserContext, docstring: str | None) -> str:
    """The text of ``invoke TASK --help``: usage, what the task does, its arguments and options with their defaults."""
    lines = [_usage(context), "", *(inspect.cleandoc(docstring or "").splitlines()), ""]
    positional = [(_metavariable(argument), argument) for argument in context.positional_args]
    options = [(_option(argument), argument) for argument in context.args.values() if not argument.positional]
    for title, arguments in (("Arguments:", positional), ("Options:", options)):
        if not arguments:
            continue
        lines.append(title)
        width = min(28, max(len(name) for name, _ in arguments)) + 2
        for name, argument in arguments:
            plain = argument.kind in (bool, list) or argument.default in (None, "")
            text = (argument.help or "") + ("" if plain else f" (default: {argument.default})")
            wrapped = textwrap.wrap(text, 96 - width) or [""]
            lines.append(f"  {name:<{width}}{wrapped[0]}".rstrip())
            lines.extend(" " * (width + 2) + line for line in wrapped[1:])
        lines.append("")
    return "\n".join(lines)


def _print_task_help(program: Program, name: str) -> None:
    sys.stdout.write(task_help(program.parser.contexts[name], program.collection[name].__doc__))


def _reporting(method: Callable[[Program], None]) -> Callable[[Program], None]:
    """A step of ``Program.run`` that ends with exit code 2, not 1, when the command line is wrong."""

    @functools.wraps(method)
    def step(program: Program) -> None:
        try:
            method(program)
        except ParseError as error:
            text = str(error)
            said = text if text.startswith("error: ") else str(UsageError(text))
            raise Exit(shown(said, sys.stderr), code=UsageError.exit_code) from error
        except BrokenPipeError as error:
            raise _unread(error) from error

    return step


def install() -> None:
    """Teach Invoke the above. Doing it again changes nothing."""
    if invoke.parser.parser.ParseMachine is Machine:
        return
    # mypy is right that this is not how classes are meant to be used; the module's docstring says why it is done.
    invoke.parser.parser.ParseMachine = Machine  # type: ignore[misc]
    Program.parse_tasks = _reporting(Program.parse_tasks)  # type: ignore[method-assign, assignment]
    Program.parse_cleanup = _reporting(Program.parse_cleanup)  # type: ignore[method-assign, assignment]
    Program.print_task_help = _print_task_help  # type: ignore[method-assign, assignment]
    sys.excepthook = report
    # Invoke turns the writing of bytecode off before it loads the tasks; every start would then compile all of slipway.
    sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))


install()
