"""Whatever a spec's value holds, it stays one value in the files that it is written into, or the
spec is refused.

Every text that a spec can hold is in the table; a key that is added is missing in it until somebody
has looked where its value goes.
"""

from __future__ import annotations

import json
import re
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel

from slipway.builders._settings import settings
from slipway.errors import SpecErrors
from slipway.packages.mirror import source_text
from slipway.spec.library import Library
from slipway.spec.model import Spec

#: The one in C, where there is one.
DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
HOSTILE = (
    "a\nb",
    "a\rb",
    "a\x0bb",
    "a\0b",
    "a\x1b[2Jb",
    "a\x85b",
    "a\u2028b",
    "a\u202eb",
    "a\n[Service]\nUser=root",
    "%H",
    "a %H %% %m",
    "a:b",
    "a::/root:/bin/sh",
    "-",
    "-a",
    "--help",
    "a\\",
    "a\\ ",
    'a" b "c',
    "a' b 'c",
    "$(id)",
    "${HOME}",
    "`id`",
    "a b",
    " a",
    "a ",
    "#a",
    ";a",
    "[a]",
    "",
    "/a:b",
    "/a%H",
    "/a b",
    "/a\\",
    "/a\n/b",
    "/../a",
    "http://a/%H",
    "http://a/ b",
    "http://a/\nb",
)
#: Key -> YAML around a value; what is not in a list stands alone. None: the value is not of free
#: choice.
USER = {"name": "one"}
TIMER = {"name": "report", "calendar": "daily", "command": "/bin/true"}
SOURCE = {
    "name": "more",
    "url": "http://a/b",
    "suite": "main",
    "signed_by": "/etc/apt/keyrings/a.asc",
}
DOWNLOAD = {"url": "http://a/b", "sha256": "0" * 64, "path": "/srv/file"}
VOLUME = {"name": "data", "path": "/srv/data", "size_gib": 1}
PARAMETER = {"name": "value", "type": "string", "default": "a", "summary": "A value"}
FIELDS: Mapping[str, Callable[[str], dict[str, Any]]] = {
    "packages": lambda text: {"packages": [text]},
    "services.enable": lambda text: {"services": {"enable": [text]}},
    "services.disable": lambda text: {"services": {"disable": [text]}},
    "services.exposed.service": lambda text: {
        "services": {"enable": ["a"], "exposed": [{"service": text, "exposure": 1, "reason": "a"}]}
    },
    "services.exposed.reason": lambda text: {
        "services": {"enable": ["a"], "exposed": [{"service": "a", "exposure": 1, "reason": text}]}
    },
    "ports.purpose": lambda text: {"ports": [{"port": 1, "protocol": "tcp", "purpose": text}]},
    "ports.interface": lambda text: {
        "ports": [{"port": 1, "protocol": "tcp", "purpose": "a", "interface": text}]
    },
    "parameters.name": lambda text: {"parameters": [PARAMETER | {"name": text}]},
    "parameters.default": lambda text: {"parameters": [PARAMETER | {"default": text}]},
    "parameters.choices": lambda text: {"parameters": [PARAMETER | {"choices": ["a", text]}]},
    "parameters.summary": lambda text: {"parameters": [PARAMETER | {"summary": text}]},
    "instances.name": lambda text: {"instances": [{"name": text}]},
    "instances.parameters": lambda text: {
        "parameters": [PARAMETER],
        "instances": [{"name": "b", "parameters": {"value": text}}],
    },
    "name": lambda text: {"name": text},
    "version": lambda text: {"version": text},
    "summary": lambda text: {"summary": text},
    "category": lambda text: {"category": text},
    "base": lambda text: {"base": text},
    "include": lambda text: {"include": [text]},
    "interfaces.name": lambda text: {"interfaces": [{"name": text}]},
    "interfaces.summary": lambda text: {"interfaces": [{"name": "a", "summary": text}]},
    "tools": lambda text: {"tools": [text]},
    "volumes.name": lambda text: {"volumes": [VOLUME | {"name": text}]},
    "volumes.path": lambda text: {"volumes": [VOLUME | {"path": text}]},
    "volumes.summary": lambda text: {"volumes": [VOLUME | {"summary": text}]},
    "formats": lambda text: {"formats": [text]},
    "users.name": lambda text: {"users": [USER | {"name": text}]},
    "users.summary": lambda text: {"users": [USER | {"summary": text}]},
    "users.home": lambda text: {"users": [USER | {"home": text}]},
    "users.shell": lambda text: {"users": [USER | {"shell": text}]},
    "users.groups": lambda text: {"users": [USER | {"groups": [text]}]},
    "groups": lambda text: {"groups": [text]},
    "sysctl": lambda text: {"sysctl": {"kernel.hostname": text}},
    "sysctl.[key]": lambda text: {"sysctl": {text: "1"}},
    "sources.name": lambda text: {"sources": [SOURCE | {"name": text}]},
    "sources.url": lambda text: {"sources": [SOURCE | {"url": text}]},
    "sources.suite": lambda text: {"sources": [SOURCE | {"suite": text}]},
    "sources.components": lambda text: {"sources": [SOURCE | {"components": [text]}]},
    "sources.signed_by": lambda text: {"sources": [SOURCE | {"signed_by": text}]},
    "pypi": lambda text: {"pypi": [text]},
    "downloads.url": lambda text: {"downloads": [DOWNLOAD | {"url": text}]},
    "downloads.sha256": lambda text: {"downloads": [DOWNLOAD | {"sha256": text}]},
    "downloads.path": lambda text: {"downloads": [DOWNLOAD | {"path": text}]},
    "secrets": lambda text: {"secrets": [text]},
    "timers.name": lambda text: {"timers": [TIMER | {"name": text}]},
    "timers.calendar": lambda text: {"timers": [TIMER | {"calendar": text}]},
    "timers.command": lambda text: {"timers": [TIMER | {"command": "/bin/true " + text}]},
    "timers.user": lambda text: {"timers": [TIMER | {"user": text}]},
    "timers.summary": lambda text: {"timers": [TIMER | {"summary": text}]},
    "timezone": lambda text: {"timezone": text},
    "locale": lambda text: {"locale": text},
    "keyboard": lambda text: {"keyboard": text},
}
#: Keys with a few values, and the keys of a mapping that have to be parameters' names.
CHOSEN = {
    "kernel",
    "keep",
    "ports.protocol",
    "parameters.type",
    "root.mode",
    "formats",
    "instances.parameters.[key]",
}
#: A command is in systemd's own language (docs/reference/spec.md): specifiers and variables are its
#: author's, in the guest.
OF_A_LANGUAGE = {"timers.command"}
#: Values whose files have a writer of their own, which escapes: JSON for parameters, filters of
#: templates for the rest.
ESCAPED = {"parameters.default", "parameters.choices", "instances.parameters"}


def texts(kind: Any, path: str = "") -> Iterator[str]:
    """The keys of a model that hold text, in models, lists and mappings too."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        for name, field in kind.model_fields.items():
            yield from texts(field.annotation, f"{path}.{name}".lstrip("."))
    elif kind is str or (get_origin(kind) is typing.Literal and isinstance(get_args(kind)[0], str)):
        yield path
    elif get_origin(kind) is dict:
        key, value = get_args(kind)
        yield from texts(key, f"{path}.[key]")
        yield from texts(value, path)
    elif get_origin(kind) is typing.Annotated:
        yield from texts(get_args(kind)[0], path)
    else:
        for inner in get_args(kind):
            yield from texts(inner, path)


def test_every_text_of_a_spec_is_in_the_table() -> None:
    assert set(texts(Spec)) == set(FIELDS) | CHOSEN


def files_of(spec: Spec) -> dict[str, str]:
    """What systemd, apt and others read, by path."""
    found = {
        f"/sources/{source.name}": source_text(source, signed_by=source.signed_by)
        for source in spec.sources
    }
    return found | settings(spec)


@pytest.mark.parametrize("field", FIELDS)
def test_a_value_stays_one_value(field: str, root: Path, write: Callable[..., Path]) -> None:
    accepted, library = 0, Library(root)
    folder = write("", {"files/etc/apt/keyrings/a.asc": "", "files/etc/apt/keyrings/b.asc": ""})
    for text in HOSTILE:
        head = {
            "schema": 1,
            "name": "web",
            "version": "1.0.0",
            "summary": "A web server",
            "category": "network",
        }
        (folder / "appliance.yaml").write_text(yaml.dump(head | FIELDS[field](text), Dumper=DUMPER))
        try:
            spec = library.load("web").spec
        except SpecErrors as refused:
            assert all(
                error.hint and error.where and error.where.line for error in refused.errors
            ), (field, text)
            continue
        accepted += 1
        for path, content in files_of(spec).items():
            check_file(field, path, content)
        if field not in ESCAPED:
            assert not re.search("[\x00-\x1f\x7f-\x9f\u2028\u202e]", text), (field, text)
        json.loads(json.dumps(spec.model_dump(mode="json")))
    if field.endswith(("summary", "reason", "purpose")):
        assert accepted >= 8, "a text for people may hold quotes and dollars"


def check_file(field: str, path: str, content: str) -> None:
    """Every line of a file has the shape that it has for a harmless value."""
    lines = content.splitlines()
    assert content == "".join(f"{line}\n" for line in content.split("\n")[:-1])
    assert len(lines) == content.count("\n")
    assert not any(line.rstrip().endswith("\\") for line in lines)
    if field not in OF_A_LANGUAGE and not path.startswith(("/sources", "/etc/sysctl.d")):
        assert "%" not in content.replace("%%", ""), path
    if path.endswith("slipway-users.conf") and "sysusers" in path:
        for line in lines:
            assert re.fullmatch(
                r'u [a-z0-9_-]+ - "(?:[^"\\:%]|\\["\\]|%%)*" /[^ :"%]* /[^ :"%]*'
                r"|[gm] [a-z0-9_-]+(?: [a-z0-9_-]+)?",
                line,
            ), line
    elif path.startswith("/sources"):
        assert [line.partition(":")[0] for line in lines] == [
            "Types",
            "URIs",
            "Suites",
            "Components",
            "Signed-By",
        ]
        assert len(lines[1].split()) == 2
    elif path.endswith("sysctl.d/50-slipway.conf"):
        assert [line.partition(" = ")[0] for line in lines] == [lines[0].partition(" = ")[0]]
    elif path.endswith((".service", ".timer")):
        sections = [line for line in lines if line.startswith("[")]
        assert sections == (
            ["[Unit]", "[Service]"]
            if path.endswith(".service")
            else ["[Unit]", "[Timer]", "[Install]"]
        )
        assert sum(line.startswith("User=") for line in lines) == path.endswith(".service")
        assert ("NoNewPrivileges=yes" in lines) == path.endswith(".service")
    elif "repart.d" in path:
        copied = [line for line in lines if line.startswith("CopyFiles=")]
        assert len(copied) == 1
        assert copied[0].count(":") == 1
