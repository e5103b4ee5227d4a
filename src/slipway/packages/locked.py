"""Locks: exact versions and hashes of every package of an appliance; the difference of two locks.

Invariant: ``base_packages`` depends only on the base, its kernel and the state of the mirrors. So
appliances locked together share their base tree; ``packages`` are the additions of one appliance.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass

__all__ = ["Lock", "LockDiff", "LockedPackage", "Upgrade", "compare_versions", "differences"]


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class LockedPackage:
    """One package: its place (``path`` below the archive's URI), size in bytes and SHA-256."""

    name: str
    version: str
    architecture: str
    sha256: str
    size: int
    archive: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class LockedWheel:
    """One package of PyPI: its file's name, which tells its platform, and its SHA-256."""

    name: str
    version: str
    file: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """All packages of an appliance, each group sorted by name.

    ``base_requested``, ``requested`` and ``tools_requested`` are the requested names; the rest
    follows from them. ``tools`` is a separate system, used by checks and part of no image.
    ``source_date_epoch`` (seconds since 1970) is the newest time in the base's packages.
    """

    base: str
    kernel: str
    architecture: str
    source_date_epoch: int
    base_requested: tuple[str, ...] = ()
    requested: tuple[str, ...] = ()
    base_packages: tuple[LockedPackage, ...]
    packages: tuple[LockedPackage, ...]
    sources: tuple[str, ...] = ()
    """The sources besides the base's, as in the spec."""
    tools_requested: tuple[str, ...] = ()
    tools: tuple[LockedPackage, ...] = ()
    pypi_requested: tuple[str, ...] = ()
    wheels: tuple[LockedWheel, ...] = ()

    @property
    def all_packages(self) -> tuple[LockedPackage, ...]:
        """The image's packages, sorted by name."""
        return tuple(sorted((*self.base_packages, *self.packages)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Upgrade:
    """A package whose version or bytes changed."""

    name: str
    old: str
    new: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LockDiff:
    """The changes of a new lock; as text, one line a package.

    The tools of checks have one line in all, and so have the packages of PyPI.
    """

    added: tuple[LockedPackage, ...] = ()
    removed: tuple[LockedPackage, ...] = ()
    upgraded: tuple[Upgrade, ...] = ()
    downgraded: tuple[Upgrade, ...] = ()
    rebuilt: tuple[Upgrade, ...] = ()
    """Same version, other bytes."""
    tools: int = 0
    """The number of changed packages among the tools."""
    wheels: int = 0
    """The number of changed packages of PyPI."""

    def __bool__(self) -> bool:
        return bool(
            self.added
            or self.removed
            or self.upgraded
            or self.downgraded
            or self.rebuilt
            or self.tools
            or self.wheels
        )

    def __str__(self) -> str:
        lines = [
            *(f"added       {package.name} {package.version}" for package in self.added),
            *(f"removed     {package.name} {package.version}" for package in self.removed),
            *(
                f"upgraded    {change.name} {change.old} -> {change.new}"
                for change in self.upgraded
            ),
            *(
                f"downgraded  {change.name} {change.old} -> {change.new}"
                for change in self.downgraded
            ),
            *(f"rebuilt     {change.name} {change.new}" for change in self.rebuilt),
            *([f"tools       {self.tools} packages changed"] if self.tools else []),
            *([f"pypi        {self.wheels} packages changed"] if self.wheels else []),
        ]
        return "\n".join(lines)


def differences(old: Lock | None, new: Lock) -> LockDiff:
    """Return the changes from one lock (None if there was none) to another."""
    # A package may go from one architecture to "all" or back; it is still the same package.
    names = {package.name: package for package in (old.all_packages if old else ())}
    added: list[LockedPackage] = []
    upgraded: list[Upgrade] = []
    downgraded: list[Upgrade] = []
    rebuilt: list[Upgrade] = []
    gone = dict(names)
    for package in new.all_packages:
        known = names.get(package.name)
        gone.pop(package.name, None)
        if known is None:
            added.append(package)
            continue
        order = compare_versions(known.version, package.version)
        change = Upgrade(name=package.name, old=known.version, new=package.version)
        if order:
            (upgraded if order < 0 else downgraded).append(change)
        elif known.sha256 != package.sha256:
            rebuilt.append(change)
    return LockDiff(
        added=tuple(added),
        removed=tuple(gone.values()),
        upgraded=tuple(upgraded),
        downgraded=tuple(downgraded),
        rebuilt=tuple(rebuilt),
        tools=len(set(new.tools) ^ set(old.tools if old else ())),
        wheels=len(set(new.wheels) ^ set(old.wheels if old else ())),
    )


def compare_versions(one: str, other: str) -> int:
    """Compare two versions (deb-version(7)).

    Returns:
        Below zero if the first is older, zero if they are equal, above zero if it is newer.
    """
    for left, right in zip(_split(one), _split(other), strict=True):
        order = _compare_part(left, right)
        if order:
            return order
    return 0


def _split(version: str) -> tuple[str, str, str]:
    """Return the epoch, the upstream version and the revision."""
    epoch, colon, rest = version.partition(":")
    if not colon:
        epoch, rest = "0", version
    upstream, _, revision = rest.rpartition("-") if "-" in rest else (rest, "", "0")
    return epoch, upstream, revision


def _compare_part(one: str, other: str) -> int:
    """Compare text and numbers in turns: text by dpkg's order of characters, numbers by value."""
    for left, right in itertools.zip_longest(
        re.findall(r"(\D*)(\d*)", one), re.findall(r"(\D*)(\d*)", other), fillvalue=("", "")
    ):
        texts = [[*map(_weight, text), 0] for text in (left[0], right[0])]
        if texts[0] != texts[1]:
            return -1 if texts[0] < texts[1] else 1
        numbers = [int(part[1] or 0) for part in (left, right)]
        if numbers[0] != numbers[1]:
            return -1 if numbers[0] < numbers[1] else 1
    return 0


def _weight(character: str) -> int:
    """Return a character's weight: a tilde is before the end, letters after it, then all else."""
    if character == "~":
        return -1
    return ord(character) if character.isalpha() else ord(character) + 256
