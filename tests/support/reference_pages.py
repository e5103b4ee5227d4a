"""The pages of docs/reference/ that are made from the code.

What goes in: the tasks, the models of a spec, the formats, the shapes of ``--json``. What comes
out: Markdown. A test compares it with what is in git; run as a program, this module writes it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import json_shapes
from slipway.commandline.manual import task_help
from slipway.commands import families, namespace
from slipway.errors import CALLED
from slipway.spec.model import Spec

__all__ = ["PAGES", "REMEDY", "commands", "keys_of_a_spec"]

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = ROOT / "docs/reference"
REMEDY: Final = "run: PYTHONPATH=src:tests/support python tests/support/reference_pages.py"
#: Around the part of spec.md that is made.
_BEGIN: Final = "<!-- from here: made from the model -->\n"
_END: Final = "<!-- to here -->\n"
_TYPES: Final = {"string": "text", "integer": "number", "boolean": "true or false"}

_COMMANDS: Final = """\
# Commands

The help of every task, as `./run TASK --help` prints it; `slipway TASK` takes the same words. \
Exit codes are in
[exit-codes.md](exit-codes.md), documents of `--json` in [json.md](json.md). This page is made \
from the code
(`tests/support/reference_pages.py`), and a test compares the two.

"""


def commands() -> str:
    """Return docs/reference/commands.md, made in a process of its own: Invoke gives a task's help
    away once.
    """
    environment = {**os.environ, CALLED: "./run", "PYTHONPATH": os.pathsep.join(sys.path)}
    argv = [sys.executable, __file__, "--commands"]
    return subprocess.run(
        argv, env=environment, check=True, capture_output=True, text=True, timeout=60
    ).stdout


def _commands() -> str:
    tasks = namespace()
    contexts = {str(context.name): context for context in tasks.to_contexts()}
    parts = [
        _COMMANDS,
        *(
            f"* [{title}](#{title.lower().replace(' ', '-').replace(',', '')})\n"
            for title, _ in families()
        ),
    ]
    for title, family in families():
        parts.append(f"\n## {title}\n")
        for name in family:
            text = task_help(contexts[name], tasks[name].__doc__).strip("\n")
            parts.append(f"\n### `{name}`\n\n```text\n{text}\n```\n")
    return "".join(parts)


def keys_of_a_spec() -> str:
    """Return docs/reference/spec.md with its tables of keys made from the model; its prose
    stays.
    """
    page = (FOLDER / "spec.md").read_text(encoding="utf-8")
    before, begin, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    assert begin and end, "docs/reference/spec.md has lost the comments around its tables"
    schema = Spec.model_json_schema()
    objects = _objects(schema)
    places = {name: place for name, (place, _) in objects.items()}
    parts = [before, begin, "\n", _table(schema, schema, places)]
    for name, (place, description) in objects.items():
        parts.append(
            f"\n### `{place}`\n\n{description}\n\n{_table(schema['$defs'][name], schema, places)}"
        )
    return "".join([*parts, "\n", end, after])


def _objects(schema: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Return the objects inside of a spec by the model's name: the key that holds each, and what it
    is.
    """
    found: dict[str, tuple[str, str]] = {}

    def follow(properties: Mapping[str, Any], prefix: str) -> None:
        for key, value in properties.items():
            listed = "items" in value
            name = _reference(value["items"] if listed else value)
            if name and name not in found:
                place = f"{prefix}{key}{'[]' if listed else ''}"
                found[name] = (place, schema["$defs"][name]["description"])
                follow(schema["$defs"][name]["properties"], f"{place}.")

    follow(schema["properties"], "")
    return found


def _reference(value: Mapping[str, Any]) -> str:
    return str(value.get("$ref", "")).rpartition("/")[2]


def _table(model: Mapping[str, Any], schema: Mapping[str, Any], places: Mapping[str, str]) -> str:
    rows = []
    required = model.get("required", ())
    for key in [*required, *(key for key in model["properties"] if key not in required)]:
        value = model["properties"][key]
        # pydantic leaves out a description that is the model's own.
        text = value.get("description") or schema["$defs"][_reference(value)]["description"]
        text = text.replace("<", "&lt;")
        default = "required" if key in required else _default(value)
        kind, place = _kind(value), places.get(_reference(value.get("items", value)))
        kind = f"[{kind}](#{re.sub('[^a-z]', '', place)})" if place else kind
        rows.append(f"| `{key}` | {kind} | {default} | {text} |\n")
    return "| key | value | default | meaning |\n|-|-|-|-|\n" + "".join(rows)


def _default(value: Mapping[str, Any]) -> str:
    default = value.get("default")
    if default in (None, "", [], {}) or isinstance(default, dict):
        return ""
    if isinstance(default, list):
        return ", ".join(
            f"`{each['name'] if isinstance(each, dict) else each}`" for each in default
        )
    return f"`{json.dumps(default)}`" if isinstance(default, bool) else f"`{default}`"


def _kind(value: Mapping[str, Any]) -> str:
    """Return what a key takes, for people."""
    if "const" in value:
        return f"`{value['const']}`"
    if "enum" in value:
        return ", ".join(f"`{each}`" for each in value["enum"])
    if "anyOf" in value:
        kinds = list(
            dict.fromkeys(_kind(each) for each in value["anyOf"] if each.get("type") != "null")
        )
        return " or ".join(kinds)
    if _reference(value):
        return "object"
    if value["type"] == "array":
        inner = _kind(value["items"])
        return f"list of {inner}s" if inner in ("object", "text") else f"list: {inner}"
    if value["type"] == "object":
        return "names and values"
    limits = [value[name] for name in ("minimum", "maximum") if name in value]
    return f"{limits[0]} to {limits[1]}" if len(limits) == 2 else _TYPES[value["type"]]


#: What makes each page.
PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "commands.md": commands,
    "json.md": json_shapes.page,
    "spec.md": keys_of_a_spec,
}


if __name__ == "__main__" and "--commands" in sys.argv:
    print(_commands(), end="")
elif __name__ == "__main__":
    for each, make in PAGES.items():
        (FOLDER / each).write_text(make(), encoding="utf-8")
