"""Convert this program's objects to the plain values of templates.

What goes in: models, dataclasses and their contents. What comes out: str, int, float, bool, None,
and tuples, lists and dicts of these. Nothing else comes out: a template finds no method, no path of
this machine and no module behind a value.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

__all__ = ["Context", "plain"]


class _NotPlain(TypeError):
    """The value's type is not for templates."""


class Context(dict[str, Any]):
    """Names and plain values for a template; made by :meth:`of` only."""

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Context:
        """Make a context of values, each as plain data."""
        return (
            values
            if isinstance(values, cls)
            else cls({name: plain(value) for name, value in values.items()})
        )

    @cached_property
    def encoded(self) -> str:
        """The context as JSON."""
        return json.dumps(self)


def plain(value: Any) -> Any:
    """Convert a value to str, int, float, bool, None, and tuples, lists and dicts of these.

    A model becomes a dict by its keys in YAML. A dataclass becomes a dict without the fields that
    cannot be plain: a template has no use for a path of this machine, or for an object with
    methods.

    Raises:
        TypeError: The value is of another type.
    """
    kind = type(value)
    if value is None or kind in (str, int, float, bool):
        return value
    if kind in (list, tuple):
        return kind([plain(item) for item in value])
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    fields = getattr(kind, "model_fields", None)
    if fields is not None:
        return {info.alias or name: plain(getattr(value, name)) for name, info in fields.items()}
    if dataclasses.is_dataclass(value):
        return dict(_plain_fields(value))
    if isinstance(value, str):  # of a subclass
        return str.__str__(value)
    raise _NotPlain(f"a {kind.__name__} is not a plain value for a template")


def _plain_fields(value: Any) -> Iterator[tuple[str, Any]]:
    for field in dataclasses.fields(value):
        try:
            yield field.name, plain(getattr(value, field.name))
        except _NotPlain:
            continue
