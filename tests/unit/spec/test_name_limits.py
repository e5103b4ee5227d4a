"""Names that are fine as text and stand for something else, or are too long, where they are
used.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from slipway.errors import SpecError
from slipway.spec.library import Library

NAME = (
    "2 to 40 lower-case letters, digits and hyphens, the first one a letter, the last one no hyphen"
)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("lo", "the loopback interface of every machine"),
        ("all", "all interfaces, in the kernel's settings"),
        ("default", "interfaces to come, in the kernel's settings"),
        ("aux", "a device on Windows, where no folder of checks can have this name"),
        ("com1", "a device on Windows, where no folder of checks can have this name"),
    ],
)
def test_an_interface_has_no_name_of_something_else(
    root: Path, write: Callable[..., Path], name: str, what: str
) -> None:
    write(f"interfaces: [{{name: {name}}}]\n")
    with pytest.raises(SpecError) as raised:
        Library(root).load("web")
    assert str(raised.value).endswith(
        f'error: interfaces[0].name: "{name}" is {what}\n  hint: choose another name'
    )


@pytest.mark.parametrize(
    "name", ["checks/con.sh", "checks/outside/aux.py", "faults/nul.patch", "files/etc/NUL.x.conf"]
)
def test_no_file_of_an_appliance_is_a_device_on_windows(
    root: Path, write: Callable[..., Path], name: str
) -> None:
    write(files={name: "true\n", "files/etc/console": "", "checks/10-con.sh": "true\n"})
    with pytest.raises(SpecError) as raised:
        Library(root).load("web")
    assert str(raised.value).endswith(
        f'{name}: error: "{Path(name).name}" is a device on Windows, where no checkout can have '
        "it\n  hint: rename it; in an image a setup script can give it this name"
    )
    assert str(raised.value).count("error: ") == 1


def test_a_unit_is_one_with_and_without_its_type(root: Path, write: Callable[..., Path]) -> None:
    write("services: {enable: [nginx], disable: [nginx.service]}\n")
    with pytest.raises(SpecError) as raised:
        Library(root).load("web")
    assert str(raised.value).endswith(
        'error: services.disable[0]: "nginx.service" is enabled too\n'
        "  hint: remove it from one of the two lists"
    )
    exposed = "exposed: [{service: nginx.service, exposure: 70, reason: it binds to port 80}]"
    folder = root / "templates/mixins/page"
    folder.mkdir(parents=True)
    (folder / "mixin.yaml").write_text(
        f"services: {{enable: [nginx, cron.service], disable: [ssh], {exposed}}}\n"
    )
    write(
        "include: [page]\nservices: {enable: [ssh.service, nginx.service], disable: [cron], "
        "exposed: [{service: nginx, exposure: 30, reason: it has a proxy}]}\n"
    )
    services = Library(root).load("web").spec.services
    assert (services.enable, services.disable) == (("nginx.service", "ssh.service"), ("cron",))
    assert [(item.service, item.exposure) for item in services.exposed] == [("nginx", 30)]


def test_no_download_is_the_folder_of_another(root: Path, write: Callable[..., Path]) -> None:
    files = [
        f"{{url: 'http://x.example/{path}', sha256: {'a' * 64}, path: {path}}}"
        for path in ("/opt/a/b", "/opt/a", "/opt/ab")
    ]
    write(f"downloads: [{', '.join(files)}]\n")
    with pytest.raises(SpecError) as raised:
        Library(root).load("web")
    assert str(raised.value).endswith(
        "error: downloads[0].path: /opt/a/b is below /opt/a, which is a file\n"
        "  hint: rename one of the two"
    )
    assert str(raised.value).count("error: ") == 1


def test_a_timers_name_ends_in_no_hyphen(root: Path, write: Callable[..., Path]) -> None:
    write("timers: [{name: tidy-, calendar: daily, command: /bin/true}]\n")
    with pytest.raises(SpecError) as raised:
        Library(root).load("web")
    assert str(raised.value).endswith(
        f'error: timers[0].name: "tidy-" is not a name\n  hint: {NAME}'
    )


def test_a_version_fits_into_names_of_files(root: Path, write: Callable[..., Path]) -> None:
    folder = write()
    spec = folder / "appliance.yaml"
    text = spec.read_text()
    spec.write_text(text.replace("1.0.0", "1.0.0-" + "a" * 58))
    Library(root).load("web")
    spec.write_text(text.replace("1.0.0", "1.0.0-" + "a" * 59))
    with pytest.raises(SpecError) as raised:
        Library(root).load("web")
    assert str(raised.value).endswith(
        "error: version: 65 characters, at most 64 wanted\n  hint: shorten it"
    )


def test_a_check_has_a_name_that_reports_have_room_for(
    root: Path, write: Callable[..., Path]
) -> None:
    write(files={f"checks/{'a' * 97}.sh": "true\n"})
    Library(root).load("web")
    write(files={f"checks/{'b' * 98}.sh": "true\n"})
    with pytest.raises(SpecError) as raised:
        Library(root).load("web")
    hint = (
        "checks end in .sh or .py and have lower-case names of up to 100 characters; "
        "or a folder named after an interface"
    )
    assert str(raised.value).endswith(f'error: "{"b" * 98}.sh" has no meaning here\n  hint: {hint}')


def test_a_number_among_services_hides_nothing_else(root: Path, write: Callable[..., Path]) -> None:
    write("services: {enable: [cron, 1.5], exposed: [{service: corn, exposure: 1, reason: a}]}\n")
    with pytest.raises(SpecError) as raised:
        Library(root).load("web")
    assert (
        'error: services.exposed[0].service: "corn" is not enabled\n  hint: did you mean "cron"?'
        in str(raised.value)
    )


def test_a_mixins_exposure_counts_unless_the_spec_has_its_own(
    root: Path, write: Callable[..., Path]
) -> None:
    exposed = "exposed: [{service: certbot, exposure: 70, reason: it writes certificates}]"
    folder = root / "templates/mixins/tls"
    folder.mkdir(parents=True)
    (folder / "mixin.yaml").write_text(
        f"services: {{enable: [certbot], exposure: 40, {exposed}}}\n"
    )
    write("include: [tls]\n")
    services = Library(root).load("web").spec.services
    assert (services.exposure, [item.service for item in services.exposed]) == (40, ["certbot"])
    write("include: [tls]\nservices: {exposure: 60}\n")
    assert Library(root).load("web").spec.services.exposure == 60
