"""Values from a spec arrive as text in every language, found out by reading what was written with a
real reader of it.
"""

from __future__ import annotations

import configparser
import json
import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import hcl2
import pytest
import yaml

from slipway.errors import SpecError
from slipway.rendering.templating import check, render, render_text

NASTY = (
    "plain",
    "",
    "it's",
    'say "hello"',
    "two words",
    "${HOME} $(id) `id` $HOME",
    "${var.secret} %{ if true }x%{ endif }",
    "back\\slash \\n \\",
    "; rm -rf / & # comment",
    "{{ 7 * 7 }} {% raw %}",
    "<b>&amp;</b> ]]>",
    "ünïcödé \U0001f600",
    "* ? [a-z] ~ !",
    "%s %d %(name)s",
    "- a: b",
    "true",
    "0x10",
)
LINES = ("first\nsecond", "tab\there", "trailing \n")
#: What some languages take for the end of a line, or for nothing at all.
ODD = ("a\x7fb", "a\x85b", "a\u2028b", "a\u2029b", "a\ufeffb", "\ufeff")


@pytest.mark.parametrize("value", NASTY + LINES + ODD)
def test_a_shell_reads_back_the_value(value: str) -> None:
    script = render_text("printf %s {{ value | sh }}", {"value": value})
    assert (
        subprocess.run(["sh", "-c", script], capture_output=True, check=True).stdout.decode()
        == value
    )


def test_a_list_becomes_words() -> None:
    script = render_text("printf '[%s]' {{ value | sh }}", {"value": list(NASTY)})
    assert subprocess.run(
        ["sh", "-c", script], capture_output=True, check=True
    ).stdout.decode() == "".join(f"[{word}]" for word in NASTY)


@pytest.mark.parametrize("value", NASTY + LINES + ODD)
def test_json_and_yaml_read_back_the_value(value: str) -> None:
    assert json.loads(render_text('{"key": {{ value | json }}}', {"value": value})) == {
        "key": value
    }
    assert yaml.safe_load(render_text("key: {{ value | yaml }}", {"value": value})) == {
        "key": value
    }


@pytest.mark.parametrize("value", NASTY + LINES + ODD)
def test_xml_reads_back_the_value(value: str) -> None:
    text = render_text(
        """<a b="{{ value | xml }}" c='{{ value | xml }}'>{{ value | xml }}</a>""", {"value": value}
    )
    element = ElementTree.fromstring(text)
    assert (element.get("b"), element.get("c"), element.text or "") == (value, value, value)


@pytest.mark.parametrize("value", [value for value in NASTY if not value.endswith("\\")])
def test_ini_reads_back_the_value(value: str) -> None:
    parser = configparser.ConfigParser(
        interpolation=configparser.BasicInterpolation(), delimiters=("=",), comment_prefixes=("#",)
    )
    parser.read_string(render_text("[a]\nkey={{ value | ini }}\n", {"value": value}))
    assert parser["a"]["key"] == value


@pytest.mark.parametrize("value", NASTY + LINES)
def test_hcl_holds_the_value_as_a_literal(value: str) -> None:
    text = render_text("key = {{ value | hcl }}\n", {"value": value})
    assert "${" not in text.replace("$${", "") and "%{" not in text.replace("%%{", "")
    assert list(hcl2.loads(text)) == ["key"]  # it is one attribute, whatever the value holds


@pytest.mark.parametrize(
    ("language", "value", "problem"),
    [
        *(
            ("ini", f"a{end}b", "cannot hold a line break or a control character")
            for end in "\n\r\0\x0b\x0c\x1c\x7f\x85\u2028\u2029"
        ),
        ("ini", " a", "cannot start or end with a blank"),
        ("ini", "a\t", "cannot start or end with a blank"),
        ("ini", "a\u3000", "cannot start or end with a blank"),
        ("ini", "a\\", "cannot end with a backslash"),
        *(
            ("xml", f"a{character}b", "XML 1.0 has no way to write this control character")
            for character in "\0\x08\x1b\ufffe"
        ),
        ("sh", "a\0b", "a shell's word cannot hold a NUL"),
        ("json", float("nan"), "JSON has no way to write this value"),
    ],
)
def test_a_value_that_a_language_cannot_write_is_an_error(
    language: str, value: object, problem: str
) -> None:
    with pytest.raises(SpecError) as raised:
        render_text(f"first\n{{{{ value | {language} }}}}", {"value": value})
    assert problem in raised.value.message
    assert str(raised.value.where) == "template:2"
    assert raised.value.hint == "change the value, or write it into a file of another kind"


def test_a_value_is_never_a_template_itself(tmp_path: Path) -> None:
    template = tmp_path / "motd.j2"
    template.write_text("{{ value }}\n")
    assert render(template, {"value": "{{ 7 * 7 }}"}) == "{{ 7 * 7 }}\n"


def test_a_name_that_does_not_exist_is_an_error_with_its_line(tmp_path: Path) -> None:
    template = tmp_path / "motd.j2"
    template.write_text("first\n{{ vaule }}\n")
    (error,) = check(template, {"value": "x"})
    assert str(error) == f'{template}:2: error: "vaule" is undefined\n  hint: did you mean "value"?'
    with pytest.raises(SpecError) as raised:
        render(template, {"value": "x"})
    assert raised.value.where and raised.value.where.line == 2
