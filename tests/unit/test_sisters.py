"""Tasks that do the same kind of thing take the same options, and one name means one thing."""

from __future__ import annotations

import pytest

from slipway.commandline.manual import task_help
from slipway.commands import namespace

TASKS = {str(context.name): context for context in namespace().to_contexts()}
READING = ("channels", "export", "fetch", "verify")
CHANGING = (
    "catalog",
    "gc",
    "nightly",
    "promote",
    "prune",
    "publish",
    "recover",
    "refresh",
    "rollback",
    "withdraw",
)


def options(task: str) -> set[str]:
    return {str(argument.name) for argument in TASKS[task].args.values()}


@pytest.mark.parametrize("task", [*READING, *CHANGING])
def test_a_store_is_named_the_same_way_everywhere(task: str) -> None:
    assert options(task) >= {"root", "store", "endpoint_url", "keys", "json"}


def test_what_only_reads_promises_nothing_about_writers() -> None:
    assert {task for task in (*READING, *CHANGING) if "single_writer" not in options(task)} == {
        "export",
        "fetch",
        "verify",
    }


@pytest.mark.parametrize("task", [task for task in CHANGING if task != "nightly"])
def test_what_changes_a_channel_can_be_tried(task: str) -> None:
    assert "dry_run" in options(task)


@pytest.mark.parametrize("task", ["promote", "rollback", "withdraw", "fetch", "export"])
def test_a_release_is_named_by_build(task: str) -> None:
    assert "build" in options(task)


@pytest.mark.parametrize(
    "task", ["build", "publish", "releases", "check", "validate", "lock", "faults"]
)
def test_what_takes_appliances_takes_all(task: str) -> None:
    assert options(task) >= {"names", "all"}


@pytest.mark.parametrize("task", ["build", "publish", "releases", "reproduce", "export"])
def test_formats_are_named_by_format(task: str) -> None:
    assert TASKS[task].args["format"].kind is list


def test_one_name_is_one_thing() -> None:
    assert {task for task in TASKS if "to" in options(task)} == {"promote", "rollback"}


def test_help_shows_the_option_that_a_word_stands_for() -> None:
    file = ", or a file: an image or a seed"
    for task, more in (("refresh", ""), ("prune", ""), ("verify", file)):
        said = " ".join(task_help(TASKS[task], "").split())
        word = f"CHANNEL... a channel{more}; can be given again; --channel CHANNEL is the same "
        assert word in said
