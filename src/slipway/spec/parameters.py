"""The values accepted by a parameter.

What goes in: a parameter's type and choices, and a value as text. What comes out: the problem with
it, or None.

This file is also in each image, as /usr/lib/slipway/accepted.py: first boot imports it. So it needs
only the standard library of the oldest base's Python, and an instance refuses no value accepted
here.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence

__all__ = ["value_problem"]

#: RFC 1123, 2.1, in lower or upper case, without a trailing dot.
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_LONGEST = 4096
_SHORTEST_SECRET = 8
#: Control characters, line breaks of Unicode, and surrogates: no UTF-8 file can hold those (RFC
#: 3629, 3).
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def value_problem(kind: str, value: str, choices: Sequence[str] = ()) -> str | None:
    """Return the requirement missed by a value; None if the value is accepted.

    Args:
        kind: The parameter's type: string, hostname, integer, boolean, ipv4, ipv4-cidr or secret.
        choices: The only values accepted, if any.
    """
    if _CONTROL.search(value):
        return "text without control characters"
    if len(value) > _LONGEST:
        return f"at most {_LONGEST} characters"
    if choices and value not in choices:
        return f"one of {', '.join(choices)}"
    if kind == "integer":
        return None if _INTEGER.fullmatch(value) else "a whole number"
    if kind == "boolean":
        return None if value in ("true", "false") else "true or false"
    if kind == "hostname":
        good = len(value) <= 253 and all(_LABEL.fullmatch(label) for label in value.split("."))
        return None if good else 'a host name, such as "mail.example.org"'
    if kind == "ipv4":
        return None if _is_address(value) else 'an IPv4 address, such as "192.0.2.1"'
    if kind == "ipv4-cidr":
        address, slash, length = value.partition("/")
        good = (
            bool(slash)
            and _is_address(address)
            and bool(re.fullmatch(r"[0-9]|[12][0-9]|3[0-2]", length))
        )
        return (
            None
            if good
            else 'an IPv4 address with the length of its network, such as "192.0.2.1/24"'
        )
    if kind == "secret" and len(value) < _SHORTEST_SECRET:
        return f"at least {_SHORTEST_SECRET} characters"
    return None


def _is_address(value: str) -> bool:
    try:
        ipaddress.IPv4Address(value)
    except ValueError:
        return False
    return True
