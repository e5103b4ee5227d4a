"""What is rendered for Packer is HCL2 that means what the spec says, for old and new versions and
every platform.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from any_value import PATIENT
from example_root import make_root
from slipway.builders import packer as packer_module
from slipway.builders.packer import Packer
from slipway.builders.packer.hcl import NotLiteral, SyntaxProblem, literal, parse, references
from slipway.errors import SpecErrors, UsageError
from slipway.host import process
from slipway.job import Workshop, prepare
from slipway.rendering.templating import render_text

pytestmark = pytest.mark.integration

SPEC = """\
schema: 1
name: thing
version: 1.0.0
summary: 'says "hello" to ${var.all} and %{ if x }$${y}%{ endif } \\ <<EOF'
category: system
kernel: generic
packages: [web]
resources: {cpus: 1, memory_mib: 512, disk_gib: 4}
"""
OLD, NEW = (1, 6, 6), (1, 11, 2)


@pytest.fixture(params=[OLD, NEW], ids=["1.6", "current"])
def version(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[int, ...]:
    monkeypatch.setattr(packer_module, "packer_version", lambda: request.param)
    return tuple(request.param)


@pytest.fixture
def current(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packer_module, "packer_version", lambda: NEW)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # A plan counts the program itself, which nothing here starts; not every distribution has a
    # package of it.
    program = tmp_path / "bin/packer"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(process, "SYSTEM_PATH", f"{program.parent}:{process.SYSTEM_PATH}")
    files = {"appliance.yaml": SPEC, "README.md": "A thing\n", "setup/10-users.sh": "true\n"}
    return make_root(tmp_path, "thing", files, monkeypatch)


def rendered(root: Path, *targets: str) -> dict[str, str]:
    shop = Workshop(root=root)
    job = prepare(shop, shop.library.load("thing"), builder="packer", architecture="amd64")
    files = job.builder.render(job.source, targets).files
    return {name: file.content.decode(errors="replace") for name, file in files.items()}


@PATIENT
@given(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_any_text_arrives_as_that_text(value: str) -> None:
    root = parse(
        render_text(
            "before = 1\nkey = {{ value | hcl }}\nafter = [{{ value | hcl }}, true]\n",
            {"value": value},
        )
    )
    assert [attribute.name for attribute in root.attributes] == ["before", "key", "after"]
    assert literal(root.attributes[1].value) == value
    assert literal(root.attributes[2].value) == [value, True]
    assert not list(references(root.attributes[1].value))


@pytest.mark.parametrize(
    "pieces",
    ["${var.x}", "%{ if true }", '"', "\n", "<<EOF\n", "\\", "$", "%", "{", "}", "$${", "%%{"],
)
@settings(PATIENT, max_examples=30)
@given(data=st.data())
def test_what_looks_like_hcl_arrives_as_text(pieces: str, data: st.DataObject) -> None:
    value = "".join(
        data.draw(
            st.lists(
                st.sampled_from([pieces, "${", "%{", "$", "}", '"', "a", "\\", "\n"]), max_size=8
            )
        )
    )
    (attribute,) = parse(render_text("key = {{ value | hcl }}\n", {"value": value})).attributes
    assert literal(attribute.value) == value


def test_literals_are_read_and_the_rest_is_not() -> None:
    text = (
        'a = -3\nb = 1.5\nc = null\nd = {\n  x = "1"\n  "y z" = [false]\n}\ne = "${path.root}/f"\n'
        'f = var.x\ng = upper("x")\n'
    )
    values = {attribute.name: attribute.value for attribute in parse(text).attributes}
    assert [literal(values[name]) for name in "abcd"] == [-3, 1.5, None, {"x": "1", "y z": [False]}]
    assert literal(values["e"], {"path.root": "."}) == "./f"
    for name in "efg":
        with pytest.raises(NotLiteral):
            literal(values[name])
    assert [
        (found.root, found.name, found.line, found.column) for found in references(values["f"])
    ] == [("var", "x", 9, 5)]


def test_text_that_is_no_hcl_is_an_error_with_its_place() -> None:
    with pytest.raises(SyntaxProblem) as raised:
        parse('a = 1\nb = "x\n')
    assert (raised.value.line, raised.value.column) == (2, 6)


def test_every_platform_is_rendered_for_old_and_new_versions(
    root: Path, version: tuple[int, ...]
) -> None:
    assert "qemu.pkr.hcl" in rendered(root)
    files = rendered(root, *Packer.targets)
    assert (
        files["provision/packages"]
        == "apt 1 all installed\nlibc6 1 all installed\nweb 1 all installed\n"
    )
    for name in ("packer.pkr.hcl", *(f"{target}.pkr.hcl" for target in Packer.targets)):
        assert ("required_plugins" in files[name]) is (
            version >= (1, 7) and name != "packer.pkr.hcl"
        )
        blocks = parse(files[name]).blocks
        for block in blocks:
            if block.kind == "locals":
                values = {
                    attribute.name: literal(attribute.value) for attribute in block.attributes
                }
                assert (
                    values["summary"]
                    == 'says "hello" to ${var.all} and %{ if x }$${y}%{ endif } \\ <<EOF'
                )
            if block.kind == "variable":
                assert block.find("type") and block.find("description") and block.find("default")
                assert bool(block.find("sensitive")) is (
                    "password" in block.labels[0] or "secret" in block.labels[0]
                )


@pytest.mark.usefixtures("current")
def test_a_platform_that_there_is_not(root: Path) -> None:
    with pytest.raises(UsageError) as raised:
        rendered(root, "quemu")
    assert str(raised.value) == 'error: there is no source "quemu"\n  hint: did you mean "qemu"?'


def replaced(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        path = root / "templates/packer" / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return change


MAIN, QEMU = "packer.pkr.hcl.j2", "sources/qemu.pkr.hcl.j2"


@pytest.mark.parametrize(
    ("change", "message", "hint"),
    [
        (
            replaced(QEMU, "var.ssh_timeout", "var.ssh_timeuot"),
            "var.ssh_timeuot is not defined",
            'did you mean "ssh_timeout"?',
        ),
        (replaced(QEMU, "= var.ssh_timeout", '= "5m"'), "var.ssh_timeout is not used", "remove it"),
        (
            replaced(QEMU, 'variable "qemu_memory"', 'variable "ssh_timeout"'),
            "var.ssh_timeout is defined twice",
            "rename one",
        ),
        (
            replaced(QEMU, '"qemu" "appliance"', '"qemu" "machine"'),
            'there is no source "source.qemu.appliance"',
            "did you mean",
        ),
        (
            replaced(QEMU, '"qemu" "appliance"', '"qemu" "machine"'),
            "source.qemu.machine is not built",
            "name it in",
        ),
        (
            replaced(QEMU, 'base.qcow2"', 'base.qcow"'),
            'there is no file "base.qcow"',
            'did you mean "base.qcow2"?',
        ),
        (
            replaced(QEMU, 'file("${path.root}/key.pub")', 'file("${path.root}/kye.pub")'),
            'there is no file "kye.pub"',
            "did you mean",
        ),
        (
            replaced(QEMU, "  headless         = true\n", "  headless = true\n  headless = true\n"),
            '"headless" is repeated',
            "remove one",
        ),
        (
            replaced(QEMU, 'source "qemu" "appliance"', 'sources "qemu" "appliance"'),
            'there is no block "sources"',
            'did you mean "source"?',
        ),
        (
            replaced(MAIN, "20-appliance.sh", "20-aplliance.sh"),
            'there is no file "provision/20-aplliance.sh"',
            "did you mean",
        ),
        (
            replaced(MAIN, "10-packages.sh", "40-packages.sh"),
            "these scripts are out of order",
            "the numbers",
        ),
        (
            replaced(MAIN, '"${path.root}/provision/30-clean.sh",', ""),
            "the last step is not the cleaning",
            "goes last",
        ),
        (
            replaced(MAIN, 'provisioner "file"', 'provisioner "breakpoint"'),
            "scripts are run before their files are uploaded",
            'a "file"',
        ),
        (
            replaced(MAIN, 'provisioner "shell-local"', 'provisioner "breakpoint"'),
            "uploaded before anything makes it",
            "shell-local",
        ),
        (
            replaced(MAIN, 'provisioner "file" {', 'provisioner "file" {\n    only = ["qemu.x"]'),
            'there is no source "qemu.x"',
            "choose from: qemu.appliance",
        ),
        (
            replaced(MAIN, "summary = {{ spec.summary | hcl }}", 'summary = "'),
            "this is not HCL2",
            "write values with",
        ),
    ],
)
@pytest.mark.usefixtures("current")
def test_a_configuration_that_cannot_work_is_refused(
    root: Path, change: Callable[[Path], None], message: str, hint: str
) -> None:
    change(root)
    with pytest.raises(SpecErrors) as raised:
        rendered(root)
    assert any(
        message in error.message and hint in (error.hint or "") for error in raised.value.errors
    ), str(raised.value)


@pytest.mark.usefixtures("current")
def test_an_error_names_the_template_and_the_key_of_the_spec(root: Path) -> None:
    replaced(
        QEMU,
        "{{ [spec.resources.cpus, 2] | max | hcl }}",
        "{{ spec.resources.cpus | hcl }} + var.cpus",
    )(root)
    with pytest.raises(SpecErrors) as raised:
        rendered(root)
    (error,) = raised.value.errors
    template = root / "templates/packer" / QEMU
    line = next(
        number
        for number, text in enumerate(template.read_text().splitlines(), 1)
        if "var.cpus" in text
    )
    assert error.where and (error.where.path, error.where.line) == (template, line)
    assert error.message.startswith("var.cpus is not defined (rendered as qemu.pkr.hcl:")
    assert (
        f"the value is resources.cpus of {root / 'appliances/thing/appliance.yaml'}:8:19"
        in error.message
    )


@pytest.mark.usefixtures("current")
def test_a_unit_that_the_machine_misses_has_its_place_in_the_spec(root: Path) -> None:
    spec = root / "appliances/thing/appliance.yaml"
    spec.write_text(f"{SPEC}services: {{enable: [web, wbe], disable: [ssh.socket]}}\n")
    files = rendered(root)
    assert "\nsh provision/known.sh / web wbe ssh.socket\n" in files["provision/20-appliance.sh"]
    assert files["provision/known.sh"].startswith("#!/bin/sh\n# known.sh TREE UNIT...: ")
    shop = Workshop(root=root)
    source = prepare(
        shop, shop.library.load("thing"), builder="packer", architecture="amd64"
    ).source
    said = (
        "==> qemu.appliance: slipway: no unit wbe\n"
        "    qemu.appliance: slipway: no unit ssh.socket\n"
    )
    with pytest.raises(SpecErrors) as raised:
        packer_module._require_units(source, said)
    hint = (
        "\n  hint: name a unit of a package in packages, or put one into files/etc/systemd/system/"
    )
    assert str(raised.value).replace(str(spec), "SPEC") == (
        f'SPEC:9:26: error: services.enable[1]: the image has no unit "wbe"{hint}\n'
        f'SPEC:9:42: error: services.disable[0]: the image has no unit "ssh.socket"{hint}'
    )
    packer_module._require_units(
        source, "==> qemu.appliance: slipway: no unit nginx\nslipway: no unit wbe\n"
    )


@pytest.mark.usefixtures("current")
def test_the_users_values_are_read_checked_and_passed_on(root: Path) -> None:
    file = root / "appliances/thing/office.pkrvars.hcl"
    file.write_text('ssh_timeout = "1h"\nqemu_memory = 2048\n')
    assert rendered(root)["office.auto.pkrvars.hcl"] == file.read_text()
    file.write_text(
        'ssh_timeuot = "1h"\nqemu_memory = "much"\nssh_timeout = 5\nqemu_memory = 1\nlocals {\n}\n'
    )
    with pytest.raises(SpecErrors) as raised:
        rendered(root)
    shown = [str(error).replace(str(file), "FILE") for error in raised.value.errors]
    assert shown == [
        'FILE:1:1: error: there is no variable "ssh_timeuot"\n  hint: did you mean "ssh_timeout"?',
        "FILE:2:1: error: qemu_memory: expected a number\n  hint: write a number",
        "FILE:3:1: error: ssh_timeout: expected a string\n  hint: write a string",
        'FILE:4:1: error: "qemu_memory" is set twice\n  hint: remove one of the two',
        'FILE:5:1: error: there is no place for a block "locals" here\n  hint: set variables only',
    ]
    file.write_text("qemu_memory = \n")
    with pytest.raises(SpecErrors) as raised:
        rendered(root)
    assert "this is not HCL2" in str(raised.value)
