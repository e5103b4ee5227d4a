"""A template of a stranger sees plain values, reaches nothing, and ends."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slipway.errors import SpecError
from slipway.rendering import boxed
from slipway.rendering.boxed import Box
from slipway.rendering.plain import Context, plain
from slipway.spec.library import Library, template_context

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[3]
SHOWN = Path("files/etc/motd.j2")


@pytest.fixture
def box() -> Iterator[Box]:
    """A box of this test's own."""
    made = Box()
    yield made
    made.close()


def foreign(value: object) -> Iterator[str]:
    """The kinds of everything in a value that no template may see."""
    if type(value) in (list, tuple):
        for item in value:  # type: ignore[attr-defined]
            yield from foreign(item)
    elif type(value) is dict:
        for key, item in value.items():
            yield from foreign(key)
            yield from foreign(item)
    elif value is not None and type(value) not in (str, int, float, bool):
        yield type(value).__name__


@pytest.mark.parametrize("name", Library(ROOT).names())
def test_every_appliances_templates_see_plain_values_only(name: str) -> None:
    appliance = Library(ROOT).load(name)
    context = template_context(appliance.spec, appliance.base)
    assert sorted(context) == ["base", "parameters", "spec"]
    assert list(foreign(dict(context))) == []


@pytest.mark.parametrize("name", Library(ROOT).bases())
def test_no_path_of_this_machine_is_in_what_a_template_sees_of_a_base(name: str) -> None:
    base = Library(ROOT).base(name)
    context = template_context(Library(ROOT).load(Library(ROOT).names()[0]).spec, base)
    assert str(ROOT) not in context.encoded
    assert context["base"]["name"] == name


def test_an_object_that_is_not_plain_is_refused_outside_of_a_dataclass() -> None:
    with pytest.raises(TypeError, match="a PosixPath is not a plain value for a template"):
        plain({"folder": Path("/etc")})


def test_one_process_renders_many_templates(box: Box) -> None:
    context = Context.of({"name": "web", "items": ["a", "b"]})
    texts = [
        box.render(f"{number} {{{{ name }}}} {{{{ items | sh }}}}\n".encode(), context, shown=SHOWN)
        for number in range(200)
    ]
    assert texts == [f"{number} web a b\n" for number in range(200)]


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("\n{{ 'a' | center(10**9) }}", ":2: error: this takes more than 192 MiB of memory"),
        (
            "{% set a = 'aaaa' %}" + "\n{% set a = a ~ a %}" * 40,
            "error: this takes more than 192 MiB of memory",
        ),
        (
            "\n{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
            ":2: error: this takes more than 2 s",
        ),
        (
            "{% for a in range(99999) %}{{ 'a' * 99 }}{% endfor %}",
            ":1: error: this makes more than 1048576 characters",
        ),
        ("\n{{ 2 ** 99999 }}", ":2: error: this is too much for **"),
        (
            "{% macro a() %}{{ a() }}{% endmacro %}\n{{ a() }}",
            ":1: error: this calls itself without end",
        ),
    ],
)
def test_what_takes_too_much_is_an_error_and_the_next_template_is_rendered(
    box: Box, template: str, problem: str
) -> None:
    with pytest.raises(SpecError) as raised:
        box.render(template.encode(), Context(), shown=SHOWN)
    assert problem in str(raised.value)
    assert raised.value.exit_code == 3
    assert box.render(b"good\n", Context(), shown=SHOWN) == "good\n"


def test_a_process_that_works_is_waited_for_however_busy_the_host_is(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has its time by the processor's clock; on a busy host that is many minutes of ours."""
    box.render(b"good\n", Context(), shown=SHOWN)
    monkeypatch.setattr(boxed, "_PATIENCE_S", 0.4)
    long = b"{% for a in range(1500) %}{% for b in range(9999) %}{% endfor %}{% endfor %}good\n"
    assert box.render(long, Context(), shown=SHOWN) == "good\n"


def test_a_process_that_does_nothing_is_given_up(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boxed, "_PATIENCE_S", 0.2)
    monkeypatch.setattr(boxed, "_START", "import signal; signal.pause()")
    with pytest.raises(SpecError) as raised:
        box.render(b"good\n", Context(), shown=SHOWN)
    assert str(raised.value).startswith(
        f"{SHOWN}: error: this takes more time or memory than a template may have"
    )


def test_a_process_that_dies_is_an_error_of_the_template(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boxed, "_START", "import sys; sys.stdin.readline()")
    with pytest.raises(SpecError) as raised:
        box.render(b"good\n", Context(), shown=SHOWN)
    assert str(raised.value).startswith(
        f"{SHOWN}: error: this takes more time or memory than a template may have"
    )


def test_a_template_that_takes_all_the_time_of_its_appliance_is_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, box: Box
) -> None:
    monkeypatch.setattr(boxed, "APPLIANCE_CPU_S", 0.0)
    etc = tmp_path / "appliances/web/files/etc"
    etc.mkdir(parents=True)
    (tmp_path / "templates").symlink_to(ROOT / "templates")
    (tmp_path / "appliances/web/appliance.yaml").write_text(
        "schema: 1\nname: web\nversion: 1.0.0\nsummary: A web server\ncategory: network\n"
    )
    for name in ("a.j2", "b.j2", "c.j2"):
        (etc / name).write_text("{{ spec.name }}\n")
    with pytest.raises(
        SpecError,
        match=r"files/etc/b.j2: error: the templates before this one have taken all of the 0 s",
    ):
        Library(tmp_path).load("web")


def test_the_process_has_no_environment_and_can_open_and_start_nothing(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "hidden")
    box.render(b"good\n", Context(), shown=SHOWN)
    assert box._process
    pid = box._process.pid
    assert Path(f"/proc/{pid}/environ").read_bytes() == b"LC_ALL=C.UTF-8\0"
    limits = {
        name: resource.prlimit(pid, getattr(resource, f"RLIMIT_{name}"))
        for name in ("NOFILE", "FSIZE", "NPROC", "CORE")
    }
    assert set(limits.values()) == {(0, 0)}
    opened = {str(link.readlink()).partition(":")[0] for link in Path(f"/proc/{pid}/fd").iterdir()}
    assert opened <= {"pipe", "/dev/null"}
    box.close()
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__ }}",
        "{{ spec.__class__.__mro__ }}",
        "{{ spec['__class__'] }}",
        "{{ self.__init__.__globals__ }}",
        "{{ namespace.__init__ }}",
        "{{ range.__self__ }}",
        "{{ spec | attr('__class__') }}",
        "{{ spec | map(attribute='__class__') | join }}",
        "{{ '{name.__class__}'.format_map(spec) }}",
        "{{ '{0.__class__}'.format(spec) }}",
        "{{ spec.update({}) }}",
        "{{ lipsum.__globals__ }}",
        "{{ cycler }}",
        "{{ joiner }}",
        "{{ dict }}",
        "{{ [1] | random }}",
        "{% include '/etc/passwd' %}",
        "{% import '/etc/passwd' as a %}",
        "{% from '../a' import b %}",
        "{% extends 'a' %}",
        "{{ range(3) | batch(2) }}",
        "{{ spec.items }}",
    ],
)
def test_a_template_reaches_nothing_but_its_values(box: Box, template: str) -> None:
    context: dict[str, Any] = {"spec": {"name": "web"}}
    with pytest.raises(SpecError):
        box.render(template.encode(), Context.of(context), shown=SHOWN)
