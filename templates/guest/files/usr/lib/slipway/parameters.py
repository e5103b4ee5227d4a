"""Parameters: their definitions, the sources of their values, and what each type accepts.

What goes in: definitions (parameters.json), and values from system credentials, cloud-init, the OVF
environment and, where none of them has what has no default, whoever is at a console. What comes
out: each parameter's text, valid by its type, and where it is from; or one :class:`Failure` that
names everything that is wrong. Nothing is written here.
"""

from __future__ import annotations

import difflib
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from accepted import value_problem  # the builder's own rules (src/slipway/spec/parameters.py)

__all__ = [
    "Failure",
    "Parameter",
    "Value",
    "ask",
    "credentials",
    "definitions",
    "env_line",
    "overruled",
    "ovf",
    "ovf_properties",
    "resolve",
    "run",
    "validate",
]

#: Letters and digits that nobody mistakes for each other on a console.
ALPHABET = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"
#: How long a question on the consoles waits for its answer, in seconds.
PATIENCE_S = 300


class Failure(Exception):
    """Why this appliance cannot be set up: one line for each thing to put right."""

    def __init__(self, *reasons: str) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = reasons


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One entry of parameters.json; ``generate`` is the length of a secret that is made where none
    is given.
    """

    name: str
    type: str
    default: str | None = None
    generate: int | None = None
    choices: Sequence[str] = ()
    summary: str = ""


@dataclass(frozen=True)
class Value:
    """A parameter's text and where it is from: a source's name, "default" or "generated"."""

    text: str
    source: str


def definitions(items: Sequence[Mapping[str, Any]]) -> list[Parameter]:
    """The entries of parameters.json."""
    return [
        Parameter(
            name=item["name"],
            type=item["type"],
            default=item.get("default"),
            generate=item.get("generate"),
            choices=tuple(item.get("choices") or ()),
            summary=item.get("summary") or "",
        )
        for item in items
    ]


def validate(parameter: Parameter, text: str) -> str | None:
    """What the parameter accepts, if it does not accept this text; None if it does."""
    return value_problem(parameter.type, text, parameter.choices)


def resolve(
    parameters: Sequence[Parameter],
    sources: Sequence[tuple[str, Mapping[str, str]]],
    generated: Mapping[str, str],
    answer: Callable[[Parameter], str | None],
) -> dict[str, Value]:
    """Every parameter's value: from the first source that has it, generated (before, or now), its
    default, or an answer.

    Args:
        answer: What somebody answers who is asked for a parameter, or None; not called if anything
            else is wrong, nor again after None.

    Raises:
        Failure: Values are missing, not accepted, or for a parameter that does not exist; all of
            them are named.
    """
    reasons: list[str] = []
    missing: list[Parameter] = []
    values: dict[str, Value] = {}
    known = [parameter.name for parameter in parameters]
    for source, given in sources:
        for name in sorted(set(given) - set(known)):
            near = difflib.get_close_matches(name, known, n=1)
            reasons.append(
                f'no parameter is named "{name}" (given by {source})'
                + (f': did you mean "{near[0]}"?' if near else "")
            )
    for parameter in parameters:
        value = _known(parameter, sources, generated)
        if value is None:
            missing.append(parameter)
            continue
        wanted = validate(parameter, value.text)
        if wanted:
            shown = "its value" if parameter.type == "secret" else f'"{printable(value.text)}"'
            reasons.append(
                f"{parameter.name} must be {wanted}: {shown} (given by {value.source}) is not"
            )
        values[parameter.name] = value
    for parameter in () if reasons else tuple(missing):
        text = answer(parameter)
        if text is None:
            break
        values[parameter.name] = Value(text, "the console")
        missing.remove(parameter)
    reasons += [f"{parameter.name} is not given: {accepted(parameter)}" for parameter in missing]
    if reasons:
        raise Failure(*reasons)
    return {name: values[name] for name in known}


def _known(
    parameter: Parameter,
    sources: Sequence[tuple[str, Mapping[str, str]]],
    generated: Mapping[str, str],
) -> Value | None:
    """A parameter's value without asking anybody; None if there is none."""
    for source, given in sources:
        if parameter.name in given:
            return Value(given[parameter.name], source)
    if parameter.type == "secret" and parameter.generate:
        made = generated.get(parameter.name) or "".join(
            secrets.choice(ALPHABET) for _ in range(parameter.generate)
        )
        return Value(made, "generated")
    return None if parameter.default is None else Value(parameter.default, "default")


def overruled(
    parameters: Sequence[Parameter], sources: Sequence[tuple[str, Mapping[str, str]]]
) -> list[str]:
    """Name the values that are not used, because a source before theirs gives another one."""
    lines = []
    for parameter in parameters:
        given = [
            (source, values[parameter.name])
            for source, values in sources
            if parameter.name in values
        ]
        lines += [
            f"{parameter.name}: what {source} gives is not used, {given[0][0]} gives another value"
            for source, text in given[1:]
            if text != given[0][1]
        ]
    return lines


def ask(parameter: Parameter) -> str | None:
    """Ask for a parameter on every console (systemd-ask-password(1)), again and again until the
    answer is accepted.

    Returns: The answer; None if there is none in five minutes, or no way to ask.
    """
    question = f"{parameter.summary} ({parameter.name})".strip()
    prompt = question
    while True:
        argv = [
            "systemd-ask-password",
            f"--timeout={PATIENCE_S}",
            f"--echo={'no' if parameter.type == 'secret' else 'yes'}",
        ]
        argv += ["--emoji=no", f"--id=slipway:{parameter.name}", f"{prompt}:"]
        try:
            ended = subprocess.run(
                argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False
            )
        except FileNotFoundError:
            return None
        if ended.returncode:
            return None
        text = ended.stdout.decode(errors="replace").removesuffix("\n")
        wanted = validate(parameter, text)
        if text and wanted is None:
            return text
        prompt = f"It must be {wanted or 'given'}. {question}"


def accepted(parameter: Parameter) -> str:
    """How to give a parameter, for someone who did not."""
    wanted = "one of " + ", ".join(parameter.choices) if parameter.choices else parameter.type
    return (
        f'it has no default ({wanted}); give it as credential "slipway.{parameter.name}", '
        "by cloud-init or as an OVF property"
    )


def printable(text: str) -> str:
    """Text that cannot move a console's cursor, at most 60 characters of it."""
    return "".join(character if character.isprintable() else "?" for character in text)[:60]


def env_line(name: str, text: str) -> str:
    """``NAME="text"``, which sh and systemd's EnvironmentFile= (systemd.exec(5)) read as the same
    text.
    """
    quoted = re.sub(r'(["\\$`])', r"\\\1", text)
    return f'{name}="{quoted}"\n'


def credentials(root: Path) -> dict[str, str]:
    """System credentials ``slipway.*``: what systemd passes to the service, or its store before
    systemd 254.
    """
    found: dict[str, str] = {}
    for directory in (
        root / "run/credentials/@system",
        Path(os.environ.get("CREDENTIALS_DIRECTORY", "/nonexistent")),
    ):
        for file in sorted(directory.glob("slipway.*")):
            found[file.name.partition(".")[2]] = text_of(
                file.read_bytes(), f'the credential "{file.name}"'
            )
    return found


def text_of(data: bytes, what: str) -> str:
    """UTF-8 without the newline that an editor or echo leaves at the end.

    Raises:
        Failure: It is not UTF-8.
    """
    try:
        return data.decode().removesuffix("\n")
    except UnicodeDecodeError:
        raise Failure(f"{what} is not UTF-8 text") from None


def ovf_properties(text: str) -> dict[str, str]:
    """Key -> value of an OVF environment document (DMTF DSP0243, section 9.5), without those that
    have none: that is how vSphere writes what nobody has filled in.

    Raises:
        Failure: It is not XML.
    """
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise Failure("the OVF environment declares entities, which no hypervisor does")
    try:
        document = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise Failure(f"the OVF environment is not XML: {error}") from None
    space = "{http://schemas.dmtf.org/ovf/environment/1}"
    return {
        element.get(f"{space}key", ""): element.get(f"{space}value", "")
        for element in document.iter(f"{space}Property")
        if element.get(f"{space}key") and element.get(f"{space}value")
    }


def ovf_environment(root: Path) -> str | None:
    """The OVF environment document: of the ISO that hypervisors attach, or of VMware's
    guestinfo.
    """
    file = root / "run/slipway/ovf-env.xml"
    if file.exists():
        return text_of(file.read_bytes(), "the OVF environment")
    for label in ("OVF ENV", "OVFENV", "OVF-ENV"):
        device = root / "dev/disk/by-label" / label.replace(" ", r"\x20")
        if device.exists():
            with tempfile.TemporaryDirectory() as point:
                run(["mount", "-o", "ro,nosuid,nodev,noexec", str(device), point])
                try:
                    return text_of(
                        (Path(point) / "ovf-env.xml").read_bytes(), "the OVF environment"
                    )
                except FileNotFoundError:
                    raise Failure(f'the disk labelled "{label}" holds no ovf-env.xml') from None
                finally:
                    run(["umount", point])
    vmtoolsd = shutil.which("vmtoolsd")
    if vmtoolsd and root == Path("/"):
        answer = subprocess.run(
            [vmtoolsd, "--cmd", "info-get guestinfo.ovfEnv"],
            capture_output=True,
            timeout=30,
            check=False,
        )
        if answer.returncode == 0 and answer.stdout.strip():
            return text_of(answer.stdout, "the OVF environment")
    return None


def ovf(root: Path, parameters: Sequence[Parameter]) -> dict[str, str]:
    """``slipway.<name>`` of the OVF environment, and plain names of parameters.

    Other keys are for others.

    vSphere writes booleans as "True" and "False".
    """
    text = ovf_environment(root)
    properties = ovf_properties(text) if text else {}
    types = {parameter.name: parameter.type for parameter in parameters}
    found = {key: value for key, value in properties.items() if key in types}
    found |= {
        key.partition(".")[2]: value
        for key, value in properties.items()
        if key.startswith("slipway.")
    }
    return {
        name: value.lower() if types.get(name) == "boolean" else value
        for name, value in found.items()
    }


def run(argv: Sequence[str], env: Mapping[str, str] | None = None) -> None:
    """Run a program; what it prints goes where this program's output goes.

    Raises:
        Failure: It failed; the reasons end with the last lines of its standard error.
    """
    ended = subprocess.run(
        argv, env=env, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False
    )
    errors = ended.stderr.decode(errors="replace")
    sys.stderr.write(errors)
    sys.stderr.flush()
    if ended.returncode:
        name = Path(argv[-1] if argv[0] == "/bin/sh" else argv[0]).name
        raise Failure(
            f"{name} failed with status {ended.returncode}", *errors.strip().splitlines()[-5:]
        )
