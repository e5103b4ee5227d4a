"""A document and a model -> an instance of the model, or every way in which the document does not fit it.

What goes in: a :class:`~slipway.spec.text.Document` and a class of :mod:`slipway.spec.model`. What comes out: the
instance, or None with the document's ``errors`` filled. Invariants: one error a place, each with the whole key path,
what is wanted, what stands there as it was written, and a next step.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Mapping
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError

from slipway.errors import suggestion
from slipway.spec.patterns import PATTERNS
from slipway.spec.text import Document, KeyPath, dotted

__all__ = ["validate"]

Model = TypeVar("Model", bound=BaseModel)

_WANTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "model_type": "keys and values",
    "dict_type": "keys and values",
    "literal_error": "text",
}
_READ_AS = {"float": "a number", "int": "a number", "bool": "a boolean", "timestamp": "a date"}


def validate(document: Document, model: type[Model]) -> Model | None:
    """Fit a document's data to a model; None, and errors in the document, if it does not fit."""
    try:
        instance = model.model_validate(document.data)
    except ValidationError as failure:
        for detail in failure.errors(include_url=False):
            path: KeyPath = tuple(detail["loc"])
            _report(document, model, path, detail["type"], detail.get("ctx", {}), detail["input"])
        return None
    return None if document.errors else instance


def _report(document: Document, model: type[BaseModel], path: KeyPath, kind: str, context: Mapping[str, Any], value: Any) -> None:
    if path[-1:] == ("[key]",):
        # A key of free choice that may not be: pydantic's loc has it before this.
        wanted, example = PATTERNS[context["pattern"]]
        document.error(path[:-1], f"{dotted(path[:-2])}: {_quoted(value)} is not {wanted}", example, key=True)
        return
    name = dotted(path)
    if kind == "missing":
        _report_missing(document, model, path)
    elif kind == "extra_forbidden":
        known = _fields(model, path[:-1])
        here = f"known here: {', '.join(sorted(known))}"
        document.error(path, f"{name}: unknown key", suggestion(str(path[-1]), known) or here, key=True)
    elif kind == "literal_error" and isinstance(value, str | int) and path not in document.raw:
        choices = _choices(context)
        hint = f"remove the quotes: {value}" if value in choices else suggestion(str(value), choices)
        document.error(path, f"{name}: {_quoted(value)} is not one of {', '.join(choices)}", hint or "choose one of them")
    elif kind == "literal_error" and document.raw.get(path, ("", ""))[1] == "int" and isinstance(value, int):
        document.error(
            path, f"{name}: must be {', '.join(_choices(context))}, not {value}", "this is all that this version of slipway reads"
        )
    elif kind in _WANTED:
        _report_type(document, path, kind, value)
    elif kind == "string_pattern_mismatch":
        noun, hint = PATTERNS.get(context["pattern"], (f"of the form {context['pattern']}", None))
        document.error(path, f"{name}: {_quoted(value)} is not {noun}" if value else f"{name}: the text is empty", hint)
    elif kind == "slipway_twice":
        item = (*path, context["index"])
        document.error(item, f'{dotted(item)}: "{context["item"]}" stands in the list twice', "remove one")
    elif kind in ("too_short", "too_long"):
        limit = f"at least {context['min_length']}" if kind == "too_short" else f"at most {context['max_length']}"
        hint = "add one, or remove the line if there is a default" if kind == "too_short" else "remove some"
        document.error(path, f"{name}: {context['actual_length']} items where {limit} are wanted", hint)
    elif kind == "string_too_long":
        document.error(path, f"{name}: {len(value)} characters, at most {context['max_length']} wanted", "shorten it")
    elif kind in ("greater_than_equal", "less_than_equal"):
        small = kind == "greater_than_equal"
        limit = f"it has to be at {'least' if small else 'most'} {context['ge' if small else 'le']}"
        document.error(path, f"{name}: {value} is too {'small' if small else 'large'}", limit)
    else:
        # Unknown kinds of a later pydantic: its own words are better than none.
        document.error(path, f"{name}: {kind.replace('_', ' ')}", "docs/reference/spec.md says what is accepted")


def _report_missing(document: Document, model: type[BaseModel], path: KeyPath) -> None:
    info = _fields(model, path[:-1]).get(str(path[-1]))
    description = info.description if info is not None else None
    document.error(path, f"{dotted(path)}: this key is missing", f"add it: {description}" if description else "add it")


def _report_type(document: Document, path: KeyPath, kind: str, value: Any) -> None:
    """Something of another type than the wanted one."""
    wanted = _WANTED[kind]
    text, read_as = document.raw.get(path, ("", ""))
    if text:
        got = f", but YAML reads {text} as {_READ_AS.get(read_as, read_as)}"
        if kind == "int_type" and read_as in ("int", "float"):
            got = f", not {text}"
    else:
        got = ", not text" if isinstance(value, str) else ", not a list" if isinstance(value, tuple) else ", not keys and values"
    document.error(path, f"{dotted(path)}: must be {wanted}{got}", _type_hint(kind, value, text, read_as, path))


def _type_hint(kind: str, value: Any, text: str, read_as: str, path: KeyPath) -> str:
    """How to write what is wanted."""
    if text and kind in ("string_type", "literal_error"):
        truth = "write true or false, or " if read_as == "bool" and path[-1] in ("default", "choices") else ""
        return f'{truth}put quotes around it: "{text}"'
    if kind in ("string_type", "literal_error"):
        return "put quotes around a text that starts with [ or {"
    if kind == "int_type":
        bare = value.strip() if isinstance(value, str) else ""
        decimal = re.fullmatch(r"0|-?[1-9][0-9]*", bare)
        return f"remove the quotes: {bare}" if decimal else "write decimal digits, without a point or a leading zero"
    if kind == "bool_type":
        return "write true or false, without quotes"
    shown = f'"{text}"' if text else (value if isinstance(value, str) else "")
    if kind == "tuple_type":
        return f"write it as a list: [{shown}]" if shown and shown.isprintable() and len(shown) < 60 else "write it as a list: [a, b]"
    return 'write it as "key: value", one a line, or {key: value, ...}'


def _quoted(value: object) -> str:
    """A value for a message: on one line, not long."""
    text = str(value)
    shown = "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)
    return f'"{shown[:60]}..."' if len(shown) > 60 else f'"{shown}"'


def _choices(context: Mapping[str, Any]) -> list[str]:
    """The choices out of pydantic's "'tcp', 'udp' or 'sctp'"."""
    return [word.strip(" '") for word in str(context["expected"]).replace(" or ", ",").split(",")]


def _fields(model: type[BaseModel], path: KeyPath) -> dict[str, Any]:
    """The fields, by YAML key, of the model at a key path; empty where there is none."""
    kind: Any = model
    for part in path:
        kind = _item_type(kind, part)
    if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
        return {}
    return {info.alias or name: info for name, info in kind.model_fields.items()}


def _item_type(kind: Any, part: str | int) -> Any:
    """The type of the item at one part of a key path."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        fields = {info.alias or name: info for name, info in kind.model_fields.items()}
        return fields[str(part)].annotation if str(part) in fields else None
    while get_origin(kind) is typing.Annotated:
        kind = get_args(kind)[0]
    arguments = get_args(kind)
    if get_origin(kind) is tuple:
        return arguments[0]
    return arguments[1] if get_origin(kind) is dict else None
