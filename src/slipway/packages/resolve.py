"""A base and the names of extra packages -> a lock: exact versions on the host's mirror now.

The base is solved first and alone, then the extra packages with exactly the base installed. So
every appliance has the same base, whatever else it asks for. Invariant: recommended packages are
never installed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from slipway.errors import BuildError, SpecError, SpecErrors, Where, suggestion
from slipway.packages.apt import AptRoot, Available, open_root
from slipway.packages.debfile import newest_time
from slipway.packages.locked import Lock, LockedPackage
from slipway.packages.pool import Pool
from slipway.packages.wheels import resolve_wheels
from slipway.spec.base import Base
from slipway.spec.model import AptSource

__all__ = ["Lists", "Wanted", "requested_of_base", "resolve", "resolve_apart"]


def requested_of_base(base: Base, kernel: str, architecture: str) -> tuple[str, ...]:
    """Return the packages named by a base for a kernel and an architecture, sorted.

    Raises:
        UsageError: The base is not for this architecture.
    """
    entry = base.architecture(architecture)
    kernels: tuple[str, ...] = getattr(entry.kernels, kernel)
    return tuple(sorted({*base.packages, *entry.packages, *kernels}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The requests of an appliance's spec.

    Attributes:
        packages: Packages beside the base's.
        sources: Further sources of these packages, each with its file of keys; the base and the
            tools do not use them.
        pypi: Packages of PyPI, with their versions.
        tools: Packages with the programs of checks from outside.
        where: The position of each value of the spec, for errors.
    """

    packages: Sequence[str] = ()
    sources: Sequence[tuple[AptSource, Path]] = ()
    pypi: Sequence[str] = ()
    tools: Sequence[str] = ()
    where: Mapping[tuple[str | int, ...], Where] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lists:
    """The origin of package lists, and their folder.

    Attributes:
        mirrors: The URI of each of the base's archives.
        folder: The folder for the lists.
        fresh: Ask for new lists even if the present ones are recent.
    """

    mirrors: Mapping[str, str]
    folder: Path
    fresh: bool = False


def resolve(
    base: Base, kernel: str, architecture: str, wanted: Wanted, *, lists: Lists, pool: Pool
) -> Lock:
    """Find the exact packages of an appliance.

    Args:
        kernel: ``cloud`` or ``generic``.
        pool: Gets the base's packages: the lock's time is the newest in them.

    Raises:
        SpecErrors: A name has no package, or the packages cannot be installed together.
        BuildError: The mirrors do not answer, or do not verify.
    """
    requested = requested_of_base(base, kernel, architecture)
    with open_root(lists.folder, base, architecture, lists.mirrors, fresh=lists.fresh) as apt:
        _check_names(requested, apt.available, {}, Where(base.folder / "base.yaml"))
        if not wanted.sources:
            _check_names(wanted.packages, apt.available, wanted.where, None)
        _check_names(wanted.tools, apt.available, wanted.where, None, key="tools")
        apt.install_nothing()
        try:
            base_packages = apt.solve(sorted({*requested, *apt.available.essential, "apt"}))
        except BuildError as error:
            _, unmet = apt.explain(requested)
            message = (
                f"the packages of the base {base.name} cannot be installed together:\n"
                f"{_why(error, unmet)}"
            )
            raise SpecErrors([SpecError(message, where=Where(base.folder / "base.yaml"))]) from None
        if not wanted.sources:
            packages = _solve_extra(apt, base, base_packages, wanted.packages, wanted.where)
        locked_tools = _solve_tools(apt, wanted.tools, wanted.where)
    if wanted.sources:
        with open_root(
            lists.folder,
            base,
            architecture,
            lists.mirrors,
            sources=wanted.sources,
            fresh=lists.fresh,
        ) as apt:
            _check_names(wanted.packages, apt.available, wanted.where, None)
            packages = _solve_extra(apt, base, base_packages, wanted.packages, wanted.where)
    pool.fetch(base_packages, lists.mirrors)
    return Lock(
        base=base.name,
        kernel=kernel,
        architecture=architecture,
        source_date_epoch=max(newest_time(pool.path(package)) for package in base_packages),
        base_requested=requested,
        requested=tuple(sorted(wanted.packages)),
        base_packages=base_packages,
        packages=packages,
        sources=tuple(sorted(str(source) for source, _ in wanted.sources)),
        tools_requested=tuple(sorted(wanted.tools)),
        tools=locked_tools,
        pypi_requested=tuple(sorted(wanted.pypi)),
        wheels=resolve_wheels(wanted.pypi, (*base_packages, *packages), architecture, wanted.where),
    )


def resolve_apart(
    base: Base,
    names: Sequence[str],
    architecture: str,
    *,
    mirrors: Mapping[str, str],
    apt_root: Path,
    fresh: bool = False,
) -> Lock:
    """Find the exact packages of programs unpacked beside another system, with dependencies.

    Args:
        base: The base whose archives have them; the lock holds none of its own packages.
        mirrors: The URI of each of the base's archives.
        apt_root: A directory for package lists.
        fresh: Ask for new lists even if the present ones are recent.

    Raises:
        SpecErrors: A name has no package.
        BuildError: They cannot be installed together, or the mirrors do not answer or verify.
    """
    with open_root(apt_root, base, architecture, mirrors, fresh=fresh) as apt:
        _check_names(names, apt.available, {}, None)
        apt.install_nothing()
        packages = apt.solve(sorted(names))
    return Lock(
        base=base.name,
        kernel="",
        architecture=architecture,
        source_date_epoch=0,
        requested=tuple(sorted(names)),
        base_packages=(),
        packages=packages,
    )


def _solve_tools(
    apt: AptRoot, names: Sequence[str], where: Mapping[tuple[str | int, ...], Where]
) -> tuple[LockedPackage, ...]:
    """Return the packages of a separate system with the tools."""
    if not names:
        return ()
    apt.install_nothing()
    try:
        return apt.solve(sorted({*names, *apt.available.essential, "apt"}))
    except BuildError as error:
        _, unmet = apt.explain(names)
        message = f"tools: they cannot be installed together:\n{_why(error, unmet)}"
        raise SpecErrors(
            [SpecError(message, where=where.get(("tools",)), hint="leave out what conflicts")]
        ) from None


def _solve_extra(
    apt: AptRoot,
    base: Base,
    base_packages: tuple[LockedPackage, ...],
    names: Sequence[str],
    where: Mapping[tuple[str | int, ...], Where],
) -> tuple[LockedPackage, ...]:
    """Return the additions of an appliance's own packages to its base."""
    if not names:
        return ()
    place = where.get(("packages",))
    apt.install(base_packages)
    try:
        packages = apt.solve(names)
    except BuildError as error:
        removed, unmet = apt.explain(names)
        if not removed:
            message = f"packages: they cannot be installed together:\n{_why(error, unmet)}"
            raise SpecErrors(
                [SpecError(message, where=place, hint="leave out what conflicts")]
            ) from None
        message = (
            f"packages: {', '.join(removed)} of the base {base.name} would have to be "
            "removed for them"
        )
        raise SpecErrors(
            [SpecError(message, where=place, hint="leave out what conflicts with the base")]
        ) from None
    present = {package.name: package.version for package in base_packages}
    changed = [
        f"{package.name} ({present[package.name]} -> {package.version})"
        for package in packages
        if package.name in present
    ]
    if changed:
        message = (
            f"packages: these of the base {base.name} would have to change: {', '.join(changed)}"
        )
        raise SpecErrors(
            [
                SpecError(
                    message,
                    where=place,
                    hint="an appliance adds to its base; what it needs changed goes into the base",
                )
            ]
        )
    return packages


def _check_names(
    names: Sequence[str],
    available: Available,
    where: Mapping[tuple[str | int, ...], Where],
    elsewhere: Where | None,
    key: str = "packages",
) -> None:
    """Refuse names without a package.

    Raises:
        SpecErrors: Some names have no package; all of them at once.
    """
    errors = []
    for index, name in enumerate(names):
        if name in available.names:
            continue
        place = where.get((key, index)) or where.get((key,)) or elsewhere
        providers = available.providers(name)
        if len(providers) == 1:
            continue
        if providers:
            hint = f"choose one of: {', '.join(providers)}"
            errors.append(
                SpecError(
                    f'{key}: "{name}" is a virtual package that several provide',
                    where=place,
                    hint=hint,
                )
            )
            continue
        # Comparing with every name of a distribution takes a second, so only names of similar
        # length with a common letter pair are compared.
        pairs = {name[start : start + 2] for start in range(len(name) - 1)}
        near = [
            known
            for known in available.names
            if abs(len(known) - len(name)) <= 3 and any(pair in known for pair in pairs)
        ]
        hint = (
            suggestion(name, near)
            or "its name may have changed from one release to another: look it up on Debian's pages"
        )
        errors.append(
            SpecError(
                f'{key}: there is no package "{name}" in this release', where=place, hint=hint
            )
        )
    if errors:
        raise SpecErrors(errors)


def _why(error: BuildError, unmet: Sequence[str]) -> str:
    """Return the unmet dependencies, or else apt's errors."""
    said = unmet or [
        line.strip().removeprefix("E: ")
        for line in error.message.splitlines()
        if line.strip().startswith("E: ")
    ]
    return "\n".join(f"    {line}" for line in said)
