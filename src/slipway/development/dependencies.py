"""The lock of Slipway's own Python dependencies: read it, compare it with pyproject.toml, renew it.

What goes in: the root of a checkout. What comes out: problems as lines of text, or renewed lock
files and a summary of the changes. The lock is three files of pip's (``requirements/<set>.txt``),
each complete for itself.

Invariants: a lock file holds only exact versions and SHA-256 hashes, so neither an index nor a
path. A distribution has the same version in all sets. Comparing needs no network; only renewing
asks the package index.
"""

from __future__ import annotations

import importlib.metadata
import itertools
import os
import re
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from packaging.markers import Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from slipway.cache import create_file
from slipway.errors import BuildError, Where
from slipway.host import process

__all__ = [
    "SETS",
    "UPDATE",
    "Pin",
    "lock_path",
    "problems",
    "read_pins",
    "require_agreement",
    "update",
]

#: The sets, from the smallest to the largest, with their extras of pyproject.toml.
SETS: Mapping[str, tuple[str, ...]] = {
    "tasks": ("pypi", "s3"),
    "checks": ("checks", "pypi", "s3"),
    "dev": ("dev",),
}
#: The command to renew the lock.
UPDATE = "./run deps --update"
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
MACHINES = ("x86_64", "aarch64")
#: uv's settings about the way to an index; all others could change the content of the lock.
_UV_SETTINGS = re.compile(
    r"UV_(DEFAULT_INDEX|INDEX_URL|INDEX_\w+_(USERNAME|PASSWORD)|CACHE_DIR|HTTP_\w+|INSECURE_HOST"
    r"|KEYRING_PROVIDER|NATIVE_TLS|SYSTEM_CERTS)"
    r"|SSL_CERT_(FILE|DIR)|ALL_PROXY|HTTPS?_PROXY|NO_PROXY|NETRC"
)
_HEADER = f"# The set {{name}} of pyproject.toml's dependencies. Made by: {UPDATE}\n"

Environment = Mapping[str, str]
#: Finds the Requires-Dist lines of a distribution in one version; None if they are unknown.
Metadata = Callable[[str, str], Sequence[str] | None]


@dataclass(frozen=True, slots=True)
class Pin:
    """One locked version of a distribution; ``marker`` is None if it is for every environment."""

    name: str
    version: str
    marker: Marker | None
    hashes: tuple[str, ...]

    def applies(self, environment: Environment) -> bool:
        """Return True if an environment installs it."""
        return self.marker is None or self.marker.evaluate(dict(environment))

    @property
    def text(self) -> str:
        """The lines of pip's requirement file."""
        marker = f" ; {self.marker}" if self.marker else ""
        return (
            " \\\n    --hash=".join([f"{self.name}=={self.version}{marker}", *self.hashes]) + "\n"
        )


def environments() -> list[Environment]:
    """Return the environments of the lock, as variables of markers."""
    fixed = {
        "extra": "",
        "implementation_name": "cpython",
        "os_name": "posix",
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "sys_platform": "linux",
    }
    versions = [
        {
            "python_version": each,
            "python_full_version": f"{each}.0",
            "implementation_version": f"{each}.0",
        }
        for each in PYTHONS
    ]
    return [
        {**fixed, **version, "platform_machine": machine}
        for version in versions
        for machine in MACHINES
    ]


def lock_path(root: Path, name: str) -> Path:
    """Return the file of a set."""
    return root / "requirements" / f"{name}.txt"


def read_pins(path: Path) -> list[Pin]:
    """Read a lock file.

    Raises:
        BuildError: The file is missing, or a line is no version with hashes.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BuildError(
            f"{path.name} is missing in {path.parent}", hint=f"run: {UPDATE}"
        ) from None
    pins = []
    number = 1
    for line in re.split(r"(?<!\\)\n", text):
        if line and not line.startswith("#"):
            pins.append(_pin(line.replace("\\\n", ""), Where(path, number)))
        number += line.count("\n") + 1
    return pins


def _pin(line: str, where: Where) -> Pin:
    wanted, *hashes = re.split(r"\s+--hash=", line.strip())
    error = BuildError(
        "not a version with hashes, as name==1.0 --hash=sha256:...",
        where=where,
        hint=f"run: {UPDATE}",
    )
    try:
        found = Requirement(wanted)
    except InvalidRequirement:
        raise error from None
    exact = re.fullmatch(r"==([^*]+)", str(found.specifier))
    if (
        not exact
        or not hashes
        or not all(re.fullmatch(r"sha256:[0-9a-f]{64}", each) for each in hashes)
    ):
        raise error
    return Pin(canonicalize_name(found.name), exact[1], found.marker, tuple(hashes))


# --- pyproject.toml and the lock ------------------------------------------------------------------


def problems(root: Path, metadata: Metadata | None = None) -> list[str]:
    """Compare the lock with pyproject.toml, and its sets with each other; a line per problem.

    The requirements of a locked distribution are read from its installed metadata. They are skipped
    if it is not installed in its locked version.

    Raises:
        BuildError: A lock file is missing or malformed.
    """
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    sets = {name: read_pins(lock_path(root, name)) for name in SETS}
    found: dict[str, None] = {}  # an ordered set
    for name, pins in sets.items():
        for environment in environments():
            wanted = _wanted(project, SETS[name])
            found |= dict.fromkeys(
                _disagreements(name, pins, wanted, environment, metadata or _installed)
            )
    for small, large in itertools.pairwise(sets):
        found |= dict.fromkeys(_differences(small, sets[small], large, sets[large]))
    return list(found)


def require_agreement(root: Path) -> None:
    """Compare the lock with pyproject.toml.

    Raises:
        BuildError: They disagree, or a lock file is missing or malformed.
    """
    found = problems(root)
    if found:
        raise BuildError(
            "requirements/ and pyproject.toml disagree\n"
            + "\n".join(f"  {line}" for line in found),
            hint=f"run: {UPDATE}",
        )


def _wanted(project: Mapping[str, object], extras: Iterable[str]) -> list[tuple[str, Requirement]]:
    """Return the requirements of the project with some extras, and the origin of each."""
    optional = project["optional-dependencies"]
    dependencies = project["dependencies"]
    assert isinstance(optional, dict) and isinstance(dependencies, list)
    lines = list(dependencies)
    todo, seen = list(extras), set(extras)
    while todo:
        for line in optional[todo.pop()]:
            requirement = Requirement(line)
            if requirement.name != project["name"]:
                lines.append(line)
                continue
            todo += requirement.extras - seen
            seen |= requirement.extras
    return [("pyproject.toml", Requirement(line)) for line in lines]


@cache
def _installed(name: str, version: str) -> Sequence[str] | None:
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return None
    return (distribution.requires or []) if distribution.version == version else None


def _disagreements(
    name: str,
    pins: Sequence[Pin],
    wanted: Sequence[tuple[str, Requirement]],
    environment: Environment,
    metadata: Metadata,
) -> Iterator[str]:
    """Follow the requirements through the lock, in one environment."""
    locked = {pin.name: pin for pin in pins if pin.applies(environment)}
    file = f"requirements/{name}.txt"
    todo = [
        (origin, requirement)
        for origin, requirement in wanted
        if _holds(requirement, environment, "")
    ]
    seen: set[tuple[str, str]] = set()
    everything_known = True
    while todo:
        origin, requirement = todo.pop(0)
        pin = locked.get(canonicalize_name(requirement.name))
        if pin is None:
            yield f"{file} lacks {requirement.name}; {origin} requires it"
            continue
        if not requirement.specifier.contains(pin.version, prereleases=True):
            yield f"{file} has {pin.name} {pin.version}; {origin} requires {requirement.specifier}"
        for extra in ("", *requirement.extras):
            if (pin.name, extra) in seen:
                continue
            seen.add((pin.name, extra))
            lines = metadata(pin.name, pin.version)
            everything_known = everything_known and lines is not None
            further = [_requirement(line) for line in lines or ()]
            todo += [
                (f"{pin.name} {pin.version}", each)
                for each in further
                if _holds(each, environment, extra)
            ]
    if everything_known:
        for left in sorted(locked.keys() - {pin for pin, _ in seen}):
            yield f"{file} has {left}; nothing requires it"


@cache
def _requirement(line: str) -> Requirement:
    return Requirement(line)


def _holds(requirement: Requirement, environment: Environment, extra: str) -> bool:
    """Return True if a requirement counts in an environment, for an extra or without one."""
    if requirement.marker is None:
        return extra == ""
    return requirement.marker.evaluate({**environment, "extra": extra})


def _differences(small: str, some: Sequence[Pin], large: str, more: Sequence[Pin]) -> Iterator[str]:
    """Compare the versions of a set with those of a larger set around it."""
    for environment in environments():
        versions = {pin.name: pin.version for pin in more if pin.applies(environment)}
        for pin in some:
            other = versions.get(pin.name)
            if pin.applies(environment) and other != pin.version:
                first, second = (
                    f"{pin.name} is {pin.version} in requirements/{small}.txt",
                    f"requirements/{large}.txt",
                )
                yield (
                    f"{first} and {other} in {second}"
                    if other
                    else f"{first} and missing in {second}"
                )


# --- renewing -------------------------------------------------------------------------------------


def update(root: Path) -> list[str]:
    """Lock the newest versions allowed by pyproject.toml, and return the changes, a line each.

    Raises:
        BuildError: The index cannot be reached, there is no solution, or a wheel is missing.
    """
    before = {
        name: read_pins(lock_path(root, name)) if lock_path(root, name).exists() else []
        for name in SETS
    }
    after: dict[str, list[Pin]] = {}
    with tempfile.TemporaryDirectory(prefix="slipway-deps-") as scratch:
        constraint: list[str | Path] = []
        for name in reversed([*SETS]):  # the largest first: it decides the versions
            path = Path(scratch) / f"{name}.txt"
            extras = [f"--extra={extra}" for extra in SETS[name]]
            options = [
                "--universal",
                f"--python-version={PYTHONS[0]}",
                "--generate-hashes",
                "--only-binary=:all:",
            ]
            options += ["--no-header", "--no-annotate", "--no-emit-index-url", "--quiet"]
            _uv(
                [
                    "compile",
                    *options,
                    *extras,
                    *constraint,
                    f"--output-file={path}",
                    "pyproject.toml",
                ],
                root,
            )
            constraint = constraint or ["--constraint", path]
            after[name] = list(_plain(read_pins(path)))
            path.write_text("".join(pin.text for pin in after[name]))
        _require_wheels(Path(scratch), root)
    for name in SETS:
        path = lock_path(root, name)
        path.parent.mkdir(exist_ok=True)
        with create_file(path, mode=0o644) as file:
            file.write(
                (_HEADER.format(name=name) + "".join(pin.text for pin in after[name])).encode()
            )
    return [line for name in SETS for line in _changes(name, before[name], after[name])]


def _plain(pins: Iterable[Pin]) -> Iterator[Pin]:
    """Leave out markers for every environment, and pins for none."""
    for pin in pins:
        holds = [pin.applies(environment) for environment in environments()]
        if any(holds):
            yield Pin(pin.name, pin.version, None if all(holds) else pin.marker, pin.hashes)


def _require_wheels(scratch: Path, root: Path) -> None:
    """Check that every environment has a wheel of every distribution: none is built."""
    for version in PYTHONS:
        for machine in MACHINES:
            options = [
                "--dry-run",
                "--quiet",
                f"--target={scratch / 'none'}",
                "--only-binary=:all:",
                "--require-hashes",
                "--no-deps",
            ]
            options += [
                f"--python-version={version}",
                f"--python-platform={machine}-manylinux_2_28",
            ]
            _uv(["install", *options, f"--requirement={scratch / 'dev.txt'}"], root)


def _uv(words: Sequence[str | Path], root: Path) -> None:
    settings = {
        name: value for name, value in os.environ.items() if _UV_SETTINGS.fullmatch(name.upper())
    }
    process.run(
        [sys.executable, "-m", "uv", "pip", *words],
        what=f"uv pip {words[0]}",
        cwd=root,
        env=settings,
        timeout_s=900,
    )


def _changes(name: str, before: Sequence[Pin], after: Sequence[Pin]) -> Iterator[str]:
    """Yield the changes of a set, as `lock` shows them for packages."""
    old, new = _versions(before), _versions(after)
    for each in sorted(old.keys() | new.keys()):
        if each not in new:
            yield f"{name}: - {each} {old[each]}"
        elif each not in old:
            yield f"{name}: + {each} {new[each]}"
        elif old[each] != new[each]:
            yield f"{name}: {each} {old[each]} -> {new[each]}"
    files = {pin.name for pin in after if pin.hashes not in {was.hashes for was in before}}
    for each in sorted(files):
        if old.get(each) == new[each]:
            yield f"{name}: {each} {new[each]} has other files"


def _versions(pins: Sequence[Pin]) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    for pin in pins:
        found.setdefault(pin.name, []).append(pin.version)
    return {name: ", ".join(versions) for name, versions in found.items()}
