"""Values given to parameters, compared with the accepted ones.

What goes in: an appliance's parameters, of a spec or of a manifest, and texts by name. What comes
out: nothing, or an error naming the value. No message contains a secret's value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from slipway.errors import UsageError, choose
from slipway.spec.parameters import value_problem

__all__ = ["Accepting", "require_accepted"]


class Accepting(Protocol):
    """A parameter, as far as its values are concerned."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def type(self) -> str:
        """The kind of its values."""

    @property
    def choices(self) -> Sequence[str]:
        """The only values accepted, if any are named."""


def require_accepted(
    appliance: str, parameters: Iterable[Accepting], given: Mapping[str, str]
) -> None:
    """Refuse values of unknown parameters, and values not accepted by theirs.

    Raises:
        UsageError: A parameter does not exist, or does not accept its value.
    """
    known = {parameter.name: parameter for parameter in parameters}
    for name, value in given.items():
        if name not in known:
            hint = choose(name, known)
            raise UsageError(f'{appliance} has no parameter "{name}"', hint=hint)
        problem = value_problem(known[name].type, value, known[name].choices)
        if problem:
            shown = "its value" if known[name].type == "secret" else f'"{value}"'
            raise UsageError(f"{name}: {shown} is not accepted", hint=f"it has to be {problem}")
