"""Parameters that come by cloud-init: a file that it writes, or a section of the user data.

What goes in: /etc/slipway/parameters.yaml (a mapping of names to values, which the user data writes
by ``write_files``), and ``slipway: {parameters: ...}`` of the user data. What comes out: each
value's text as somebody wrote it.

YAML makes a number of 0123 and of 12:30, and cloud-init keeps the number. So the text is read where
cloud-init keeps the user data as it came: in ``user-data.txt.i``, a MIME message with every part.
(cloud-init, "Merging user data sections" and "Instance data"; YAML 1.1, "Scalar resolution".)
"""

from __future__ import annotations

import difflib
import email
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from parameters import Failure, Parameter

__all__ = ["FILE", "cloud_init", "given_file"]

FILE = "etc/slipway/parameters.yaml"
INSTANCE = "var/lib/cloud/instance"
#: Where cloud-init keeps what it was given, as it came.
KEPT = ("user-data.txt.i", "vendor-data.txt.i", "vendor-data2.txt.i")
SHAPE = 'cloud-init: "slipway: {parameters: {...}}" must map names to texts'


def given_file(root: Path, parameters: Sequence[Parameter]) -> dict[str, str]:
    """Read the file of values that the user data wrote.

    Raises:
        Failure: It is not a mapping of names to texts.
    """
    file = root / FILE
    if not file.exists():
        return {}
    given = load(file.read_bytes(), f"/{FILE}", raw=True)
    if not isinstance(given, dict) or not all(isinstance(value, str) for value in given.values()):
        raise Failure(f"/{FILE} must map names to texts")
    types = {parameter.name: parameter.type for parameter in parameters}
    return {
        name: boolean(value) if types.get(name) == "boolean" else value
        for name, value in given.items()
    }


def cloud_init(root: Path, parameters: Sequence[Parameter]) -> dict[str, str]:
    """Read the section ``slipway`` of the user data, as cloud-init has merged it.

    Raises:
        Failure: It has another shape, or a value's text is lost.
    """
    require_answer(root)
    file = root / INSTANCE / "cloud-config.txt"
    if not file.exists():
        return {}
    config = load(file.read_bytes(), "cloud-init's user data")
    section = config.get("slipway") if isinstance(config, dict) else None
    if section is None:
        return {}
    if not isinstance(section, dict):
        raise Failure(SHAPE)
    for name in section:
        if name != "parameters":
            near = (
                ': did you mean "parameters"?'
                if difflib.get_close_matches(str(name), ["parameters"])
                else ""
            )
            raise Failure(f'cloud-init: "slipway" of the user data has no "{name}"{near}')
    given = section.get("parameters") or {}
    if not isinstance(given, dict) or any(
        value is None or isinstance(value, (dict, list)) for value in given.values()
    ):
        raise Failure(SHAPE)
    types = {parameter.name: parameter.type for parameter in parameters}
    written = as_written(root)
    values, reasons = {}, []
    for key, value in given.items():
        name = str(key)
        texts = {value} if isinstance(value, str) else written.get(name, set())
        if len(texts) == 1:
            (text,) = texts
            values[name] = boolean(text) if types.get(name) == "boolean" else text
        else:
            reasons.append(
                f"{name}: cloud-init took its value for a number, a time or yes and no; "
                "quote it in the user data"
            )
    if reasons:
        raise Failure(*reasons)
    return values


def require_answer(root: Path) -> None:
    """Make sure that a cloud that there is has answered: its values would come too late for ever.

    cloud-init runs only where ds-identify has found a cloud or a seed; ``none`` is its source of
    last resort (cloud-init, "cloud-id").

    Raises:
        Failure: It has not.
    """
    if (root / "run/cloud-init/enabled").exists():
        name = root / "run/cloud-init/cloud-id"
        if not name.exists() or name.read_text().strip() in ("", "none"):
            raise Failure(
                "this machine is in a cloud, and cloud-init got no metadata from it (see: "
                "cloud-init status --long)"
            )


def as_written(root: Path) -> dict[str, set[str]]:
    """Return the texts that the user data has for each parameter, before YAML makes something of
    them.
    """
    found: dict[str, set[str]] = {}
    for part in parts(root):
        config = load(part, "cloud-init's user data", raw=True)
        section = config.get("slipway") if isinstance(config, dict) else None
        given = section.get("parameters") if isinstance(section, dict) else None
        for name, text in given.items() if isinstance(given, dict) else ():
            if isinstance(text, str):
                found.setdefault(name, set()).add(text)
    return found


def parts(root: Path) -> Iterator[bytes]:
    """Yield the cloud-configs that an instance was given.

    A template of one is none: its values are not in it.
    """
    for name in KEPT:
        file = root / INSTANCE / name
        if not file.exists():
            continue
        for part in email.message_from_bytes(file.read_bytes()).walk():
            payload = part.get_payload(decode=True)
            if part.get_content_type() == "text/cloud-config" and isinstance(payload, bytes):
                yield payload


def load(data: bytes, what: str, *, raw: bool = False) -> Any:
    """Read YAML; where ``raw``, every scalar is the text that stands there.

    Raises:
        Failure: It is not YAML, or nothing here reads YAML.
    """
    try:
        # of python3-yaml, which cloud-init depends on; not needed where there is no cloud
        import yaml
    except ImportError:
        raise Failure(f"{what} cannot be read: python3-yaml is not installed") from None

    try:
        return yaml.load(data, Loader=yaml.BaseLoader if raw else yaml.SafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Failure(f"{what} cannot be read: {' '.join(str(error).split())}") from None


def boolean(text: str) -> str:
    """Return YAML 1.1's words for true and false as "true" and "false", and any other text as it
    is.
    """
    words: Mapping[str, str] = {
        "yes": "true",
        "on": "true",
        "true": "true",
        "no": "false",
        "off": "false",
        "false": "false",
    }
    return words.get(text.lower(), text)
