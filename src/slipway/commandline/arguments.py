"""The words of a command line -> one task with its arguments.

What goes in: words, and the tasks with their parameters. What comes out: an :class:`Asked`.
Invariants: one command line is one task; nothing is guessed; every option with a value has one, and
no value is empty.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NoReturn

from invoke.parser import Argument, ParserContext

from slipway.errors import UsageError, suggestion

__all__ = ["Asked", "flag_of", "parse", "word_of"]

#: Options without a value in front of a task, with the mode of each.
_SWITCHES: Final = {
    "--help": "help",
    "-h": "help",
    "--list": "list",
    "-l": "list",
    "--version": "version",
    "-V": "version",
    "--complete": "complete",
}
#: The same, with a value.
_VALUES: Final = {
    "--search-root": "root",
    "-r": "root",
    "--print-completion-script": "shell",
}
#: Invoke's options for tasks that run shell commands. Slipway has no such tasks.
_OF_INVOKE: Final = re.compile(
    r"--(dry|echo|warn-only|pty|hide|command-timeout|config|debug|list-depth|list-format"
    r"|prompt-for-sudo-password|write-pyc"
    r"|collection|no-dedupe)(=.*)?|-[RewpTfdDFc]"
)
#: Words from other programs, with our commands for them.
_INSTEAD: Final = {
    "clean": "invoke cache prune",
    "init": "invoke new NAME",
    "run": "invoke start NAME",
    "ls": "invoke list",
}
_NUMBER: Final = re.compile(r"-[0-9]+")


@dataclass(slots=True, kw_only=True)
class Asked:
    """The content of a command line.

    Attributes:
        task: The task with its values; None if only an option was given.
        mode: "run", "help", "list", "version", "complete" or "shell" (print a completion script).
        root: The checkout, from ``--search-root``.
        rest: The words after the option, for "complete" and "shell".
    """

    task: ParserContext | None = None
    mode: str = "run"
    root: str = ""
    rest: list[str] = field(default_factory=list)


def parse(words: Sequence[str], tasks: Mapping[str, ParserContext]) -> Asked:
    """Read a command line.

    Raises:
        UsageError: The task is unknown, or does not take these words.
    """
    asked, rest = Asked(), list(words)
    while rest and rest[0].startswith("-"):
        _leading(asked, rest, tasks)
        if asked.mode in ("version", "complete", "shell", "list"):
            asked.rest += rest
            return asked
    if rest and rest[0] in ("help", "version") and rest[0] not in tasks:
        asked.mode = rest.pop(0)
    if not rest or asked.mode == "version":
        asked.mode = "help" if asked.mode == "run" else asked.mode
        return asked
    name = rest.pop(0)
    if name not in tasks:
        if name in _INSTEAD:
            raise UsageError(f'unknown task "{name}"', hint=f"run: {_INSTEAD[name]}")
        raise UsageError(
            f'unknown task "{name}"',
            hint=suggestion(name, tasks) or "invoke --list shows the tasks",
        )
    asked.task = tasks[name]
    if asked.mode == "run":
        asked.mode = _Words(asked.task, rest, tasks).read()
    return asked


def _leading(asked: Asked, rest: list[str], tasks: Mapping[str, ParserContext]) -> None:
    """Take an option in front of the task."""
    word = rest.pop(0)
    name, equals, value = word.partition("=")
    if word in _SWITCHES:
        asked.mode = _SWITCHES[word]
    elif name in _VALUES:
        if not equals:
            value = rest.pop(0) if rest else ""
        if not value.strip():
            raise UsageError(f"{name} needs a value")
        if _VALUES[name] == "root":
            asked.root = value
        else:
            asked.mode, asked.rest = "shell", [value]
    else:
        named = next((each for each in rest if each in tasks), "")
        _refuse(word, _SWITCHES.keys() | _VALUES.keys(), "", tasks.get(named))


def _refuse(word: str, known: Iterable[str], name: str, task: ParserContext | None) -> NoReturn:
    """Refuse an unknown option.

    Args:
        known: The valid options.
        name: The task before the option, if there is one.
        task: The task of the whole line.

    Raises:
        UsageError: Always.
    """
    listing = (
        f"invoke {name} --help shows what it takes" if name else "invoke --help shows the options"
    )
    here = f"{name}: " if name else ""
    if _OF_INVOKE.fullmatch(word):
        if word.partition("=")[0] in ("--dry", "-R"):
            dry = task is not None and "--dry-run" in task.flags
            listing = (
                f"invoke {task.name} --dry-run shows what would be done"
                if task and dry
                else listing
            )
        raise UsageError(
            f"{here}{word.partition('=')[0]} is an option of Invoke, and has no effect on Slipway",
            hint=listing,
        )
    word = word.partition("=")[0]
    before = f"it comes before a task: invoke {word}" if word in _SWITCHES else None
    raise UsageError(
        f"{here}unknown option {word}", hint=before or suggestion(word, known) or listing
    )


class _Words:
    """The words after a task's name, one after the other."""

    def __init__(
        self, context: ParserContext, words: list[str], tasks: Mapping[str, ParserContext]
    ) -> None:
        self.context, self.words, self.tasks = context, words, tasks
        self.given: set[str] = set()
        self.single = [each for each in context.positional_args if each.kind is not list]
        self.many = next((each for each in context.positional_args if each.kind is list), None)

    def read(self) -> str:
        """Take all words; return "run" or "help"."""
        plain = False
        while self.words:
            word = self.words.pop(0)
            if word in ("--help", "-h") and not plain:
                return "help"
            if word == "--" and not plain:
                plain = True
            elif word.startswith("-") and not plain and word != "-":
                self._option(word)
            else:
                self._plain(word)
        missing = [each for each in self.single if each.default is None and not each.got_value]
        if missing:
            self._fail(f"{' '.join(word_of(each) for each in missing)} is missing")
        return "run"

    def _fail(self, message: str, hint: str | None = None) -> NoReturn:
        name = self.context.name
        raise UsageError(
            f"{name}: {message}", hint=hint or f"invoke {name} --help shows what it takes"
        )

    def _option(self, word: str) -> None:
        name, equals, value = word.partition("=")
        flags, inverse = self.context.flags, self.context.inverse_flags
        if name in inverse and not equals:
            self._set(flags[inverse[name]], False, name)
            return
        if name not in flags:
            _refuse(word, flags, str(self.context.name), self.context)
        argument = flags[name]
        if not argument.takes_value:
            if equals:
                self._fail(f"{name} takes no value", hint=f"leave it out, or write {name}")
            self._set(argument, True, name)
            return
        if not equals:
            value = self._next_value(argument, name)
        if not value.strip():
            self._fail(
                f"{name} has an empty value",
                hint="give it a value, or leave it out; an unset variable is empty",
            )
        self._set(argument, value, name)

    def _next_value(self, argument: Argument, name: str) -> str:
        """Take the word after an option as its value, unless it looks like an option."""
        following = self.words[0] if self.words else None
        number = argument.kind is int and following is not None and _NUMBER.fullmatch(following)
        if following is None or (following.startswith("-") and following != "-" and not number):
            hint = (
                f"a value that begins with a dash is written {name}=VALUE"
                if following
                else f"write {name} VALUE, or leave it out"
            )
            self._fail(f"{name} needs a value", hint=hint)
        return self.words.pop(0)

    def _set(self, argument: Argument, value: object, name: str) -> None:
        if argument.kind is not list:
            if argument.name in self.given or (argument.positional and argument.got_value):
                self._fail(f"{name} is given twice", hint="give it once")
            self.given.add(str(argument.name))
        if argument.kind is int:
            value = self._number(name, str(value))
        argument.set_value(value, cast=argument.kind is list)

    def _number(self, name: str, text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,9}", text):
            self._fail(f'{name} needs a whole number, not "{text}"')
        return int(text)

    def _plain(self, word: str) -> None:
        """Take a word that is no option."""
        argument = next((each for each in self.single if not each.got_value), self.many)
        if argument is None:
            hint = "one command line is one task" if word in self.tasks else None
            self._fail(f'unexpected "{word}"', hint=hint)
        if not word.strip():
            self._fail(
                f"{word_of(argument)} is empty",
                hint="give it a value, or leave it out; an unset variable is empty",
            )
        argument.set_value(word, cast=argument.kind is list)


def word_of(argument: Argument) -> str:
    """Return a word as help writes it."""
    return argument.names[0].removesuffix("s").upper().replace("-", "_") + (
        "..." if argument.kind is list else ""
    )


def flag_of(argument: Argument) -> str:
    """Return an argument's option."""
    return f"--{argument.names[0]}"
