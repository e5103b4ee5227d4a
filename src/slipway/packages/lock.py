"""Locks as files: ``appliances/<name>/lock.<architecture>.json``, committed with the appliance.

A file has one package a line, sorted. What goes in: a lock, or a file. What comes out: the file, or
the lock, or every error of the file with its line. Invariants: the same lock is the same bytes; an
unchanged lock is not written; a file is replaced whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, TypeVar

from slipway.cache import create_file
from slipway.errors import SpecError, SpecErrors, Where
from slipway.packages.locked import Lock, LockDiff, LockedPackage, LockedWheel, differences
from slipway.packages.resolve import Lists, Wanted, requested_of_base, resolve
from slipway.spec.library import Appliance

__all__ = [
    "Lists",
    "Lock",
    "LockDiff",
    "LockedPackage",
    "Wanted",
    "check_lock",
    "differences",
    "read_lock",
    "resolve",
    "write_lock",
]

SCHEMA: Final = 1
_GROUPS: Final = ("base_packages", "packages")
#: Left out of the file if empty.
_RARE_LISTS: Final = ("sources", "tools_requested", "pypi_requested")
_RARE_GROUPS: Final = ("tools",)
_WHEELS: Final = "wheels"
_HEAD: Final[Mapping[str, type]] = {
    "base": str,
    "kernel": str,
    "architecture": str,
    "source_date_epoch": int,
}
_LISTS: Final = ("base_requested", "requested")
_PACKAGE: Final[Mapping[str, str]] = {
    "name": r"[a-z0-9][a-z0-9+.-]+",
    "version": r"([0-9]+:)?[0-9A-Za-z.+~:-]+",
    "architecture": r"[a-z0-9-]+",
    "sha256": r"[0-9a-f]{64}",
    "archive": r"[a-z0-9][a-z0-9-]*",
    "path": r"[A-Za-z0-9][A-Za-z0-9_.+~:%-]*(/[A-Za-z0-9][A-Za-z0-9_.+~:%-]*)*",
}
_WHEEL: Final[Mapping[str, str]] = {
    "name": r"[a-z0-9]+(-[a-z0-9]+)*",
    "version": r"[0-9A-Za-z.+!_-]+",
    "file": r"[A-Za-z0-9][A-Za-z0-9_.+!-]*\.whl",
    "sha256": r"[0-9a-f]{64}",
}
_AGAIN: Final = "run: invoke lock"
_Item = TypeVar("_Item", LockedPackage, LockedWheel)
#: Caches of checked content: locks by their file's hash (appliances with the same packages share
#: one), and packages (most are in every lock of a base).
_LOCKS: Final[dict[bytes, Lock]] = {}
_READ: Final[dict[tuple[object, ...], LockedPackage]] = {}


def render_lock(lock: Lock) -> str:
    """Return a lock as the text of its file."""
    head: dict[str, Any] = {"schema": SCHEMA} | {key: getattr(lock, key) for key in _HEAD}
    lines = [f" {json.dumps(key)}: {json.dumps(value)}," for key, value in head.items()]
    lists = [*_LISTS, *(key for key in _RARE_LISTS if getattr(lock, key))]
    groups = [*_GROUPS, *(key for key in _RARE_GROUPS if getattr(lock, key))]
    lines += [f" {json.dumps(key)}: {json.dumps(sorted(getattr(lock, key)))}," for key in lists]
    groups += [_WHEELS] if lock.wheels else []
    for group in groups:
        packages = ",\n".join(
            f"  {_package_line(package)}" for package in sorted(getattr(lock, group))
        )
        lines.append(f' "{group}": [\n{packages}\n ]' if packages else f' "{group}": []')
        lines[-1] += "," if group != groups[-1] else ""
    return "\n".join(["{", *lines, "}"]) + "\n"


def _package_line(package: LockedPackage | LockedWheel) -> str:
    return json.dumps({name: getattr(package, name) for name in type(package).__slots__})


def write_lock(path: Path, lock: Lock) -> bool:
    """Write a lock's file; return False, without writing, if the file is identical."""
    content = render_lock(lock).encode()
    if path.exists() and path.read_bytes() == content:
        return False
    with create_file(path, mode=0o644) as file:
        file.write(content)
    return True


def read_lock(path: Path) -> Lock:
    """Read a lock's file.

    Raises:
        SpecErrors: The file is not a lock, or was edited wrongly; all errors at once.
    """
    try:
        content = path.read_bytes()
        digest = hashlib.sha256(content).digest()
        if digest in _LOCKS:
            return _LOCKS[digest]
        text = content.decode()
        data = json.loads(text, object_pairs_hook=_no_twins)
    except OSError as error:
        raise SpecErrors(
            [
                SpecError(
                    f"the lock cannot be read: {error.strerror}", where=Where(path), hint=_AGAIN
                )
            ]
        ) from None
    except UnicodeDecodeError:
        raise SpecErrors(
            [SpecError("the lock is not UTF-8", where=Where(path), hint=_AGAIN)]
        ) from None
    except json.JSONDecodeError as error:
        where = Where(path, error.lineno, error.colno)
        raise SpecErrors(
            [SpecError(f"the lock is not JSON: {error.msg}", where=where, hint=_AGAIN)]
        ) from None
    except (ValueError, RecursionError) as error:
        raise SpecErrors(
            [SpecError(f"the lock is not JSON: {error}", where=Where(path), hint=_AGAIN)]
        ) from None
    reader = _Reader(path, text)
    lock = reader.lock(data)
    if lock is None or reader.errors:
        raise SpecErrors(reader.errors)
    _LOCKS[digest] = lock
    return lock


def check_lock(lock: Lock, path: Path, appliance: Appliance) -> None:
    """Refuse a lock that does not match the spec.

    Raises:
        SpecError: The lock and the spec differ; the message names the difference.
    """
    spec, base = appliance.spec, appliance.base
    wanted: list[tuple[str, str, str]] = [
        ("base", lock.base, base.name),
        ("kernel", lock.kernel, spec.kernel),
    ]
    for what, locked, said in wanted:
        if locked != said:
            raise SpecError(
                f"the lock is for {what} {locked}, the spec says {said}",
                where=Where(path),
                hint=f"{_AGAIN} {appliance.name}",
            )
    groups = (
        (requested_of_base(base, spec.kernel, lock.architecture), lock.base_requested),
        (spec.packages, lock.requested),
        (spec.tools, lock.tools_requested),
        (spec.pypi, lock.pypi_requested),
        ([str(source) for source in spec.sources], lock.sources),
    )
    for names, known in groups:
        missing, surplus = sorted(set(names) - set(known)), sorted(set(known) - set(names))
        if missing or surplus:
            parts = [f"lacks {', '.join(missing)}"] if missing else []
            parts += [f"still has {', '.join(surplus)}"] if surplus else []
            raise SpecError(
                f"the lock is older than the spec: it {' and '.join(parts)}",
                where=Where(path),
                hint=f"{_AGAIN} {appliance.name}",
            )


def _no_twins(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f'"{key}" is repeated in one place')
        found[key] = value
    return found


class _Reader:
    """JSON -> lock, with the line of each package in errors.

    :func:`write_lock` gives each package its own line.
    """

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.lines = text.splitlines()
        self.errors: list[SpecError] = []

    def error(self, message: str, near: str = "") -> None:
        line = next(
            (number for number, line in enumerate(self.lines, 1) if near and near in line), 0
        )
        self.errors.append(SpecError(message, where=Where(self.path, line), hint=_AGAIN))

    def lock(self, data: Any) -> Lock | None:
        """Return the lock; None, with errors, if the data is not one."""
        if not isinstance(data, dict) or "schema" not in data:
            self.error("this is not a lock")
            return None
        if data["schema"] != SCHEMA or type(data["schema"]) is not int:
            self.error(
                f"schema {data['schema']!r} is not one that this version of slipway reads",
                '"schema"',
            )
            return None
        for key in sorted(
            data.keys()
            - {"schema", *_HEAD, *_LISTS, *_GROUPS, *_RARE_LISTS, *_RARE_GROUPS, _WHEELS}
        ):
            self.error(f"{key}: unknown key", json.dumps(key))
        for key, kind in _HEAD.items():
            if type(data.get(key)) is not kind or (kind is int and data[key] < 0):
                self.error(
                    f"{key}: expected {'a text' if kind is str else 'a number of seconds'}",
                    f'"{key}"',
                )
        data = {key: [] for key in (*_RARE_LISTS, *_RARE_GROUPS, _WHEELS)} | data
        for key in (*_LISTS, *_RARE_LISTS):
            if not _names(data.get(key)):
                self.error(f"{key}: expected a list of names", f'"{key}"')
        groups = {
            group: self.group(group, data.get(group), self.package)
            for group in (*_GROUPS, *_RARE_GROUPS)
        }
        wheels = self.group(_WHEELS, data.get(_WHEELS), self.wheel)
        twins = {package.name for package in groups["base_packages"]} & {
            package.name for package in groups["packages"]
        }
        for name in sorted(twins):
            self.error(f"{name} is in base_packages and in packages", f'"name": "{name}"')
        if self.errors:
            return None
        return Lock(
            base=data["base"],
            kernel=data["kernel"],
            architecture=data["architecture"],
            source_date_epoch=data["source_date_epoch"],
            base_requested=tuple(data["base_requested"]),
            requested=tuple(data["requested"]),
            base_packages=groups["base_packages"],
            packages=groups["packages"],
            sources=tuple(data["sources"]),
            tools_requested=tuple(data["tools_requested"]),
            tools=groups["tools"],
            pypi_requested=tuple(data["pypi_requested"]),
            wheels=wheels,
        )

    def group(
        self, group: str, value: Any, read: Callable[[str, Any], _Item | None]
    ) -> tuple[_Item, ...]:
        """Return one list of packages; report the wrong ones."""
        if not isinstance(value, list):
            self.error(f"{group}: expected a list of packages", f'"{group}"')
            return ()
        packages = [
            package
            for index, item in enumerate(value)
            if (package := read(f"{group}[{index}]", item))
        ]
        names = [package.name for package in packages]
        for one, other in pairwise(names):
            if one == other:
                self.error(f"{group}: {one} is listed twice", f'"name": "{one}"')
            elif one > other:
                self.error(
                    f"{group}: {other} comes after {one}, but the list has to be sorted",
                    f'"name": "{other}"',
                )
        return tuple(packages)

    def package(self, place: str, item: Any) -> LockedPackage | None:
        """Return one package; None, with errors, if it is wrong."""
        if not isinstance(item, dict):
            self.error(f"{place}: expected a package")
            return None
        content = tuple(item.items())
        # not read yet; or invalid: it holds a list
        with contextlib.suppress(KeyError, TypeError):
            return _READ[content]
        name = item.get("name")
        near = f'"name": "{name}"' if isinstance(name, str) else ""
        before = len(self.errors)
        self.shape(place, item, _PACKAGE, {"size"}, near)
        if "size" in item and not (type(item["size"]) is int and item["size"] > 0):
            self.error(f"{place}.size: expected a number of bytes", near)
        if len(self.errors) > before:
            return None
        return _READ.setdefault(content, LockedPackage(**item))

    def wheel(self, place: str, item: Any) -> LockedWheel | None:
        """Return one package of PyPI; None, with errors, if it is wrong."""
        if not isinstance(item, dict):
            self.error(f"{place}: expected a package")
            return None
        before = len(self.errors)
        self.shape(place, item, _WHEEL, set(), f'"name": "{item.get("name")}"')
        return LockedWheel(**item) if len(self.errors) == before else None

    def shape(
        self, place: str, item: dict[str, Any], wanted: Mapping[str, str], more: set[str], near: str
    ) -> None:
        """Report missing and unknown keys, and texts of the wrong form.

        Args:
            wanted: Keys with a text, each with its pattern.
            more: Further keys, without a text.
        """
        for key in sorted({*wanted, *more} ^ item.keys()):
            self.error(
                f"{place}.{key}: {'unknown key' if key in item else 'this key is missing'}", near
            )
        for key, pattern in wanted.items():
            if key in item and not (
                isinstance(item[key], str) and re.fullmatch(pattern, item[key])
            ):
                shape = (
                    "expected 64 hexadecimal digits"
                    if key == "sha256"
                    else f"{item[key]!r} cannot be right"
                )
                self.error(f"{place}.{key}: {shape}", near)


def _names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)
