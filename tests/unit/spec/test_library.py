"""Loading, merging mix-ins, and making new appliances."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from slipway.errors import SpecErrors, UsageError
from slipway.spec.library import Library

NAME = (
    "2 to 40 lower-case letters, digits and hyphens, the first one a letter, the last one no hyphen"
)


def mixin(root: Path, name: str, text: str, files: dict[str, str] | None = None) -> None:
    """Put a mix-in into a library."""
    folder = root / "templates/mixins" / name
    folder.mkdir(parents=True)
    (folder / "mixin.yaml").write_text(text)
    for target, content in (files or {}).items():
        (folder / target).parent.mkdir(parents=True, exist_ok=True)
        (folder / target).write_text(content)


def test_defaults_are_those_that_the_document_names(root: Path, write: Callable[..., Path]) -> None:
    write()
    spec = Library(root).load("web").spec
    assert (spec.base, spec.kernel, spec.formats) == ("debian-13", "cloud", ("qcow2", "raw"))
    assert [interface.name for interface in spec.interfaces] == ["outside"]
    assert (spec.resources.cpus, spec.resources.memory_mib, spec.resources.disk_gib) == (1, 1024, 8)


def test_mixins_come_first_and_each_item_once(root: Path, write: Callable[..., Path]) -> None:
    mixin(
        root,
        "tls",
        "packages: [openssl, certbot]\nservices: {enable: [certbot.timer]}\n",
        {"files/etc/a": "tls", "files/etc/b": "tls"},
    )
    mixin(
        root,
        "log",
        "packages: [rsyslog]\n",
        {"setup/10-log.sh": "true\n", "checks/10-log.sh": "true\n"},
    )
    write(
        "include: [tls, log]\npackages: [nginx, openssl]\n",
        {"files/etc/b": "own", "setup/05-own.sh": "true\n"},
    )
    appliance = Library(root).load("web")
    assert appliance.spec.packages == ("openssl", "certbot", "rsyslog", "nginx")
    assert appliance.spec.services.enable == ("certbot.timer",)
    assert {file.target: file.path.read_text() for file in appliance.files} == {
        "/etc/a": "tls",
        "/etc/b": "own",
    }
    assert [path.name for path in appliance.setup] == ["05-own.sh", "10-log.sh"]
    assert [check.name for check in appliance.checks] == ["10-log.sh"]


def test_what_python_leaves_beside_a_program_is_no_file_of_the_image(
    root: Path, write: Callable[..., Path]
) -> None:
    write(
        "packages: [nginx]\n",
        {"files/usr/lib/web/tool.py": "", "files/usr/lib/web/__pycache__/tool.cpython-311.pyc": ""},
    )
    assert [file.target for file in Library(root).load("web").files] == ["/usr/lib/web/tool.py"]


def test_every_value_knows_where_it_stands(root: Path, write: Callable[..., Path]) -> None:
    folder = write("packages:\n  - nginx\n  - curl\n")
    where = Library(root).load("web").where["packages", 1]
    assert (where.path.name, where.line, where.column) == ("appliance.yaml", 8, 5)
    assert folder.name in str(where.path)


def test_a_new_appliance_is_valid_and_one_made_like_it_too(root: Path) -> None:
    library = Library(root)
    library.new("first-thing")
    library.new("second-thing", like="first-thing")
    first, second = Library(root).load_all()
    assert (first.name, second.name) == ("first-thing", "second-thing")
    assert second.spec.name == "second-thing"
    assert [(check.place, check.name) for check in second.checks] == [
        ("guest", "10-greeting.sh"),
        ("outside", "20-ssh.py"),
    ]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("web", 'error: there is an appliance "web" already\n  hint: choose another name'),
        (
            "../web",
            'error: "../web" is not a name\n  hint: ' + NAME,
        ),
        (
            "Web",
            'error: "Web" is not a name\n  hint: ' + NAME,
        ),
    ],
)
def test_a_name_that_cannot_be_makes_nothing(
    root: Path, write: Callable[..., Path], name: str, message: str
) -> None:
    write()
    before = sorted(root.rglob("*"))
    with pytest.raises(UsageError) as raised:
        Library(root).new(name)
    assert str(raised.value) == message
    assert sorted(root.rglob("*")) == before


@pytest.mark.parametrize("name", ["con", "lpt1"])
def test_an_appliance_whose_folder_windows_cannot_have_is_refused(root: Path, name: str) -> None:
    with pytest.raises(UsageError) as asked:
        Library(root).new(name)
    message = f'"{name}" cannot be a folder on Windows, where it is a device'
    assert str(asked.value) == f"error: {message}\n  hint: such as {name}-1"
    folder = root / "appliances" / name
    folder.mkdir()
    (folder / "appliance.yaml").write_text(
        f"schema: 1\nname: {name}\nversion: 1.0.0\nsummary: A web server\ncategory: network\n"
    )
    with pytest.raises(SpecErrors) as found:
        Library(root).load(name)
    assert f"error: name: {message}\n  hint: rename it, such as {name}-1" in str(found.value)


def test_an_unknown_name_is_an_error_that_names_a_near_one(
    root: Path, write: Callable[..., Path]
) -> None:
    write()
    with pytest.raises(UsageError) as raised:
        Library(root).load("wep")
    assert str(raised.value) == 'error: there is no appliance "wep"\n  hint: did you mean "web"?'
