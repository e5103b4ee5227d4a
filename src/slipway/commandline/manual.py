"""Help texts: of a task, and of the whole program.

What goes in: tasks as Invoke's parser knows them. What comes out: text, at most 100 columns wide.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterable, Mapping, Sequence

from invoke.parser import Argument, ParserContext

from slipway.commandline.arguments import flag_of, word_of
from slipway.errors import as_called

__all__ = ["overview", "task_help", "task_list"]

_WIDTH = 96


def _usage(context: ParserContext) -> str:
    """Return the usage line of a task."""
    words = []
    for argument in context.positional_args:
        word = word_of(argument)
        words.append(f"[{word}]" if argument.kind is list or argument.default is not None else word)
    options = [] if len(context.args) == len(context.positional_args) else ["[options]"]
    return as_called(" ".join(["Usage: invoke", str(context.name), *words, *options]))


def _option(argument: Argument) -> str:
    """Return an option as help writes it: its flag and the placeholder of its value."""
    flag = flag_of(argument)
    if argument.kind is bool:
        return flag.replace("--", "--[no-]", 1) if argument.default is True else flag
    return f"{flag} {'N' if argument.kind is int else argument.names[0].upper().replace('-', '_')}"


def task_help(context: ParserContext, docstring: str | None) -> str:
    """Return the help of a task: usage, description, arguments and options with their defaults."""
    lines = [_usage(context), ""]
    for paragraph in inspect.cleandoc(docstring or "").split("\n\n"):
        lines += [*textwrap.wrap(paragraph, _WIDTH), ""]
    positional = [(word_of(argument), argument) for argument in context.positional_args]
    options = [
        (_option(argument), argument)
        for argument in context.args.values()
        if not argument.positional
    ]
    for title, arguments in (("Arguments:", positional), ("Options:", options)):
        if not arguments:
            continue
        lines.append(title)
        width = min(28, max(len(name) for name, _ in arguments)) + 2
        for name, argument in arguments:
            told = "(default: " in (argument.help or "")  # a number stands for that
            plain = told or argument.kind in (bool, list) or argument.default in (None, "")
            text = (argument.help or "") + ("" if plain else f" (default: {argument.default})")
            if (
                argument.positional
                and argument.kind is list
                and not flag_of(argument).endswith("s")
            ):
                text += f"; {flag_of(argument)} {name.removesuffix('...')} is the same"
            wrapped = textwrap.wrap(text, _WIDTH - width) or [""]
            lines.append(f"  {name:<{width}}{wrapped[0]}".rstrip())
            lines.extend(" " * (width + 2) + line for line in wrapped[1:])
        lines.append("")
    return "\n".join(lines)


def task_list(families: Iterable[tuple[str, Sequence[str]]], summaries: Mapping[str, str]) -> str:
    """Return the tasks in groups, each with one line."""
    width = max(len(name) for name in summaries) + 2
    lines: list[str] = []
    for title, names in families:
        lines += [f"{title}:", *(_row(name, summaries[name], width) for name in names), ""]
    return "\n".join(lines)


def _row(name: str, summary: str, width: int) -> str:
    first = inspect.cleandoc(summary).partition("\n\n")[0]
    return (
        f"  {name:<{width}}{textwrap.shorten(first, _WIDTH - width, placeholder=' ...')}".rstrip()
    )


def overview(
    version: str, families: Iterable[tuple[str, Sequence[str]]], summaries: Mapping[str, str]
) -> str:
    """Return the help of the whole program."""
    return as_called(
        f"Slipway {version}: from a short declarative spec to a bootable, checked, "
        "published image\n\n"
        "Usage: ./run TASK [words and options]      one task on one command line\n"
        "       ./run TASK --help                   what it takes\n\n"
        f"{task_list(families, summaries)}\n{_EXAMPLES}"
    )


_EXAMPLES = """\
Examples:
  ./run new my-thing                          a new appliance, which builds as it is
  ./run build my-thing                        build it, boot it, run its checks
  ./run start my-thing --ssh-key ~/.ssh/id_ed25519.pub
  ./run keys init nightly                     once for each channel
  ./run publish my-thing --dry-run            what would be published

Options in front of a task:
  --help, -h       this text; --list, -l: the tasks alone; --version, -V: the version
  --print-completion-script SHELL             bash, zsh or fish

Environment:
  SLIPWAY_STORE    the store, where --store is not given
  SLIPWAY_MIRROR   the Debian mirror that builds use, where the host's own is not wanted
  SLIPWAY_IMAGE_MIRROR   the one that images use, where Debian's public ones are not wanted
  SLIPWAY_KEYS, SLIPWAY_KEY_BUNDLE, SLIPWAY_PASSPHRASE_FILE      keys of channels
  SLIPWAY_CACHE, SLIPWAY_CACHE_LIMIT_GIB, SLIPWAY_STATE          where things are kept
  SLIPWAY_MEMORY_MIB                          what a build works in; with less than it needs it \
works on disk
  SLIPWAY_QEMU                                which QEMU runs machines: host, tree or auto

Exit codes:
  0 done, 1 a bug, 2 usage, 3 a spec is wrong, 4 this host lacks something, 5 a \
build or check failed,
  6 the store refused, 7 verification failed, 130 Ctrl-C, 143 SIGTERM
"""
