"""Every option of every task, with values that nobody means: a documented exit code, and never a
traceback.

What a task does with the right values is tested elsewhere. Here the root is empty, so nothing is
built or booted.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from invoke.parser import ParserContext

from example_release import write_example
from slipway.channels.keys import init
from slipway.commands import namespace

ROOT = Path(__file__).parents[2]
DOCUMENTED = {0, 2, 3, 4, 5, 6, 7, 130, 143}
#: What runs the checkout's own tests, or measures for minutes, whatever the root is.
LONG = {"test", "lint", "mutants", "bench", "deps"}
TASKS = {str(context.name): context for context in namespace().to_contexts()}
WRONG = {
    int: ["0", "-1", "999999999", "many"],
    str: ["nosuch", "../../x", "-", "a\nb", "\x1b[2J", "x" * 5000, "%s{}", "/dev/null", "/"],
}
#: Runs command lines one after the other in one process: most of a command's time is its start.
SCRIPT = """
import contextlib, io, json, sys, traceback
from slipway.commandline.program import main
for words in json.loads(sys.stdin.read()):
    said, error, code = io.StringIO(), io.StringIO(), 0
    sys.stdin = io.StringIO()
    try:
        with contextlib.redirect_stderr(error):
            main(["slipway", "--search-root=.", *words])
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1 if ended.code else 0
    except BaseException:
        code, _ = 1, error.write(traceback.format_exc())
    sys.__stderr__.write(json.dumps([words, code, error.getvalue()[-3000:]]) + "\\n")
"""


def usual(context: ParserContext) -> list[str]:
    """Words that a task wants at least."""
    words = {
        "promote": ["--to=stable"],
        "withdraw": ["--build=b1", "--reason=no"],
        "export": ["--format=ova"],
    }.get(str(context.name), [])
    single = [
        each for each in context.positional_args if each.kind is not list and each.default is None
    ]
    return [*("nightly" if each.name == "channel" else "example" for each in single), *words]


def lines_of(context: ParserContext) -> list[list[str]]:
    """Command lines of a task: as it is usually called, and each option with each wrong value."""
    name, base = str(context.name), usual(context)
    found = [[name, *base]]
    for flag, argument in context.flags.items():
        given = [word for word in base if not word.startswith(f"{flag}=")]
        if argument.positional and argument.kind is not list and argument.default is None:
            given = given[1:]
        if not argument.takes_value:
            found.append([name, *given, flag])
            continue
        values = WRONG[int if argument.kind is int else str]
        found += [[name, *given, f"{flag}={value}"] for value in values]
        found += [[name, *given, flag], [name, *given, flag, ""]]
    return found


@pytest.mark.parametrize("task", sorted(TASKS.keys() - LONG))
def test_whatever_is_given_the_exit_code_is_documented(task: str, tmp_path: Path) -> None:
    write_example(tmp_path / "build/example/1.0.0-b1", 1)
    for channel in ("nightly", "stable"):
        init(channel, tmp_path / "keys")
    (tmp_path / "appliances").mkdir()
    (tmp_path / "templates").symlink_to(ROOT / "templates")
    (tmp_path / "docs").mkdir()
    (tmp_path / "src/slipway").mkdir(parents=True)
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "TMPDIR")}
    environment = {
        **kept,
        "PYTHONPATH": str(ROOT / "src"),
        "HOME": str(tmp_path / "home"),
        "SLIPWAY_CACHE": str(tmp_path / "cache"),
    }
    # The whole machine is no example: what is read or written there depends on who else works on
    # it.
    whole = {f"--{option}=/" for option in ("keys", "root", "out", "built", "folder")}
    lines = [words for words in lines_of(TASKS[task]) if not whole & set(words)]
    # The store and the keys are named as an option would be; SLIPWAY_ variables would start the
    # process again.
    lines = [
        [*words, f"--keys={tmp_path / 'keys'}"]
        if takes(task, "keys") and not has(words, "--keys")
        else words
        for words in lines
    ]
    argv = [sys.executable, "-P", "-c", SCRIPT]
    done = subprocess.run(
        argv,
        input=json.dumps(lines),
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
    )
    ended = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("[[")]
    assert len(ended) == len(lines), done.stderr[-2000:]
    wrong = [
        (words, code, error)
        for words, code, error in ended
        if code not in DOCUMENTED or "Traceback" in error
    ]
    assert not wrong, "\n\n".join(f"{words} -> {code}\n{error}" for words, code, error in wrong)


def takes(task: str, option: str) -> bool:
    return option in TASKS[task].args


def has(words: list[str], flag: str) -> bool:
    return any(word == flag or word.startswith(f"{flag}=") for word in words)
