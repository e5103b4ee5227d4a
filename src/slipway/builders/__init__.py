"""Image builders: each takes an appliance and its lock, and gives a raw disk.

A builder is one module of this package with a class of its capitalised name, and one folder of
templates. What it renders is grouped in *parts*; each part becomes a stage, in the order of
:attr:`Builder.parts`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from slipway.errors import UsageError, suggestion

if TYPE_CHECKING:
    from slipway.cache import Cache
    from slipway.packages.lock import Lock, LockedPackage
    from slipway.packages.pool import Pool
    from slipway.plan import Plan
    from slipway.rendering.render import Rendered
    from slipway.spec.folder import SourceFile
    from slipway.spec.library import Appliance
    from slipway.terminal.progress import Progress

__all__ = ["Broken", "Builder", "Part", "Source", "Workplace", "builder", "builder_names"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What is built: an appliance, its lock, the package mirrors of the build and those that the
    image itself is given (by archive), and the files that every guest has; a ``bare`` one without
    anything that the appliance adds to its base.
    """

    appliance: Appliance
    lock: Lock
    mirrors: Mapping[str, str]
    image_mirrors: Mapping[str, str] = field(default_factory=dict)
    templates: Path
    guest: tuple[SourceFile, ...]
    bare: bool = False

    @property
    def packages(self) -> tuple[LockedPackage, ...]:
        """What is installed after the base's packages."""
        return () if self.bare else self.lock.packages


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One stage of a builder: its kind, the first path components of the rendered files that it
    reads, and the programs and the code whose versions shape its output.

    ``packages`` are those that it installs: their content hashes are inputs. ``more`` are further
    inputs.
    """

    kind: str
    reads: tuple[str, ...]
    tools: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    packages: tuple[LockedPackage, ...] = ()
    more: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """A stage that failed, while what it was making is there.

    ``shell`` are the words that open a shell in it.
    """

    stage: str
    why: str
    shell: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workplace:
    """Where and with what a builder works.

    ``memory_mib`` is what it may take; 0: most of what is free. ``on_broken`` gets what a failed
    stage was making, which is there until it returns.
    """

    cache: Cache
    pool: Pool
    progress: Progress
    logs: Path
    memory_mib: int = 0
    on_broken: Callable[[Broken], None] | None = None


class Builder(Protocol):
    """What every builder does.

    ``targets`` are the platforms that it can render for by name, beside this host's.
    """

    name: str
    targets: tuple[str, ...]

    def parts(self, source: Source) -> tuple[Part, ...]:
        """The stages up to the raw disk, in order; the last one is the disk."""
        ...

    def render(self, source: Source, targets: Sequence[str] = ()) -> Rendered:
        """Everything that it will run or read.

        For other targets than its own build has, where they are given.
        """
        ...

    def complete(
        self,
        directory: Path,
        plan: Plan,
        rendered: Rendered,
        source: Source,
        workplace: Workplace,
        targets: Sequence[str] = (),
    ) -> None:
        """Add to a directory with what was rendered what is too large for that, so that others can
        build with it.
        """
        ...

    def memory_mib(self, source: Source) -> int:
        """The memory that making the disk may take, if there is that much."""
        ...

    def disk(
        self, plan: Plan, rendered: Rendered, source: Source, workplace: Workplace
    ) -> AbstractContextManager[Path]:
        """Make the stages that are missing and give the raw disk's path, which holds until the
        block ends.
        """
        ...


def require_targets(name: str, known: Sequence[str], targets: Sequence[str]) -> None:
    """Refuse platforms that a builder does not render for.

    Args:
        name: The builder.
        known: Its targets.

    Raises:
        UsageError: It renders for none, or not for one of these.
    """
    if targets and not known:
        raise UsageError(
            f"{name} builds for no platform in particular",
            hint="--source goes with --builder packer",
        )
    for target in targets:
        if target not in known:
            hint = suggestion(target, known) or f"there is: {', '.join(known)}"
            raise UsageError(f'there is no source "{target}"', hint=hint)


@cache
def builder_names() -> tuple[str, ...]:
    """The builders that exist."""
    return tuple(
        sorted(
            module.name
            for module in pkgutil.iter_modules(__path__)
            if not module.name.startswith("_")
        )
    )


def builder(name: str) -> Builder:
    """The builder of a name.

    Raises:
        UsageError: There is none.
    """
    if name not in builder_names():
        raise UsageError(
            f'there is no builder "{name}"',
            hint=suggestion(name, builder_names()) or f"there is: {', '.join(builder_names())}",
        )
    module = importlib.import_module(f"{__name__}.{name}")
    return cast(Builder, getattr(module, name.capitalize())())
