"""The guest's rules for values, and its reading of OVF environments."""

from __future__ import annotations

import random
import subprocess
from types import ModuleType
from typing import Any

import pytest
import yaml

from golden import require_golden
from slipway.spec.parameters import value_problem

TYPES = ("string", "hostname", "integer", "boolean", "ipv4", "ipv4-cidr", "secret")
TEXTS = (
    "", "a", "a.b", "a..b", "-a", "a-", "A1.example.org", "x" * 63, "x" * 64,
    ".".join(["x" * 60] * 5), "a_b", "é",
    "0", "-1", "--1", "007", "1.5", "1e3", "\uff19", "9" * 18, "9" * 19, " 1", "1\n",
    "true", "false", "True", "yes", "no",
    "192.0.2.1", "192.0.2.256", "192.0.2", "192.0.2.01", "192.0.2.1/24", "192.0.2.1/33",
    "192.0.2.1/024", "192.0.2.1/", "::1", "::1/64",
    "a\tb", "a\nb", "a\0b", "a\x1bb", "a\x7fb", "a\x85b", "a\u2028b", '"', "$x",
    "abc", "1234567", "12345678", "x" * 4096, "x" * 4097,
)  # fmt: skip


@pytest.mark.parametrize("kind", TYPES)
def test_each_type_accepts_what_it_says(kind: str) -> None:
    good = {
        "string": {text for text in TEXTS if text.isprintable() and len(text) <= 4096},
        "secret": {text for text in TEXTS if text.isprintable() and 8 <= len(text) <= 4096},
        "hostname": {
            "a",
            "a.b",
            "A1.example.org",
            "x" * 63,
            "0",
            "007",
            "9" * 18,
            "9" * 19,
            "true",
            "false",
            "True",
            "yes",
            "no",
            "192.0.2",
        }
        | {"192.0.2.1", "192.0.2.256", "192.0.2.01", "abc", "1234567", "12345678", "1.5", "1e3"},
        "integer": {"0", "-1", "9" * 18, "1234567", "12345678"},
        "boolean": {"true", "false"},
        "ipv4": {"192.0.2.1"},
        "ipv4-cidr": {"192.0.2.1/24"},
    }
    assert {text for text in TEXTS if value_problem(kind, text) is None} == good[kind]


def generated(seed: random.Random, kind: str) -> str:
    """A text that is often one of the kind, and often nearly."""
    label = "".join(seed.choices("abzAZ019-_é", k=seed.choice((1, 3, 62, 63, 64))))
    octets = [
        str(seed.choice((0, 1, 9, 10, 99, 255, 256, "01")))
        for _ in range(seed.choice((3, 4, 4, 4, 5)))
    ]
    return {
        "string": "".join(
            seed.choices(
                "aé\u20ac\U0001f600 \"'\\\\$`#%&;|<>=:@{}[]\t\n\x7f\ud800\u2028",
                k=seed.choice((0, 1, 2, 3, 9)),
            )
        ),
        "secret": "".join(seed.choices("aé \"'\\$`#%&", k=seed.choice((0, 7, 8, 9, 4096, 4097))))
        + seed.choice(("", "", "", "\n")),
        "hostname": ".".join([label, *(["example"] if seed.random() < 0.5 else [])]),
        "integer": seed.choice(("", "-", "+", " "))
        + str(seed.randrange(10 ** seed.choice((1, 17, 18, 19)))),
        "boolean": seed.choice(("true", "false", "True", "1", "")),
        "ipv4": ".".join(octets),
        "ipv4-cidr": ".".join(octets)
        + seed.choice(("/", ""))
        + str(seed.choice((0, 8, 32, 33, "08", ""))),
    }[kind]


@pytest.mark.parametrize("kind", TYPES)
def test_an_instance_takes_each_value_that_the_builder_took(
    guest: Any, parameters: ModuleType, kind: str
) -> None:
    """By each way that values come, and as services and scripts then find them."""
    seed = random.Random(f"values of {kind}")
    texts = {generated(seed, kind) for _ in range(150)}
    taken = sorted(text for text in texts if value_problem(kind, text) is None)
    assert 2 <= len(taken) < len(texts)
    # One boot has many parameters: each value is that of one.
    named = {f"p{number}": text for number, text in enumerate(taken)}
    guest.define([{"name": name, "type": kind} for name in named])
    for name, text in named.items():
        guest.credential(f"slipway.{name}", text.encode())
    ended = guest.boot()
    assert ended.returncode == 0, ended.stderr
    folder = guest.root / "var/lib/slipway/parameters"
    assert {name: (folder / name).read_text() for name in named} == named
    for name in named:
        (guest.root / "run/credentials/@system" / f"slipway.{name}").unlink()
    assert all(
        parameters.validate(parameters.Parameter(name="x", type=kind), text)
        for text in texts - set(taken)
    )
    printed = 'printf "%s\\0" ' + " ".join(f'"$PARAM_{name.upper()}"' for name in named)
    shell = subprocess.run(
        ["sh", "-euc", f'. "$0"\n{printed}', guest.root / "etc/slipway/parameters.env"],
        capture_output=True,
        check=True,
    )
    assert shell.stdout.decode().split("\0")[:-1] == taken
    guest.instance("b" * 32)
    guest.cloud(yaml.safe_dump({"slipway": {"parameters": named}}, allow_unicode=True))
    ended = guest.boot()
    assert ended.returncode == 0, ended.stderr
    assert {name: (folder / name).read_text() for name in named} == named


def test_choices_limit_the_values(parameters: ModuleType) -> None:
    parameter = parameters.Parameter(name="x", type="integer", choices=("1", "2"))
    assert parameters.validate(parameter, "2") is None
    assert parameters.validate(parameter, "3") == "one of 1, 2"


def test_secrets_have_eight_characters_or_more(parameters: ModuleType) -> None:
    parameter = parameters.Parameter(name="x", type="secret")
    assert parameters.validate(parameter, "1234567") == "at least 8 characters"
    assert parameters.validate(parameter, "12345678") is None


def test_ovf_environment_of_a_hypervisor_is_read_and_what_is_empty_was_not_given(
    parameters: ModuleType,
) -> None:
    text = """<?xml version="1.0" encoding="UTF-8"?>
<Environment xmlns="http://schemas.dmtf.org/ovf/environment/1" xmlns:oe="http://schemas.dmtf.org/ovf/environment/1"
    xmlns:ve="http://www.vmware.com/schema/ovfenv" oe:id="" ve:vCenterId="vm-1">
   <PlatformSection><Kind>VMware ESXi</Kind></PlatformSection>
   <PropertySection>
         <Property oe:key="slipway.sip_domain" oe:value="a&amp;b &lt;c&gt;"/>
         <Property oe:key="hostname" oe:value=""/>
   </PropertySection>
</Environment>"""
    assert parameters.ovf_properties(text) == {"slipway.sip_domain": "a&b <c>"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<a>", "the OVF environment is not XML: <…>"),
        (
            '<!DOCTYPE a [<!ENTITY b "c">]><a/>',
            "the OVF environment declares entities, which no hypervisor does",
        ),
    ],
)
def test_ovf_environment_that_is_none_is_refused(
    parameters: ModuleType, text: str, reason: str
) -> None:
    with pytest.raises(parameters.Failure) as failure:
        parameters.ovf_properties(text)
    (said,) = failure.value.reasons
    require_golden(said, reason)


def test_values_have_4096_characters_at_most(parameters: ModuleType) -> None:
    for kind in ("string", "secret"):
        parameter = parameters.Parameter(name="x", type=kind)
        assert parameters.validate(parameter, "x" * 4096) is None
        assert parameters.validate(parameter, "x" * 4097) == "at most 4096 characters"
