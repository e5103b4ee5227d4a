"""Packages of PyPI: names with versions -> locked wheels -> a virtual environment of the image.

pip finds the wheels, with this user's settings of it, for the image's Python, C library and
processor. Only wheels are used, so nothing is compiled. pip evaluates markers (PEP 508) for the
Python it runs in, so they are evaluated again for the image's. A lock holds the wheels by file name
and SHA-256, without their origin.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final
from urllib.parse import unquote, urlsplit
from zipfile import BadZipFile

from slipway.errors import BuildError, HostError, SpecError, SpecErrors, UsageError, Where
from slipway.host import process
from slipway.host.rooted import make_folders
from slipway.packages.locked import Lock, LockedPackage, LockedWheel
from slipway.packages.pool import Pool

__all__ = ["ENVIRONMENT", "install_wheels", "installer_version", "resolve_wheels"]

#: The virtual environment's path in an image.
ENVIRONMENT: Final = "/opt/pypi"
#: Processors by Debian's architectures.
_MACHINES: Final = {"amd64": "x86_64", "arm64": "aarch64"}
_ROUNDS: Final = 10


@dataclass(frozen=True, slots=True)
class _Target:
    """The Python of the wheels: its version ("3.13", "3.13.5"), glibc's minor version, the
    processor.
    """

    python: str
    full: str
    glibc: int
    machine: str

    @property
    def options(self) -> list[str]:
        """pip's options to choose fitting wheels."""
        tags = [f"manylinux_2_{minor}_{self.machine}" for minor in range(self.glibc, 4, -1)]
        tags += [f"manylinux2014_{self.machine}", f"linux_{self.machine}"]
        chosen = ["--only-binary=:all:", "--implementation=cp", f"--python-version={self.full}"]
        return [*chosen, *(f"--platform={tag}" for tag in tags)]

    def environment(self, extra: str) -> dict[str, str]:
        """Return the values for markers (PEP 508)."""
        return {
            "extra": extra,
            "implementation_name": "cpython",
            "implementation_version": self.full,
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": self.full,
            "python_version": self.python,
            "sys_platform": "linux",
        }


def resolve_wheels(
    requirements: Sequence[str],
    packages: Sequence[LockedPackage],
    architecture: str,
    where: Mapping[tuple[str | int, ...], Where],
) -> tuple[LockedWheel, ...]:
    """Find the wheels for these requirements in an image of these packages, sorted by name.

    Raises:
        SpecErrors: The image has no Python, or pip finds no compatible wheels; with pip's words.
        HostError: A needed package is not installed on this host.
    """
    if not requirements:
        return ()
    packaging = _packaging()
    target = _target(packages, architecture, where)
    wanted = list(requirements)
    for _ in range(_ROUNDS):
        # Nothing is installed, but pip before 24 chooses wheels for another machine only with a
        # target.
        words = [
            "install",
            "--dry-run",
            "--target=/nonexistent",
            "--quiet",
            "--report=-",
            *target.options,
            *wanted,
        ]
        try:
            report = json.loads(_pip(words, what="resolving packages of PyPI"))
        except BuildError as error:
            said = [line for line in error.message.splitlines() if "ERROR:" in line]
            message = "pypi: pip finds no wheels for them:\n" + "\n".join(
                f"    {line.strip()}" for line in said or [error.message]
            )
            raise SpecErrors(
                [
                    SpecError(
                        message, where=where.get(("pypi",)), hint="name versions that have wheels"
                    )
                ]
            ) from None
        found = {_canonical(item["metadata"]["name"]): item for item in report["install"]}
        needed, missing = _needed(requirements, found, target, packaging)
        if not missing:
            return tuple(sorted(_locked(found[name], name) for name in needed))
        wanted += [text for text in missing if text not in wanted]
    message = (
        f"pypi: no wheels that go together were found in {_ROUNDS} tries; the last ones asked for "
        f"were: {', '.join(missing)}"
    )
    raise SpecErrors(
        [SpecError(message, where=where.get(("pypi",)), hint="name their versions in pypi too")]
    )


def install_wheels(lock: Lock, pool: Pool, root: Path) -> None:
    """Make a lock's virtual environment, at :data:`ENVIRONMENT` in the image.

    Args:
        root: The folder standing for the image's root.

    Raises:
        BuildError: Some wheels are unavailable as locked, or cannot be installed.
        HostError: A needed package is not installed on this host.
        UsageError: A link is in the way.
    """
    from installer import install
    from installer.destinations import SchemeDictionaryDestination
    from installer.exceptions import InstallerError
    from installer.sources import WheelFile

    target = _target(lock.all_packages, lock.architecture, {})
    _fetch(lock.wheels, target, pool)
    library = f"{ENVIRONMENT}/lib/python{target.python}/site-packages"
    scheme = {
        "purelib": library,
        "platlib": library,
        "scripts": f"{ENVIRONMENT}/bin",
        "data": ENVIRONMENT,
    }
    scheme["headers"] = f"{ENVIRONMENT}/include/site/python{target.python}"
    interpreter = f"{ENVIRONMENT}/bin/python3"
    destination = SchemeDictionaryDestination(scheme, interpreter, "posix", destdir=str(root))
    environment = make_folders(root, ENVIRONMENT)
    make_folders(root, f"{ENVIRONMENT}/bin")
    for path in environment.rglob("*"):
        # an appliance's file: a wheel's files would be written to the link's target
        if path.is_symlink():
            raise UsageError(
                f"files/ has a link in the folder of Python packages: {path.relative_to(root)}",
                hint="remove it",
            )
    with tempfile.TemporaryDirectory() as folder:
        for wheel in lock.wheels:
            # The installer reads a wheel's tags from its file name; the pool does not keep that.
            file = Path(folder) / wheel.file
            file.symlink_to(pool.file_path(wheel.sha256))
            try:
                with WheelFile.open(file) as source:
                    install(source, destination, additional_metadata={"INSTALLER": b"slipway\n"})
            except (
                InstallerError,
                BadZipFile,
                ValueError,
                KeyError,
                AssertionError,
                FileExistsError,
            ) as error:
                text = str(error).replace(f"{root}/", "/")
                message = f"the wheel {wheel.file} cannot be installed: {text}"
                raise BuildError(
                    message, hint="name another version in pypi, then: invoke lock NAME"
                ) from error
    (environment / "bin/python3").symlink_to("/usr/bin/python3")
    (environment / "bin/python").symlink_to("python3")
    (environment / "pyvenv.cfg").write_text(
        f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {target.full}\n"
    )
    for path in environment.rglob("*"):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)


def installer_version() -> str:
    """Return the version of the wheels' installer, because images depend on it.

    Raises:
        HostError: The installer is missing.
    """
    try:
        import installer
    except ImportError as error:
        raise _lacking(error) from error
    return installer.__version__


def _fetch(wheels: Sequence[LockedWheel], target: _Target, pool: Pool) -> None:
    """Download the missing wheels into the pool, and verify all."""
    missing = [wheel for wheel in wheels if not pool.has_file(wheel.sha256)]
    if not missing:
        return
    with pool.incoming() as folder:
        lines = "".join(
            f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}\n" for wheel in missing
        )
        (folder / "requirements").write_text(lines)
        words = [
            "download",
            "--quiet",
            "--no-deps",
            "--require-hashes",
            f"--dest={folder}",
            f"--requirement={folder / 'requirements'}",
        ]
        _pip([*words, *target.options], what="downloading packages of PyPI")
        for wheel in missing:
            pool.add_file(
                folder / wheel.file,
                wheel.sha256,
                what=f"the wheel {wheel.file}",
                hint="lock again: invoke lock NAME",
            )


def _target(
    packages: Sequence[LockedPackage],
    architecture: str,
    where: Mapping[tuple[str | int, ...], Where],
) -> _Target:
    versions = {package.name: re.sub(r"^[0-9]+:", "", package.version) for package in packages}
    python, glibc = (
        re.match(r"([0-9]+)\.([0-9]+)(\.[0-9]+)?", versions.get(name, ""))
        for name in ("python3", "libc6")
    )
    if not python or not glibc:
        raise SpecErrors(
            [
                SpecError(
                    "pypi: the image has no Python",
                    where=where.get(("pypi",)),
                    hint="add python3 to packages",
                )
            ]
        )
    return _Target(f"{python[1]}.{python[2]}", python[0], int(glibc[2]), _MACHINES[architecture])


def _needed(
    requirements: Sequence[str], found: Mapping[str, Any], target: _Target, packaging: ModuleType
) -> tuple[set[str], list[str]]:
    """Follow the requirements through the found packages, for the target.

    Returns:
        The names of the needed packages among the found ones, and the needed requirements without
        one.
    """
    todo = [packaging.Requirement(text) for text in requirements]
    seen: set[tuple[str, frozenset[str]]] = set()
    missing: list[str] = []
    while todo:
        requirement = todo.pop()
        name = _canonical(requirement.name)
        item = found.get(name)
        if item is None or not requirement.specifier.contains(
            item["metadata"]["version"], prereleases=True
        ):
            requirement.marker = None
            missing.append(str(requirement))
            continue
        if (name, frozenset(requirement.extras)) in seen:
            continue
        seen.add((name, frozenset(requirement.extras)))
        for text in item["metadata"].get("requires_dist", ()):
            further = packaging.Requirement(text)
            extras = {"", *requirement.extras}
            if further.marker is None or any(
                further.marker.evaluate(target.environment(extra)) for extra in extras
            ):
                todo.append(further)
    return {name for name, _ in seen}, sorted(set(missing))


def _locked(item: Mapping[str, Any], name: str) -> LockedWheel:
    """Return a wheel from pip's report (installation report, version 1)."""
    download = item["download_info"]
    return LockedWheel(
        name=name,
        version=item["metadata"]["version"],
        file=unquote(urlsplit(download["url"]).path.rpartition("/")[2]),
        sha256=download["archive_info"]["hashes"]["sha256"],
    )


def _canonical(name: str) -> str:
    """Return a name as PyPI compares it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _pip(words: Sequence[str], *, what: str) -> bytes:
    return process.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *words],
        what=what,
        timeout_s=1800,
    ).stdout


def _packaging() -> ModuleType:
    try:
        from packaging import requirements
    except ImportError as error:
        raise _lacking(error) from error
    return requirements


def _lacking(error: ImportError) -> HostError:
    return HostError(
        f"packages of PyPI need more than is installed: {error}", hint="pip install 'slipway[pypi]'"
    )
