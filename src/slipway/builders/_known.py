"""Check the names in a spec that only packages can provide: units, a time zone, script
interpreters.

What goes in: a source, and the tree made of its packages. What comes out: nothing, or every error
with its place in the author's file. This happens before a script of the tree's stage fails on it.

Invariant: no link leads out of the tree.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from slipway.builders import Source
from slipway.errors import SpecError, SpecErrors, Where, suggestion
from slipway.spec.folder import FIRST_LINE_BYTES
from slipway.spec.scripts import interpreter

__all__ = ["require_known", "require_units"]

_UNITS: Final = ("etc/systemd/system", "usr/local/lib/systemd/system", "usr/lib/systemd/system")
_PROGRAMS: Final = ("usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin", "sbin", "bin")
_LINKS: Final = 40


def require_known(source: Source, trees: Sequence[Path]) -> None:
    """Refuse a spec with names unknown to the image.

    A bare source has none of the spec's additions, so nothing is missed of it.

    Args:
        trees: The tree laid over the packages, and the packages' tree.

    Raises:
        SpecErrors: The spec names missing units, time zones or interpreters; all errors at once.
    """
    if source.bare:
        return
    errors = [
        *_units(source, trees),
        *_timers(source, trees[1:]),
        *_users(source, trees[1:]),
        *_timezone(source, trees),
        *_interpreters(source, trees),
    ]
    if errors:
        raise SpecErrors(errors)


def require_units(source: Source, missing: Collection[str]) -> None:
    """Refuse a spec that names units found missing in the image.

    Raises:
        SpecErrors: The spec names such units; each error has its place.
    """
    errors = [
        _no_unit(source, place, name) for place, name in _named_units(source) if name in missing
    ]
    if errors:
        raise SpecErrors(errors)


def _named_units(source: Source) -> Iterator[tuple[tuple[str, str, int], str]]:
    """Yield the units that a spec names, each with its place there."""
    services = source.appliance.spec.services
    for key, names in (("enable", services.enable), ("disable", services.disable)):
        for index, name in enumerate(names):
            yield ("services", key, index), name


def _no_unit(
    source: Source, place: tuple[str, str, int], name: str, known: Iterable[str] = ()
) -> SpecError:
    hint = (
        suggestion(name, known)
        or "name a unit of a package in packages, or put one into files/etc/systemd/system/"
    )
    message = f'services.{place[1]}[{place[2]}]: the image has no unit "{name}"'
    return SpecError(message, where=source.appliance.where.get(place), hint=hint)


def _units(source: Source, trees: Sequence[Path]) -> Iterator[SpecError]:
    for at, name in _named_units(source):
        unit = name if "." in name else f"{name}.service"
        stem, instance, rest = unit.partition("@")
        files = [unit, f"{stem}@.{rest.rpartition('.')[2]}"] if instance else [unit]
        places = [f"{folder}/{file}" for folder in _UNITS for file in files]
        if not _there(trees, [*places, f"etc/init.d/{unit.removesuffix('.service')}"]):
            known = sorted(
                {
                    entry.removesuffix(".service")
                    for folder in _UNITS
                    for entry in _entries(trees, folder)
                }
            )
            yield _no_unit(source, at, name, known)


def _timers(source: Source, packages: Sequence[Path]) -> Iterator[SpecError]:
    """Yield timers whose units would take the place of a package's, or of the image's own."""
    own = {Path(file.target).name for file in source.guest if "/systemd/system/" in file.target}
    for index, timer in enumerate(source.appliance.spec.timers):
        for unit in (f"{timer.name}.service", f"{timer.name}.timer"):
            if unit in own or _there(packages, [f"{folder}/{unit}" for folder in _UNITS]):
                place = ("timers", index, "name")
                yield SpecError(
                    f'timers[{index}].name: this would replace a unit of the image, "{unit}"',
                    where=source.appliance.where.get(place),
                    hint=f"choose another name, such as own-{timer.name}",
                )
                break


def _users(source: Source, packages: Sequence[Path]) -> Iterator[SpecError]:
    """Yield users whom the packages have made with another home or shell: who exists is left as
    it is (systemd-sysusers(8)).
    """
    found = {}
    for tree in packages:
        file = _resolved([tree], "etc/passwd")
        if file is not None and file.is_file():
            lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
            found = {line.split(":")[0]: line.split(":")[5:7] for line in lines}
            break
    for index, user in enumerate(source.appliance.spec.users):
        for key, wanted, there in zip(
            ("home", "shell"), (user.home, user.shell), found.get(user.name, ()), strict=False
        ):
            if key in user.model_fields_set and wanted != there:
                yield SpecError(
                    f'users[{index}].{key}: the image has a user "{user.name}" with {there}',
                    where=source.appliance.where.get(("users", index, key)),
                    hint="remove the line, or choose another name",
                )


def _timezone(source: Source, trees: Sequence[Path]) -> Iterator[SpecError]:
    zone = source.appliance.spec.timezone
    if zone and not _there(trees, [f"usr/share/zoneinfo/{zone}"]):
        packages = {package.name for package in (*source.lock.base_packages, *source.packages)}
        hint = (
            "old names are in the package tzdata-legacy"
            if "tzdata" in packages
            else "add tzdata to packages"
        )
        yield SpecError(
            f'timezone: the image has no time zone "{zone}"',
            where=source.appliance.where.get(("timezone",)),
            hint=hint,
        )


def _interpreters(source: Source, trees: Sequence[Path]) -> Iterator[SpecError]:
    """Yield an error for each program of ``files/`` without its interpreter.

    An interpreter that a setup script could make is not reported.
    """
    made_later = bool(source.appliance.setup)
    for file in source.appliance.files:
        if file.link is not None or file.mode != 0o755:
            continue
        named = interpreter(_read(trees[0], file.target))
        if named is None:
            continue
        path, words = named[0], [word for word in named[1].split() if not word.startswith("-")]
        by_name = Path(path).name == "env" and bool(words)
        places = [f"{folder}/{words[0]}" for folder in _PROGRAMS] if by_name else [path.lstrip("/")]
        own = by_name or not path.startswith(("/usr/bin/", "/usr/sbin/", "/bin/", "/sbin/"))
        if _there(trees, places) or (own and made_later):
            continue
        program = words[0] if by_name else path
        hint = f"add the package that has {Path(program).name} to packages, or correct the line"
        current = Path.cwd()
        where = Where(
            file.path.relative_to(current) if file.path.is_relative_to(current) else file.path, 1, 1
        )
        yield SpecError(
            f"the image has no {program}, which the first line names", where=where, hint=hint
        )


def _read(tree: Path, target: str) -> bytes:
    """Return the first bytes of a file laid into a folder of our own."""
    try:
        with (tree / target.lstrip("/")).open("rb") as file:
            return file.read(FIRST_LINE_BYTES)
    except OSError:
        return b""


def _there(trees: Sequence[Path], places: Iterable[str]) -> bool:
    """Return True if one of these paths is in one of the trees, laid one over the other."""
    return any(_resolved(trees, place) is not None for place in places)


def _entries(trees: Sequence[Path], folder: str) -> Iterator[str]:
    for tree in trees:
        found = _resolved([tree], folder)
        if found is not None and found.is_dir():
            yield from (entry.name for entry in os.scandir(found) if "." in entry.name)


def _resolved(trees: Sequence[Path], place: str) -> Path | None:
    """Return the file of a path, with the trees as root and links followed inside them; None if
    missing.

    A dangling link at the end counts as a file: systemd takes it for a masked unit or an alias.
    """
    waiting, done, followed = place.strip("/").split("/"), list[str](), 0
    found: Path | None = None
    while waiting:
        name = waiting.pop(0)
        if name in ("", "."):
            continue
        if name == "..":
            done = done[:-1]
            continue
        done.append(name)
        found = next(
            (tree.joinpath(*done) for tree in trees if os.path.lexists(tree.joinpath(*done))), None
        )
        if found is None:
            return None
        if found.is_symlink() and waiting:
            followed += 1
            if followed > _LINKS:
                return None
            target = str(found.readlink())
            done = [] if target.startswith("/") else done[:-1]
            waiting = [*target.strip("/").split("/"), *waiting]
    return found
