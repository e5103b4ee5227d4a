"""YAML text -> plain data, with the position of every key and value.

What goes in: the bytes of one file. What comes out: a :class:`Document`, or every error of the file
at once. Invariants: the data is made of dict, tuple, str, int, bool and float only. An int or a
bool is there only if its text is the one way to write it (``5``, ``true``). Everything else read by
YAML 1.1 (https://yaml.org/type/) as something other than text (``24.10``, ``no``, ``0644``,
``12:30``, a date) becomes a float. No model accepts one, and its text is kept for the error
message. Nothing is expanded: there are no aliases, no tags and no merge keys.
"""

from __future__ import annotations

import contextlib
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from slipway.errors import SpecError, Where

__all__ = ["Document", "KeyPath", "dotted", "read_document"]

KeyPath = tuple[str | int, ...]

#: Larger files are refused before they are parsed.
MAX_BYTES: Final = 1 << 18
#: Deeper nesting is an error; no spec needs more than five levels.
MAX_DEPTH: Final = 20
#: The C parser recurses once a level and overflows the stack near 20,000; a text this short cannot
#: get there.
SAFE_LENGTH: Final = 4096

_Loader: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG: Final = "tag:yaml.org,2002:"
_DECIMAL: Final = re.compile(r"0|-?[1-9][0-9]{0,17}")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufffe\uffff]")
_TAB: Final = re.compile(r"^ *\t", re.MULTILINE)
#: libyaml's words for a syntax error -> ours, and the hint. Its words change between versions and
#: are never shown.
_PROBLEMS: Final = {
    "mapping values are not allowed in this context": (
        'a ": " cannot stand here',
        'put quotes around a value that holds ": ", and check the indentation',
    ),
    "found character that cannot start any token": (
        "a text cannot start with this character",
        "put quotes around a text that starts with @, `, % or another special character",
    ),
    "did not find expected ',' or ']'": (
        "this list is not closed",
        "close the list that is opened with [ on line {line}",
    ),
    "did not find expected ',' or '}'": (
        "this mapping is not closed",
        "close the mapping that is opened with {{ on line {line}",
    ),
    "did not find expected '-' indicator": (
        "this is not an item of the list",
        'put "- " before each item of the list that starts on line {line}',
    ),
    "did not find expected key": (
        "this is not a key of the mapping",
        "put the keys of the mapping that starts on line {line} below each other",
    ),
    "could not find expected ':'": (
        'this key has no ":" after it',
        'put ":" after each key, and quotes around a long text',
    ),
    "found unknown escape character": (
        "this escape does not exist",
        'write \\\\ for a backslash between ", or use single quotes',
    ),
}
_SYNTAX: Final = ("this is no YAML", "look for a missing quote, bracket or colon here and above")


@dataclass(slots=True)
class Document:
    """One file's data and the position of everything in it; lines and columns count from 1."""

    path: Path
    data: dict[str, Any] = field(default_factory=dict)
    values: dict[KeyPath, tuple[int, int]] = field(default_factory=dict)
    keys: dict[KeyPath, tuple[int, int]] = field(default_factory=dict)
    raw: dict[KeyPath, tuple[str, str]] = field(default_factory=dict)
    """Text and YAML type of every unquoted scalar except texts."""
    errors: list[SpecError] = field(default_factory=list)
    bad: set[KeyPath] = field(default_factory=set)
    """Key paths with a reported error."""

    def where(self, path: KeyPath, *, key: bool = False) -> Where:
        """Return the position of a value (or of its key).

        If it is not in the file, return that of the nearest value around it.
        """
        places = self.keys if key else self.values
        while path and path not in places:
            path = path[:-1]
            places = self.values
        return Where(self.path, *places.get(path, (1, 1)))

    def error(
        self, path: KeyPath, message: str, hint: str | None = None, *, key: bool = False
    ) -> None:
        """Report an error at a key path, unless one was reported there or around it."""
        if not self.known_bad(path):
            self.bad.add(path)
            self.errors.append(SpecError(message, where=self.where(path, key=key), hint=hint))

    def known_bad(self, path: KeyPath) -> bool:
        """Return True if an error was reported for the value at this path or one around it."""
        return any(path[:length] in self.bad for length in range(len(path) + 1))


def dotted(path: KeyPath) -> str:
    """Return a key path as text: ``ports[2].protocol``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(
        "."
    )


def read_document(file: Path, shown: Path | None = None) -> Document:
    """Read a YAML file with one mapping.

    Args:
        file: Its path.
        shown: Its path in errors, if different.

    Returns:
        Its data; ``errors`` holds everything wrong with it, and unreadable parts are left out.
    """
    document = Document(shown or file)
    text = _text(file, document)
    node = _compose(text, document) if text is not None else None
    if isinstance(node, yaml.MappingNode):
        document.data = _build(node, (), document)
    elif node is not None:
        kind = "a list" if isinstance(node, yaml.SequenceNode) else "a single value"
        document.values[()] = _position(node)
        document.error(
            (),
            f"the file holds {kind} instead of keys and values",
            'write one "key: value" a line',
        )
    else:
        document.bad.add(())
    return document


def _text(file: Path, document: Document) -> str | None:
    """Return the file's text; None, with an error, if it cannot be YAML."""
    try:
        status = file.stat()
        size = status.st_size
        if not stat.S_ISREG(status.st_mode):
            document.errors.append(
                SpecError(
                    "this has to be a plain file", where=Where(document.path), hint="replace it"
                )
            )
            return None
        content = file.read_bytes() if size <= MAX_BYTES else b""
    except FileNotFoundError:
        document.errors.append(
            SpecError(
                "there is no such file",
                where=Where(document.path),
                hint="write it, or remove the folder",
            )
        )
        return None
    except OSError as error:
        message = f"cannot be read: {(error.strerror or str(error)).lower()}"
        document.errors.append(
            SpecError(message, where=Where(document.path), hint="check its permissions")
        )
        return None
    if size > MAX_BYTES:
        message = f"the file has {size} bytes; at most {MAX_BYTES} are read"
        document.errors.append(
            SpecError(message, where=Where(document.path), hint="large files belong into files/")
        )
        return None
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        before = content[: error.start]
        where = Where(
            document.path, before.count(b"\n") + 1, len(before.rpartition(b"\n")[2].decode()) + 1
        )
        document.errors.append(
            SpecError(
                f"byte 0x{content[error.start]:02x} is not UTF-8",
                where=where,
                hint="save the file as UTF-8",
            )
        )
        return None
    for match in _CONTROL.finditer(text):
        where = _offset(document.path, text, match.start())
        document.errors.append(
            SpecError(f"control character U+{ord(match[0]):04X}", where=where, hint="remove it")
        )
        return None
    return text


def _offset(path: Path, text: str, offset: int) -> Where:
    before = text[:offset]
    return Where(path, before.count("\n") + 1, len(before.rpartition("\n")[2]) + 1)


def _compose(text: str, document: Document) -> yaml.Node | None:
    """Return the text's node tree; None after an error."""
    try:
        recurses = len(text) > SAFE_LENGTH or _Loader is yaml.SafeLoader
        if (recurses or "&" in text or "*" in text) and not _scan(text, document, _Loader):
            return None
        node: yaml.Node | None = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        if _within_limits(text, document):
            _report_syntax(error, text, document)
        return None
    if node is None or node.tag == _TAG + "null":
        hint = 'start with "schema: 1"; "invoke new NAME" writes a whole one'
        document.errors.append(
            SpecError("the file is empty", where=Where(document.path), hint=hint)
        )
        return None
    return node


def _within_limits(text: str, document: Document) -> bool:
    """Return False after reporting a limit of ours that a broken text exceeds.

    libyaml has a limit for nesting too, and reads a line ahead. So it can refuse a text before it
    hands over the event beyond our limit. PyYAML's parser in Python has no limit, and is slow: it
    reads again only if a line opens enough to exceed ours.
    """
    if document.errors:
        return False
    marks = ("[", "{", "- ", "? ", ": ")
    deep = any(sum(map(line.count, marks)) >= MAX_DEPTH for line in text.splitlines())
    with contextlib.suppress(yaml.MarkedYAMLError):
        _scan(text, document, yaml.SafeLoader if deep else _Loader)
    return not document.errors


def _scan(text: str, document: Document, loader: type[Any]) -> bool:
    """Return False after reporting anchors, aliases and deep nesting; nothing is built."""
    depth = 0
    anchors = set()
    for event in yaml.parse(text, Loader=loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(
            event, yaml.CollectionEndEvent
        )
        where = _mark(document.path, event.start_mark)
        if depth > MAX_DEPTH:
            message = f"nested more than {MAX_DEPTH} levels deep"
            hint = "a spec needs five at most"
            document.errors.append(SpecError(message, where=where, hint=hint))
            return False
        anchor = getattr(event, "anchor", None)
        if anchor is not None and anchor not in anchors:
            anchors.add(anchor)
            sign = "*" if isinstance(event, yaml.AliasEvent) else "&"
            message = f"{sign}{anchor}: anchors and aliases are not supported"
            hint = (
                "write the value out wherever it is needed, or put quotes around a text that "
                f"starts with {sign}"
            )
            document.errors.append(SpecError(message, where=where, hint=hint))
    return not document.errors


def _report_syntax(error: yaml.MarkedYAMLError, text: str, document: Document) -> None:
    """Report a parser's error in our words; tabs all at once."""
    problem = error.problem or "cannot be parsed"
    mark = error.problem_mark or error.context_mark
    tabs = list(_TAB.finditer(text))
    if tabs and ("tab" in problem or "cannot start any token" in problem):
        for tab in tabs:
            where = _offset(document.path, text, tab.end() - 1)
            document.errors.append(
                SpecError(
                    "a tab in the indentation", where=where, hint="YAML is indented with spaces"
                )
            )
        return
    if "another document" in problem:
        said, hint = "a second document starts here", 'a file holds one document: remove the "---"'
    elif "end of stream" in problem and error.context_mark:
        mark, said, hint = error.context_mark, "this quote is never closed", "close it"
    else:
        said, hint = _PROBLEMS.get(problem, _SYNTAX)
        hint = hint.format(line=error.context_mark.line + 1 if error.context_mark else 1)
    document.errors.append(SpecError(said, where=_mark(document.path, mark), hint=hint))


def _mark(path: Path, mark: Any) -> Where:
    return Where(path, mark.line + 1, mark.column + 1) if mark else Where(path)


def _position(node: yaml.Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _build(node: yaml.Node, path: KeyPath, document: Document) -> Any:
    """Return a node's plain data; note every position, and every error that needs no model."""
    document.values[path] = _position(node)
    kind = node.tag.removeprefix(_TAG)
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node, kind, path, document)
    if len(path) >= MAX_DEPTH:
        document.error(
            path, f"nested more than {MAX_DEPTH} levels deep", "a spec needs five at most"
        )
        return {}
    if kind != ("map" if isinstance(node, yaml.MappingNode) else "seq"):
        document.error(
            path, f"{_label(path)}the tag {_tag(node.tag)} is not supported", "remove it"
        )
        return {}
    if isinstance(node, yaml.SequenceNode):
        return tuple(
            _build(item, (*path, index), document) for index, item in enumerate(node.value)
        )
    return _mapping(node, path, document)


def _mapping(node: yaml.Node, path: KeyPath, document: Document) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for key_node, value_node in node.value:
        place = _position(key_node)
        where = Where(document.path, *place)
        if not isinstance(key_node, yaml.ScalarNode):
            document.errors.append(
                SpecError(
                    f"{_label(path)}a key must be text", where=where, hint='write "key: value"'
                )
            )
            continue
        key = key_node.value
        if key in data:
            first = document.keys[(*path, key)][0]
            message = f"{dotted((*path, key))}: this key is repeated, first on line {first}"
            document.errors.append(
                SpecError(message, where=where, hint="merge the two, or remove one")
            )
            continue
        document.keys[(*path, key)] = place
        data[key] = _build(value_node, (*path, key), document)
    return data


def _scalar(
    node: yaml.ScalarNode, kind: str, path: KeyPath, document: Document
) -> str | int | bool | float:
    text: str = node.value
    if kind == "str":
        return text
    if node.style in ("'", '"', "|", ">") or kind not in (
        "int",
        "float",
        "bool",
        "null",
        "timestamp",
        "merge",
        "value",
    ):
        document.error(
            path, f"{_label(path)}the tag {_tag(node.tag)} is not supported", "remove it"
        )
        return text
    if kind == "null":
        hint = (
            "give one, or remove the line"
            if not text
            else f'give one, remove the line, or put quotes around a text: "{text}"'
        )
        document.error(path, f"{_label(path)}there is no value", hint)
        return 0.0
    document.raw[path] = (text, kind)
    if kind == "int" and _DECIMAL.fullmatch(text):
        return int(text)
    if kind == "bool" and text in ("true", "false"):
        return text == "true"
    return text if kind in ("merge", "value") else 0.0


def _label(path: KeyPath) -> str:
    return f"{dotted(path)}: " if path else ""


def _tag(tag: str) -> str:
    return "!!" + tag.removeprefix(_TAG) if tag.startswith(_TAG) else tag
