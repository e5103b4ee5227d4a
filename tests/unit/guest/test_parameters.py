"""The guest's rules for values, and its reading of OVF environments."""

from __future__ import annotations

from types import ModuleType

import pytest

from golden import require_golden
from slipway.spec.parameters import value_problem

TYPES = ("string", "hostname", "integer", "boolean", "ipv4", "ipv4-cidr", "secret")
TEXTS = (
    "", "a", "a.b", "a..b", "-a", "a-", "A1.example.org", "x" * 63, "x" * 64, ".".join(["x" * 60] * 5), "a_b", "é",
    "0", "-1", "--1", "007", "1.5", "1e3", "\uff19", "9" * 18, "9" * 19, " 1", "1\n",
    "true", "false", "True", "yes", "no",
    "192.0.2.1", "192.0.2.256", "192.0.2", "192.0.2.01", "192.0.2.1/24", "192.0.2.1/33", "192.0.2.1/024", "192.0.2.1/", "::1", "::1/64",
    "a\tb", "a\nb", "a\0b", "a\x1bb", "a\x7fb", "a\x85b", "a\u2028b", '"', "$x",
    "abc", "1234567", "12345678", "x" * 4096, "x" * 4097,
)  # fmt: skip


@pytest.mark.parametrize("kind", TYPES)
def test_image_and_builder_accept_the_same_values(parameters: ModuleType, kind: str) -> None:
    parameter = parameters.Parameter(name="x", type=kind)
    accepted = {text: parameters.validate(parameter, text) is None for text in TEXTS}
    assert accepted == {text: value_problem(kind, text) is None for text in TEXTS}


def test_choices_limit_the_values(parameters: ModuleType) -> None:
    parameter = parameters.Parameter(name="x", type="integer", choices=("1", "2"))
    assert parameters.validate(parameter, "2") is None
    assert parameters.validate(parameter, "3") == 'one of "1", "2"'


def test_secrets_have_eight_characters_or_more(parameters: ModuleType) -> None:
    parameter = parameters.Parameter(name="x", type="secret")
    assert parameters.validate(parameter, "1234567") == "at least 8 characters"
    assert parameters.validate(parameter, "12345678") is None


def test_ovf_environment_of_a_hypervisor_is_read_and_what_is_empty_was_not_given(parameters: ModuleType) -> None:
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
        ('<!DOCTYPE a [<!ENTITY b "c">]><a/>', "the OVF environment declares entities, which no hypervisor does"),
    ],
)
def test_ovf_environment_that_is_none_is_refused(parameters: ModuleType, text: str, reason: str) -> None:
    with pytest.raises(parameters.Failure) as failure:
        parameters.ovf_properties(text)
    (said,) = failure.value.reasons
    require_golden(said, reason)


def test_values_have_4096_characters_at_most(parameters: ModuleType) -> None:
    for kind in ("string", "secret"):
        parameter = parameters.Parameter(name="x", type=kind)
        assert parameters.validate(parameter, "x" * 4096) is None
        assert parameters.validate(parameter, "x" * 4097) == "at most 4096 characters"
