"""The shapes of ``--json``: as a page, and as a judge of documents."""

from __future__ import annotations

import dataclasses
import inspect
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from slipway.commandline.answer import ERROR_FORMAT, Problem
from slipway.commands import channel_shapes, shapes

__all__ = ["judge", "page", "shape_of"]

_INTRODUCTION = """# What tasks print with `--json`

With `--json` a task prints one document on standard output and everything else on standard error, \
whether it succeeds or
not. Every document has `format`, which names its shape and the shape's version: a field that goes \
or changes its meaning
gets the next number, a new field keeps it. So ignore fields that you do not know. Times are in \
UTC (ISO 8601), sizes in
bytes, ids complete. This page is made from the code (`tests/support/json_shapes.py`), and a test \
compares the two.

| field of every document | | |
|-|-|-|
| `format` | text | `slipway/TASK/VERSION` |
| `exit_code` | number | the task's [exit code](exit-codes.md) |
| `errors` | list | what went wrong; empty after success |

Each of `errors`:

"""
_FAILURES = f"""
A task that fails before it has anything to tell prints `{ERROR_FORMAT}`: the three fields above, \
and `task`. One that fails
later prints its own document, with what it did until then, and `errors`. `build --publish` tells \
what `publish` does.

<!-- example: jq is not among what Slipway needs -->
```console
$ ./run publish --all --json >published.json
$ jq -r '.moved[] | .appliance + " " + .release' published.json
```
"""


def shape_of(task: str) -> type[Any]:
    """Return the shape of a task's document."""
    return {**shapes.SHAPES, **channel_shapes.SHAPES}[task]


def page() -> str:
    """Return docs/reference/json.md."""
    parts = [_INTRODUCTION, _table(Problem), _FAILURES]
    for title, table in (
        ("Images and this machine", shapes.SHAPES),
        ("Stores and channels", channel_shapes.SHAPES),
    ):
        parts.append(f"\n## {title}\n")
        by_shape: dict[type[Any], list[str]] = {}
        for task, shape in table.items():
            by_shape.setdefault(shape, []).append(task)
        for shape, tasks in by_shape.items():
            parts.append(f"\n### {', '.join(f'`{task}`' for task in tasks)}: `{shape.FORMAT}`\n\n")
            _, _, extra = inspect.cleandoc(shape.__doc__ or "").partition("\n\n")
            if extra:
                parts.append(f"{' '.join(extra.split())}\n\n")
            parts.append(_table(shape))
    return "".join(parts)


def _table(shape: type[Any]) -> str:
    return "| field | | |\n|-|-|-|\n" + "".join(
        f"| {name} | {kind} | {text} |\n" for name, kind, text in _rows(shape, "")
    )


def _rows(shape: type[Any], prefix: str) -> Iterator[tuple[str, str, str]]:
    for name, hint in get_type_hints(shape, include_extras=True).items():
        if get_origin(hint) is not Annotated:
            continue
        inner, text = get_args(hint)
        kind, nested = _kind(inner)
        yield f"`{prefix}{name}`", kind, text
        if nested:
            yield from _rows(nested, f"{prefix}{name}{'[]' if kind == 'list' else ''}.")


def _kind(hint: Any) -> tuple[str, type[Any] | None]:
    """Return a type's name for people, and the shape inside."""
    if dataclasses.is_dataclass(hint):
        return "object", hint  # type: ignore[return-value]
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        kind, nested = _kind(arguments[0])
        return f"{kind} or null", nested
    if origin is Sequence:
        kind, nested = _kind(arguments[0])
        return ("list", nested) if nested else (f"list of {kind}s", None)
    if origin is Mapping:
        return "object", None
    return {str: "text", int: "number", float: "number", bool: "true or false"}[hint], None


def judge(data: Any, shape: Any, place: str = "") -> Iterator[str]:
    """Yield what is not as a shape says."""
    if get_origin(shape) is Annotated:
        shape = get_args(shape)[0]
    origin, arguments = get_origin(shape), get_args(shape)
    if shape is Any or origin in (Union, types.UnionType):
        if arguments and data is not None:
            yield from judge(data, arguments[0], place)
    elif dataclasses.is_dataclass(shape):
        yield from _judge_fields(data, shape, place)
    elif origin is Sequence and isinstance(data, list):
        for number, each in enumerate(data):
            yield from judge(each, arguments[0], f"{place}[{number}]")
    elif origin is Mapping and isinstance(data, dict):
        for name, each in data.items():
            yield from judge(each, arguments[1], f"{place}.{name}")
    elif type(data) is not shape and not (shape is float and type(data) is int):
        yield f"{place}: {data!r} is no {shape}"


def _judge_fields(data: Any, shape: Any, place: str) -> Iterator[str]:
    """Yield what is not as the fields of a shape say."""
    hints = {
        name: hint
        for name, hint in get_type_hints(shape, include_extras=True).items()
        if get_origin(hint) is Annotated
    }
    if not isinstance(data, dict) or set(data) != set(hints):
        yield f"{place or 'the document'}: {sorted(data)}, not {sorted(hints)}"
        return
    for name, hint in hints.items():
        yield from judge(data[name], hint, f"{place}.{name}")


if __name__ == "__main__":
    print(page(), end="")
