"""Templates: a file with placeholders and a context -> text.

What goes in: a template file and values. What comes out: the text, or a :class:`~slipway.errors.SpecError` with the
template's line. Invariants: a name that does not exist is an error, never an empty text; a template cannot call what
reaches outside of it (Jinja2's sandbox); nothing is escaped by itself, because no two target languages agree, so each
value passes through the filter of the language that it is written into:

=======  ==================================================================================================
sh       one word of a POSIX shell; a list becomes words with spaces between them
hcl      a quoted HCL2 string, a number, true or false, or a list of these
ini      the right side of ``key=`` in systemd units and files like them; ``%`` becomes ``%%``, and what no
         such file can hold (line breaks, surrounding blanks, a ``\\`` at the end) is an error
xml      text or an attribute's value, without the quotes
json     any value; ``yaml`` likewise, as YAML's flow style
=======  ==================================================================================================
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from jinja2 import StrictUndefined, Template, TemplateError, TemplateSyntaxError, Undefined, nodes
from jinja2.exceptions import TemplateRuntimeError
from jinja2.meta import find_undeclared_variables
from jinja2.sandbox import ImmutableSandboxedEnvironment

from slipway.errors import SpecError, Where, suggestion

__all__ = ["FILTERS", "check", "environment", "render", "render_text"]


_ELSEWHERE: Final = "change the value, or write it into a file of another kind"
_SYNTAX: Final = "{{ value | sh }} writes a value, {% if value %} ... {% endif %} asks; a template includes no other"


class _Refused(TemplateRuntimeError):
    """A value that a target language has no way to write; a hint may follow on a second line."""


def _plain(value: object) -> str:
    """A text, a number or a boolean as text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    if isinstance(value, Undefined):
        str(value)  # raises
    if value is None:
        raise _Refused("there is no value here\nask first: {% if value is not none %}")
    kind = "a list" if isinstance(value, list | tuple) else f"a {type(value).__name__}"
    raise _Refused(f"a text or a number is wanted here, not {kind}\nwrite its parts one by one")


def _sh(value: object) -> str:
    if isinstance(value, list | tuple):
        return " ".join(_sh(item) for item in value)
    text = _plain(value)
    if "\0" in text:
        raise _Refused(f"a shell's word cannot hold a NUL\n{_ELSEWHERE}")
    return shlex.quote(text)


def _hcl(value: object) -> str:
    """HCL native syntax, "quoted templates": https://github.com/hashicorp/hcl/blob/main/hclsyntax/spec.md.

    A dollar or percent sign before anything but a harmless character is written by its number: ``$${`` would be read
    as ``${`` by HCL, but not in every place, and not by every parser.
    """
    if isinstance(value, list | tuple):
        return f"[{', '.join(_hcl(item) for item in value)}]"
    if isinstance(value, int | float):
        return _plain(value)
    text = _plain(value).replace("\\", "\\\\").replace('"', '\\"')
    text = text.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
    text = re.sub(r"[$%](?![A-Za-z0-9 (./_-])|[\x00-\x1f\x7f-\x9f]", lambda match: f"\\u{ord(match[0]):04x}", text)
    return f'"{text}"'


def _ini(value: object) -> str:
    text = _plain(value)
    if re.search(r"[\x00-\x08\x0a-\x1f\x7f\x85\u2028\u2029]", text):
        raise _Refused(f"a value in an ini file cannot hold a line break or a control character\n{_ELSEWHERE}")
    if text != text.strip():
        raise _Refused(f"a value in an ini file cannot start or end with a blank\n{_ELSEWHERE}")
    if text.endswith("\\"):
        raise _Refused(f"a value in an ini file cannot end with a backslash\n{_ELSEWHERE}")
    return text.replace("%", "%%")


def _xml(value: object) -> str:
    text = _plain(value)
    if re.search("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", text):
        raise _Refused(f"XML 1.0 has no way to write this control character\n{_ELSEWHERE}")
    references = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;", "\n": "&#10;", "\r": "&#13;", "\t": "&#9;"}
    return "".join(references.get(character, character) for character in text)


def _json(value: object) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, default=_model)
    except (TypeError, ValueError) as error:
        raise _Refused(f"JSON has no way to write this value: {error}\n{_ELSEWHERE}") from None


def _yaml(value: object) -> str:
    """JSON is YAML, but for a few characters that YAML wants escaped (YAML 1.1, 5.1, 5.4)."""
    return re.sub("[\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff\ufffe\uffff]", lambda match: f"\\u{ord(match[0]):04x}", _json(value))


def _model(value: object) -> object:
    """A pydantic model as plain data."""
    dump = getattr(value, "model_dump", None)
    if dump is None:
        raise TypeError(f"a {type(value).__name__}")
    return dump(mode="json", by_alias=True)


FILTERS: Final[Mapping[str, Callable[[object], str]]] = {
    "sh": _sh,
    "hcl": _hcl,
    "ini": _ini,
    "xml": _xml,
    "json": _json,
    "yaml": _yaml,
}


class _Undefined(StrictUndefined):
    """An undefined name or attribute whose error says what there is instead."""

    @property
    def _undefined_message(self) -> str:
        if self._undefined_hint:
            return self._undefined_hint
        name = str(self._undefined_name)
        owner = type(self._undefined_obj)
        known: tuple[str, ...] = tuple(getattr(owner, "model_fields", ())) or tuple(getattr(owner, "__slots__", ()))
        near = suggestion(name, known)
        return f'"{name}" is not in {owner.__name__}' + (f"\n{near}" if near else f"\nthere is: {', '.join(known)}" if known else "")


@lru_cache(maxsize=1)
def environment() -> ImmutableSandboxedEnvironment:
    """The one environment of all templates."""
    made = ImmutableSandboxedEnvironment(
        undefined=_Undefined, autoescape=False, keep_trailing_newline=True, trim_blocks=True, lstrip_blocks=True
    )
    made.filters |= FILTERS
    return made


def render(path: Path, context: Mapping[str, Any], *, shown: Path | None = None) -> str:
    """The text of a template file with the values of a context.

    Args:
        shown: How the file's path is written in errors, if otherwise.

    Raises:
        SpecError: The template is wrong, or uses what the context does not have.
    """
    status = path.stat()
    template, _ = _compiled(path, status.st_mtime_ns, status.st_size, shown or path)
    return _render(template, context, shown or path)


def render_text(text: str, context: Mapping[str, Any], *, name: str = "template") -> str:
    """Like :func:`render`, for a template that is not a file; ``name`` stands for its path in errors."""
    return _render(_compile(text, Path(name))[0], context, Path(name))


def check(path: Path, context: Mapping[str, Any], *, shown: Path | None = None) -> list[SpecError]:
    """What is wrong with a template file: every name that the context lacks, also in parts that are not reached."""
    shown = shown or path
    try:
        status = path.stat()
        template, names = _compiled(path, status.st_mtime_ns, status.st_size, shown)
        missing = [(name, line) for name, line in names if name not in context]
        if not missing:
            _render(template, context, shown)
        return [_unknown(name, line, context, shown) for name, line in missing]
    except SpecError as error:
        return [error]


def _unknown(name: str, line: int, context: Mapping[str, Any], shown: Path) -> SpecError:
    hint = suggestion(name, context) or f"there is: {', '.join(sorted(context))}"
    return SpecError(f'"{name}" is undefined', where=Where(shown, line), hint=hint)


Compiled = tuple[Template, tuple[tuple[str, int], ...]]


@lru_cache(maxsize=4096)
def _compiled(path: Path, changed_ns: int, size: int, shown: Path) -> Compiled:
    """A template file, compiled once as long as it is the same file."""
    try:
        return _compile(path.read_text(encoding="utf-8"), shown)
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise SpecError("a template has to be UTF-8", where=Where(shown, line), hint="without .j2 it is copied as it is") from None


def _compile(text: str, shown: Path) -> Compiled:
    """A compiled template, and the names that it takes from its context with their lines."""
    made = environment()
    try:
        tree = made.parse(text, filename=str(shown))
        undeclared = find_undeclared_variables(tree) - made.globals.keys()
        names = {(node.name, node.lineno) for node in tree.find_all(nodes.Name) if node.ctx == "load" and node.name in undeclared}
        code = made.compile(text, filename=str(shown))
    except TemplateSyntaxError as error:
        message = _lower((error.message or "wrong syntax").partition(". ")[0])
        unknown = re.fullmatch(r"no filter named '(.*)'", message)
        hint = (suggestion(unknown[1], FILTERS) or f"there is: {', '.join(FILTERS)}") if unknown else _SYNTAX
        raise SpecError(f"template: {message}", where=Where(shown, error.lineno), hint=hint) from None
    return Template.from_code(made, code, made.make_globals(None)), tuple(sorted(names, key=lambda item: (item[1], item[0])))


def _render(template: Template, context: Mapping[str, Any], shown: Path) -> str:
    try:
        return template.render(context)
    except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
        place = Where(shown, _line(error.__traceback__, str(shown)))
        message, _, hint = str(error).partition("\n")
        if not isinstance(error, TemplateError):
            message = f"{type(error).__name__}: {message}"
        elif isinstance(error, _Refused) or message.startswith('"'):
            pass
        else:
            message = f"template: {_lower(message)}"
        raise SpecError(message, where=place, hint=hint or _SYNTAX) from None


def _line(traceback: TracebackType | None, name: str) -> int:
    """The line of the template in which an error came up: Jinja2 writes it into the traceback."""
    line = 0
    while traceback:
        if traceback.tb_frame.f_code.co_filename == name:
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    return line


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:].rstrip(".")
