"""Parameters that come by cloud-init: a file that it writes, or a section of the user data.

What goes in: /etc/slipway/parameters.yaml (a mapping of names to values, which the user data writes
by ``write_files``), and ``slipway: {parameters: ...}`` of the user data. What comes out: each
value's text as somebody wrote it. A value that somebody gave and cloud-init lost is a failure: an
appliance with defaults in its place would be a surprise.

YAML makes a number of 0123 and of 12:30, and cloud-init keeps the number. So the text is read where
cloud-init keeps the user data as it came: in ``user-data.txt.i``, a MIME message with every part.
(cloud-init, "Merging user data sections" and "Instance data"; YAML 1.1, "Scalar resolution".)
"""

from __future__ import annotations

import binascii
import contextlib
import difflib
import email
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from parameters import Failure, Parameter

__all__ = ["FILE", "cloud_init", "given_file"]

FILE = "etc/slipway/parameters.yaml"
INSTANCE = "var/lib/cloud/instance"
#: Where cloud-init keeps what it was given, as it came.
KEPT = ("user-data.txt.i", "vendor-data.txt.i", "vendor-data2.txt.i")
#: What cloud-init has merged: where two of these have one key, the first has it.
MERGED = ("cloud-config.txt", "vendor-cloud-config.txt", "vendor2-cloud-config.txt")
#: Kinds of parts that cloud-init reads as something else, or has rendered or taken apart.
OTHERS = (
    "text/cloud-boothook",
    "text/cloud-config-",
    "text/jinja2",
    "text/part-handler",
    "text/x-include-",
    "text/x-shellscript",
)
SHAPE = 'cloud-init: "slipway: {parameters: {...}}" must map names to texts'
USER_DATA = "cloud-init's user data"
#: How cloud-init renders a variable that an instance does not have.
UNKNOWN = re.compile(r"CI_MISSING_JINJA_VAR/([\w.]*)")
#: The value of a key that a mapping has twice.
TWICE = object()


def given_file(root: Path, parameters: Sequence[Parameter]) -> dict[str, str]:
    """Read the file of values that the user data wrote.

    Raises:
        Failure: It is not a mapping of names to texts, or has another name.
    """
    file = root / FILE
    for other in sorted(file.parent.glob("*.y*ml")):
        if other != file:
            raise Failure(f'/etc/slipway/{other.name} is not read: did you mean "/{FILE}"?')
    if not file.exists():
        return {}
    given = load(file.read_bytes(), f"/{FILE}", raw=True)
    if not isinstance(given, dict):
        raise Failure(f"/{FILE} must map names to texts")
    return usable(parameters, given, f"/{FILE}")


def cloud_init(root: Path, parameters: Sequence[Parameter]) -> dict[str, str]:
    """Read the section ``slipway`` of the user data, as cloud-init has merged it.

    Raises:
        Failure: It has another shape, or a value's text is lost.
    """
    require_answer(root)
    configs = list(parts(root))
    require_file(root, configs)
    section = merged_section(root)
    given = section.get("parameters") or {}
    if not isinstance(given, dict):
        raise Failure(SHAPE)
    written = as_written(configs)
    texts: dict[str, object] = {}
    reasons = []
    for key, value in given.items():
        name = str(key)
        found = written.get(name, [])
        if isinstance(value, str) and TWICE not in found:
            texts[name] = value
        elif value is None or isinstance(value, (dict, list)) or len(set(found)) == 1:
            texts[name] = value if value is None or not found else found[0]
        else:
            reasons.append(
                f"{name}: cloud-init took its value for a number, a time or yes and no; "
                "quote it in the user data"
            )
    reasons += [
        f"{name}: cloud-init has not kept its value; give all values in one part of the user data, "
        "in UTF-8"
        for name in written
        if name not in map(str, given)
    ]
    if reasons:
        raise Failure(*reasons)
    return usable(parameters, texts, USER_DATA)


def merged_section(root: Path) -> dict[Any, Any]:
    """Return the section ``slipway`` as cloud-init has merged it; empty if there is none.

    Raises:
        Failure: It has another shape or name.
    """
    file = root / INSTANCE / MERGED[0]
    config = load(file.read_bytes(), USER_DATA) if file.exists() else None
    for key in config if isinstance(config, dict) else ():
        if key != "slipway" and difflib.get_close_matches(
            str(key).lower(), ["slipway", "parameters"], cutoff=0.8
        ):
            raise Failure(
                f'cloud-init: the user data has "{key}": did you mean '
                '"slipway: {parameters: {...}}"?'
            )
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
    return section


def usable(
    parameters: Sequence[Parameter], given: Mapping[str, object], what: str
) -> dict[str, str]:
    """Return a source's values, of booleans as "true" and "false".

    Raises:
        Failure: Some are no texts, are there twice, or are a template's unknown variable.
    """
    types = {parameter.name: parameter.type for parameter in parameters}
    values, reasons = {}, []
    for name, value in given.items():
        if value is TWICE:
            reasons.append(f"{name} is twice in {what}")
        elif not isinstance(value, str):
            reasons.append(f"{name}: {what} must have a text there; quote it")
        elif unknown := UNKNOWN.search(value):
            reasons.append(f'{name}: this instance has no "{unknown[1]}" for the template')
        else:
            values[name] = boolean(value) if types.get(name) == "boolean" else value
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


def require_file(root: Path, configs: Sequence[Mapping[str, Any]]) -> None:
    """Make sure that cloud-init was to write the file of values in time, if a part has it.

    Raises:
        Failure: It was not.
    """
    merged: Sequence[Mapping[str, Any]] = []
    for name in MERGED:
        file = root / INSTANCE / name
        config = load(file.read_bytes(), USER_DATA) if file.exists() else None
        if isinstance(config, dict) and "write_files" in config:
            merged = files(config)
            break
    kept = [item for item in merged if item.get("path") == f"/{FILE}"]
    given = any(item.get("path") == f"/{FILE}" for config in configs for item in files(config))
    if given and not kept:
        raise Failure(
            f"/{FILE}: another part of the user data has write_files, and cloud-init kept that "
            "one; write all files in one part"
        )
    if any(item.get("defer") for item in kept):
        raise Failure(f'/{FILE}: "defer" writes it too late; leave that out of the user data')


def files(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the entries of a cloud-config's ``write_files``."""
    entries = config.get("write_files")
    return [entry for entry in entries if isinstance(entry, dict)] if entries else []


def as_written(configs: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return the texts that the user data has for each parameter, before YAML makes something of
    them.
    """
    found: dict[str, list[Any]] = {}
    for config in configs:
        section = config.get("slipway")
        if section is TWICE:
            raise Failure(f'"slipway" is twice in {USER_DATA}')
        given = section.get("parameters") if isinstance(section, dict) else None
        if given is TWICE:
            raise Failure(f'"parameters" is twice in {USER_DATA}')
        for name, text in given.items() if isinstance(given, dict) else ():
            if name == "<<":  # a merge key (https://yaml.org/type/merge.html): names are elsewhere
                continue
            found.setdefault(name, []).append(text)
    return found


def parts(root: Path) -> Iterator[dict[str, Any]]:
    """Yield the cloud-configs that an instance was given, with texts for scalars, if there is
    anything of this appliance in them.

    A template of one is none: its values are not in it.

    Raises:
        Failure: cloud-init has left one out, because it could not read it.
    """
    for name in KEPT:
        file = root / INSTANCE / name
        if not file.exists():
            continue
        for part in email.message_from_bytes(file.read_bytes()).walk():
            payload, kind = part.get_payload(decode=True), part.get_content_type()
            if not isinstance(payload, bytes) or kind.startswith(OTHERS) or not ours(payload):
                continue
            if kind != "text/cloud-config":
                raise Failure(
                    "cloud-init has not read the user data: it has to be UTF-8, and its first "
                    'line "#cloud-config"'
                )
            if not isinstance(load(payload, USER_DATA), dict):
                raise Failure(f"{USER_DATA} cannot be read: it is no mapping")
            yield load(payload, USER_DATA, raw=True)


def ours(payload: bytes) -> bool:
    """Return whether user data has something for this appliance, in whatever encoding."""
    texts = [payload.replace(b"\0", b"")]
    with contextlib.suppress(binascii.Error):
        texts.append(binascii.a2b_base64(payload))
    return any(b"slipway" in text.lower() for text in texts)


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

    class Texts(yaml.BaseLoader):
        """Makes texts of scalars, None of a plain null, and TWICE of a key that is there twice."""

        def construct_scalar(self, node: Any) -> Any:
            text = super().construct_scalar(node)
            null = not node.style and text in ("", "~", "null", "Null", "NULL")
            return None if null else text

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            mapping = super().construct_mapping(node, deep)
            names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            return mapping | {name: TWICE for name in names if names.count(name) > 1}

    try:
        return yaml.load(data, Loader=Texts if raw else yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        # not its lines, which hold secrets
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise Failure(f"{what} cannot be read: line {line}: {error.problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError):
        # a date such as 2026-13-45, which YAML 1.1 takes for one; another encoding
        raise Failure(
            f"{what} cannot be read: it is not UTF-8, or a value is no such date or number as it "
            "looks like; quote values"
        ) from None


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
