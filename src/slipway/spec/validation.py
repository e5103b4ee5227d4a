"""A document and a model -> an instance of the model, or every misfit.

What goes in: a :class:`~slipway.spec.text.Document` and a class of :mod:`slipway.spec.model`. What
comes out: the instance, or None with the document's ``errors`` filled. Invariant: each place has
one error, with the whole key path, the expected value, the present one as written, and a next step.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError

from slipway.errors import suggestion
from slipway.spec.patterns import PATTERNS
from slipway.spec.text import Document, KeyPath, dotted

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

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
    """Fit a document's data to a model; return None, with errors in the document, on a misfit."""
    try:
        instance = model.model_validate(document.data)
    except ValidationError as failure:
        for detail in failure.errors(include_url=False):
            _report(document, model, detail)
        return None
    return None if document.errors else instance


def _report(document: Document, model: type[BaseModel], detail: ErrorDetails) -> None:
    """Report a finding of pydantic in the document's words."""
    path: KeyPath = tuple(detail["loc"])
    kind, value, context = detail["type"], detail["input"], detail.get("ctx", {})
    if path[-1:] == ("[key]",):
        # A mapping's key of the wrong form: in pydantic's loc, the key comes before "[key]".
        wanted, example = PATTERNS[context["pattern"]]
        document.error(
            path[:-1], f"{dotted(path[:-2])}: {_quoted(value)} is not {wanted}", example, key=True
        )
    elif kind == "missing":
        _report_missing(document, model, path)
    elif kind == "extra_forbidden":
        known = _fields(model, path[:-1])
        here = f"known here: {', '.join(sorted(known))}"
        hint = suggestion(str(path[-1]), known) or here
        document.error(path, f"{dotted(path)}: unknown key", hint, key=True)
    elif kind == "slipway_twice":
        item = (*path, context["index"])
        document.error(
            item, f'{dotted(item)}: "{context["item"]}" is in the list twice', "remove one"
        )
    elif kind == "literal_error" and _is_choice(document, path, value):
        problem, hint = _no_choice(context, value, number=path in document.raw)
        document.error(path, f"{dotted(path)}: {problem}", hint)
    elif kind in _WANTED:
        _report_type(document, path, kind, value)
    elif kind in _PROBLEMS:
        problem, next_step = _PROBLEMS[kind](context, value)
        document.error(path, f"{dotted(path)}: {problem}", next_step)
    else:
        # Unknown kinds of a later pydantic: its own words are better than none.
        document.error(
            path,
            f"{dotted(path)}: {kind.replace('_', ' ')}",
            "docs/reference/spec.md says what is accepted",
        )


def _is_choice(document: Document, path: KeyPath, value: Any) -> bool:
    """Return True if a value has the type of choices: a text, or a number written as one."""
    if path not in document.raw:
        return isinstance(value, str | int)
    return document.raw[path][1] == "int" and isinstance(value, int)


def _no_choice(context: Mapping[str, Any], value: str | int, *, number: bool) -> tuple[str, str]:
    choices = _choices(context)
    if number:
        return (
            f"must be {', '.join(choices)}, not {value}",
            "this is all that this version of slipway reads",
        )
    hint = f"remove the quotes: {value}" if value in choices else suggestion(str(value), choices)
    return f"{_quoted(value)} is not one of {', '.join(choices)}", hint or "choose one of them"


def _no_match(context: Mapping[str, Any], value: Any) -> tuple[str, str | None]:
    noun, hint = PATTERNS.get(context["pattern"], (f"of the form {context['pattern']}", None))
    return (f"{_quoted(value)} is not {noun}" if value else "the text is empty"), hint


def _too_few(context: Mapping[str, Any], _: Any) -> tuple[str, str]:
    count, limit = context["actual_length"], context["min_length"]
    return (
        f"{count} items, expected at least {limit}",
        "add one, or remove the line if there is a default",
    )


def _too_many(context: Mapping[str, Any], _: Any) -> tuple[str, str]:
    count, limit = context["actual_length"], context["max_length"]
    return f"{count} items, expected at most {limit}", "remove some"


def _too_long(context: Mapping[str, Any], value: str) -> tuple[str, str]:
    return f"{len(value)} characters, at most {context['max_length']} wanted", "shorten it"


def _too_small(context: Mapping[str, Any], value: int) -> tuple[str, str]:
    return f"{value} is too small", f"it has to be at least {context['ge']}"


def _too_large(context: Mapping[str, Any], value: int) -> tuple[str, str]:
    return f"{value} is too large", f"it has to be at most {context['le']}"


#: Kinds of pydantic's errors -> the problem of a value of the right type, and the next step.
_PROBLEMS: Final[Mapping[str, Callable[[Mapping[str, Any], Any], tuple[str, str | None]]]] = {
    "string_pattern_mismatch": _no_match,
    "too_short": _too_few,
    "too_long": _too_many,
    "string_too_long": _too_long,
    "greater_than_equal": _too_small,
    "less_than_equal": _too_large,
}


def _report_missing(document: Document, model: type[BaseModel], path: KeyPath) -> None:
    info = _fields(model, path[:-1]).get(str(path[-1]))
    description = info.description if info is not None else None
    document.error(
        path,
        f"{dotted(path)}: this key is missing",
        f"add it: {description}" if description else "add it",
    )


def _report_type(document: Document, path: KeyPath, kind: str, value: Any) -> None:
    """Report a value of the wrong type."""
    wanted = _WANTED[kind]
    text, read_as = document.raw.get(path, ("", ""))
    if text:
        got = f", but YAML reads {text} as {_READ_AS.get(read_as, read_as)}"
        if kind == "int_type" and read_as in ("int", "float"):
            got = f", not {text}"
    else:
        got = (
            ", not text"
            if isinstance(value, str)
            else ", not a list"
            if isinstance(value, tuple)
            else ", not keys and values"
        )
    document.error(
        path, f"{dotted(path)}: must be {wanted}{got}", _type_hint(kind, value, text, read_as, path)
    )


def _type_hint(kind: str, value: Any, text: str, read_as: str, path: KeyPath) -> str:
    """Return how to write a value of the right type."""
    if text and kind in ("string_type", "literal_error"):
        truth = (
            "write true or false, or "
            if read_as == "bool" and path[-1] in ("default", "choices")
            else ""
        )
        return f'{truth}put quotes around it: "{text}"'
    if kind in ("string_type", "literal_error"):
        return "put quotes around a text that starts with [ or {"
    if kind == "int_type":
        bare = value.strip() if isinstance(value, str) else ""
        decimal = re.fullmatch(r"0|-?[1-9][0-9]*", bare)
        return (
            f"remove the quotes: {bare}"
            if decimal
            else "write decimal digits, without a point or a leading zero"
        )
    if kind == "bool_type":
        return "write true or false, without quotes"
    shown = f'"{text}"' if text else (value if isinstance(value, str) else "")
    if kind == "tuple_type":
        return (
            f"write it as a list: [{shown}]"
            if shown and shown.isprintable() and len(shown) < 60
            else "write it as a list: [a, b]"
        )
    return 'write it as "key: value", one a line, or {key: value, ...}'


def _quoted(value: object) -> str:
    """Return a value for a message: on one line, not long."""
    text = str(value)
    shown = "".join(
        character if character.isprintable() else repr(character)[1:-1] for character in text
    )
    return f'"{shown[:60]}..."' if len(shown) > 60 else f'"{shown}"'


def _choices(context: Mapping[str, Any]) -> list[str]:
    """Return the choices in pydantic's "'tcp', 'udp' or 'sctp'"."""
    return [word.strip(" '") for word in str(context["expected"]).replace(" or ", ",").split(",")]


def _fields(model: type[BaseModel], path: KeyPath) -> dict[str, Any]:
    """Return the fields, by YAML key, of the model at a key path; none if there is no model."""
    kind: Any = model
    for part in path:
        kind = _item_type(kind, part)
    if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
        return {}
    return {info.alias or name: info for name, info in kind.model_fields.items()}


def _item_type(kind: Any, part: str | int) -> Any:
    """Return the type of the item at one part of a key path."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        fields = {info.alias or name: info for name, info in kind.model_fields.items()}
        return fields[str(part)].annotation if str(part) in fields else None
    while get_origin(kind) is typing.Annotated:
        kind = get_args(kind)[0]
    arguments = get_args(kind)
    if get_origin(kind) is tuple:
        return arguments[0]
    return arguments[1] if get_origin(kind) is dict else None
