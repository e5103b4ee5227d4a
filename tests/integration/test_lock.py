"""Locking for real, against the host's own mirror."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from slipway.errors import SpecError, SpecErrors, Where
from slipway.packages.lock import Lists, Lock, Wanted, check_lock, read_lock, resolve, write_lock
from slipway.packages.mirror import find_mirrors
from slipway.packages.pool import Pool
from slipway.settings import Settings
from slipway.spec.base import Base
from slipway.spec.library import Library

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[2]
Resolve = Callable[..., Lock]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def mirrors(cache: Path) -> Mapping[str, str]:
    return find_mirrors(Settings(cache=cache))


@pytest.fixture(scope="module")
def base() -> Base:
    return Library(ROOT).base("debian-13")


@pytest.fixture(scope="module")
def lock(cache: Path, mirrors: Mapping[str, str], base: Base) -> Resolve:
    """Resolve packages for amd64 and the cloud kernel."""

    def lock(
        *names: str, of: Base = base, where: Mapping[tuple[str | int, ...], Where] | None = None
    ) -> Lock:
        return resolve(
            of,
            "cloud",
            "amd64",
            Wanted(packages=names, where=where or {}),
            lists=Lists(mirrors=mirrors, folder=cache / "apt"),
            pool=Pool(cache / "pool"),
        )

    return lock


def test_a_lock_holds_everything_and_its_base_is_the_same_for_all(
    lock: Resolve, cache: Path, base: Base, mirrors: Mapping[str, str], tmp_path: Path
) -> None:
    plain, web = lock(), lock("nginx")
    assert plain.packages == ()
    assert plain.base_packages == web.base_packages
    assert plain.source_date_epoch == web.source_date_epoch > 1_700_000_000
    names = {package.name for package in web.base_packages}
    assert {
        "apt",
        "base-files",
        "dpkg",
        "systemd",
        "grub-cloud-amd64",
        "linux-image-cloud-amd64",
    } <= names
    assert any(name.startswith("linux-image-6") for name in names)
    assert {package.name for package in web.packages} == {"nginx", "nginx-common"}
    assert {package.archive for package in web.all_packages} <= {"debian", "debian-security"}
    write_lock(tmp_path / "lock.json", web)
    assert read_lock(tmp_path / "lock.json") == web == lock("nginx")
    pool = Pool(cache / "pool")
    assert pool.missing(web.base_packages) == ()
    pool.fetch(web.packages, mirrors)
    pool.repository(web.all_packages, tmp_path / "repository")
    assert (tmp_path / "repository/Packages").read_text().count("\n\n") == len(web.all_packages)


def test_unknown_and_ambiguous_packages_are_all_named_where_they_stand(lock: Resolve) -> None:
    where = {("packages", index): Where(Path("appliance.yaml"), 5 + index, 3) for index in range(3)}
    with pytest.raises(SpecErrors) as caught:
        lock("ngnix", "nginx", "mail-transport-agent", where=where)
    lines = str(caught.value).splitlines()
    assert lines[:3] == [
        'appliance.yaml:5:3: error: packages: there is no package "ngnix" in this release',
        '  hint: did you mean "nginx"?',
        (
            'appliance.yaml:7:3: error: packages: "mail-transport-agent" is a virtual package '
            "that several provide"
        ),
    ]
    assert lines[3].startswith("  hint: choose one of: ")
    assert "postfix" in lines[3]


def test_a_virtual_package_with_one_provider_is_that_one(lock: Resolve) -> None:
    assert "exim4-daemon-light" in {package.name for package in lock("default-mta").packages}


def test_packages_that_exclude_each_other_are_an_error_with_apts_reason(lock: Resolve) -> None:
    with pytest.raises(SpecErrors) as caught:
        lock(
            "postfix",
            "exim4-daemon-light",
            where={("packages",): Where(Path("appliance.yaml"), 4, 1)},
        )
    text = str(caught.value)
    assert text.startswith(
        "appliance.yaml:4:1: error: packages: they cannot be installed together:\n"
    )
    assert "Conflicts: mail-transport-agent" in text


def test_a_package_that_would_remove_one_of_the_base_is_refused(lock: Resolve, base: Base) -> None:
    with_mailer = dataclasses.replace(base, packages=(*base.packages, "postfix"))
    with pytest.raises(SpecErrors) as caught:
        lock("exim4-daemon-light", of=with_mailer)
    assert str(caught.value) == (
        "error: packages: postfix of the base debian-13 would have to be removed for them\n"
        "  hint: leave out what conflicts with the base"
    )


def test_a_lock_that_the_spec_has_outgrown_is_refused(lock: Resolve) -> None:
    appliance = Library(ROOT).load_all()[0]
    path = Path("lock.amd64.json")
    fitting = dataclasses.replace(
        lock(), kernel=appliance.spec.kernel, requested=appliance.spec.packages
    )
    check_lock(fitting, path, appliance)
    with pytest.raises(SpecError) as caught:
        check_lock(
            dataclasses.replace(fitting, requested=(*appliance.spec.packages, "gone")),
            path,
            appliance,
        )
    assert str(caught.value) == (
        "lock.amd64.json: error: the lock is older than the spec: it still has gone\n"
        f"  hint: run: invoke lock {appliance.name}"
    )


def test_packages_of_pypi_are_wheels_for_the_images_python(
    cache: Path, mirrors: Mapping[str, str], base: Base, tmp_path: Path
) -> None:
    def lock(*names: str) -> Lock:
        pool = Pool(cache / "pool")
        where: dict[tuple[str | int, ...], Where] = {("pypi",): Where(Path("appliance.yaml"), 7, 1)}
        return resolve(
            base,
            "cloud",
            "amd64",
            Wanted(pypi=names, where=where),
            lists=Lists(mirrors=mirrors, folder=cache / "apt"),
            pool=pool,
        )

    found = lock("jinja2==3.1.6")
    assert [wheel.name for wheel in found.wheels] == ["jinja2", "markupsafe"]
    python = next(package.version for package in found.base_packages if package.name == "python3")
    assert f"-cp{''.join(python.split('.')[:2])}-" in found.wheels[1].file
    write_lock(tmp_path / "lock.json", found)
    assert read_lock(tmp_path / "lock.json") == found
    problem = r"appliance.yaml:7:1: error: pypi: pip finds no wheels for them:\n    ERROR: .*"
    with pytest.raises(SpecErrors, match=f"{problem}jinja2==99"):
        lock("jinja2==99")
