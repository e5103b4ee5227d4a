"""The form for a seed on an appliance's page: a field for each parameter of a release.

What goes in: a manifest. What comes out: fields for ``www/appliance.html.j2``.

Invariants: a secret has none, because a page is no place to type one. Every value
accepted by the browser is accepted by first boot (:func:`slipway.spec.parameters.value_problem`).
"""

from __future__ import annotations

from typing import Any, Final

from slipway.records.manifest import Manifest

__all__ = ["PATTERNS", "fields"]

_LABEL: Final = r"[A-Za-z0-9]([A-Za-z0-9\-]{0,61}[A-Za-z0-9])?"
_BYTE: Final = r"(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_ADDRESS: Final = rf"{_BYTE}(\.{_BYTE}){{3}}"
#: What a whole value is, by type: for a pattern of HTML, which JavaScript reads with the flag "v".
PATTERNS: Final = {
    "hostname": rf"{_LABEL}(\.{_LABEL})*",
    "integer": r"-?(0|[1-9][0-9]{0,17})",
    "ipv4": _ADDRESS,
    "ipv4-cidr": rf"{_ADDRESS}/([0-9]|[12][0-9]|3[0-2])",
}
_TITLES: Final = {
    "hostname": "A host name, such as mail.example.org",
    "integer": "A whole number",
    "ipv4": "An IPv4 address, such as 192.0.2.1",
    "ipv4-cidr": "An IPv4 address with the length of its network, such as 192.0.2.1/24",
}


def fields(manifest: Manifest) -> list[dict[str, Any]]:
    """Return the fields of the form."""
    return [
        {
            "name": str(each["name"]),
            "summary": str(each.get("summary", "")),
            "default": "" if each.get("default") is None else str(each["default"]),
            "without": _without(each.get("default")),
            "choices": ["true", "false"]
            if each["type"] == "boolean"
            else [str(choice) for choice in each.get("choices") or ()],
            "pattern": PATTERNS.get(each["type"], ""),
            "title": _TITLES.get(each["type"], ""),
            "longest": 253 if each["type"] == "hostname" else 4096,
        }
        for each in manifest.parameters
        if each["type"] != "secret"
    ]


def _without(default: Any) -> str:
    """Return the effect of an absent value, as words for the form."""
    if default is None:
        return "asked for at the console"
    return f"default: {default}" if default != "" else "empty"
