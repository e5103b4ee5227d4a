"""One command line is one task, and an option has its value: what is refused, and how."""

from __future__ import annotations

from copy import deepcopy
from functools import cache

import pytest
from invoke.parser import ParserContext

from slipway.commandline.arguments import Asked, parse
from slipway.commands import namespace
from slipway.errors import UsageError


@cache
def contexts() -> dict[str, ParserContext]:
    """What the real tasks take."""
    return {str(context.name): context for context in namespace().to_contexts()}


def read(*words: str) -> Asked:
    """Read a command line with the real tasks; what it gives a task is written into a copy."""
    return parse(
        words,
        {
            name: deepcopy(context) if name in words else context
            for name, context in contexts().items()
        },
    )


HELP = "\n  hint: invoke {} --help shows what it takes"
EMPTY = "\n  hint: give it a value, or leave it out; an unset variable is empty"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "--dry withdraw core --yes",
            (
                "--dry is an option of Invoke, and has no effect on Slipway\n"
                "  hint: invoke withdraw --dry-run shows what would be done"
            ),
        ),
        (
            "channels --version",
            "channels: unknown option --version\n  hint: it comes before a task: invoke --version",
        ),
        (
            "-R list",
            (
                "-R is an option of Invoke, and has no effect on Slipway\n"
                "  hint: invoke --help shows the options"
            ),
        ),
        (
            "-e list",
            (
                "-e is an option of Invoke, and has no effect on Slipway\n"
                "  hint: invoke --help shows the options"
            ),
        ),
        (
            "list -w",
            "list: -w is an option of Invoke, and has no effect on Slipway" + HELP.format("list"),
        ),
        (
            "build core --hide=out",
            "build: --hide is an option of Invoke, and has no effect on Slipway"
            + HELP.format("build"),
        ),
        (
            "withdraw core --yes --channel",
            "withdraw: --channel needs a value\n  hint: write --channel VALUE, or leave it out",
        ),
        (
            "withdraw core --channel --yes",
            (
                "withdraw: --channel needs a value\n"
                "  hint: a value that begins with a dash is written --channel=VALUE"
            ),
        ),
        ("withdraw core --channel=", "withdraw: --channel has an empty value" + EMPTY),
        ("gc nightly", 'gc: unexpected "nightly"\n  hint: one command line is one task'),
        ("gc twice", 'gc: unexpected "twice"' + HELP.format("gc")),
        ("promote a b", 'promote: unexpected "b"' + HELP.format("promote")),
        ("fetch --all", "fetch: unknown option --all" + HELP.format("fetch")),
        (
            "build core --jobs many",
            'build: --jobs needs a whole number, not "many"' + HELP.format("build"),
        ),
        (
            "fetch core --channel a --channel b",
            "fetch: --channel is given twice\n  hint: give it once",
        ),
        (
            "build core --all=yes",
            "build: --all takes no value\n  hint: leave it out, or write --all",
        ),
        ("promote", "promote: NAME is missing" + HELP.format("promote")),
    ],
)
def test_what_was_not_meant_is_refused(words: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(*words.split())
    assert str(caught.value) == f"error: {message}"


@pytest.mark.parametrize("task", sorted(namespace().task_names))
def test_no_option_of_any_task_goes_without_a_value_or_takes_an_empty_one(task: str) -> None:
    flags = [flag for flag, argument in contexts()[task].flags.items() if argument.takes_value]
    for flag in flags:
        for words in (
            (flag,),
            (flag, ""),
            (f"{flag}=",),
            (flag, " "),
            (f"{flag}=\t\n",),
            (flag, "--help"),
        ):
            with pytest.raises(UsageError) as caught:
                read(task, *words)
            assert caught.value.message in (
                f"{task}: {flag} needs a value",
                f"{task}: {flag} has an empty value",
            )


@pytest.mark.parametrize("word", ["", " ", "\t"])
def test_an_empty_word_is_no_name(word: str) -> None:
    with pytest.raises(UsageError) as caught:
        read("build", word)
    assert str(caught.value) == f"error: build: NAME... is empty{EMPTY}"


def test_words_and_options_come_in_any_order() -> None:
    asked = read(
        "--search-root",
        "/here",
        "build",
        "a",
        "--jobs=2",
        "b",
        "--format",
        "ova",
        "--format=raw",
        "--",
        "-c",
    )
    assert asked.task is not None
    values = asked.task.as_kwargs
    assert (asked.mode, asked.root, values["names"], values["jobs"], values["format"]) == (
        "run",
        "/here",
        ["a", "b", "-c"],
        2,
        ["ova", "raw"],
    )


@pytest.mark.parametrize(
    ("words", "mode", "task"),
    [
        ("", "help", None),
        ("-h", "help", None),
        ("--help", "help", None),
        ("help", "help", None),
        ("help build", "help", "build"),
        ("build --help", "help", "build"),
        ("-h build", "help", "build"),
        ("--version", "version", None),
        ("version", "version", None),
        ("--list", "list", None),
    ],
)
def test_help_and_version_are_slipways_own(words: str, mode: str, task: str | None) -> None:
    asked = read(*words.split())
    assert (asked.mode, asked.task.name if asked.task else None) == (mode, task)
