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
    ],
)
def test_an_interface_has_no_name_of_the_kernels(
    root: Path, write: Callable[..., Path], name: str, what: str
) -> None:
    write(f"interfaces: [{{name: {name}}}]\n")
    with pytest.raises(SpecError) as raised:
        Library(root).load("web")
    assert str(raised.value).endswith(
        f'error: interfaces[0].name: "{name}" is {what}\n  hint: choose another name'
    )


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
