"""Build images: each builder takes an appliance and its lock, and gives a raw disk.

A builder is one module of this package with a class of its capitalised name, and one folder of
templates. Its rendered files are grouped in *parts*. Each part becomes a stage, in the order of
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

from slipway.errors import UsageError, choose

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
    """The input of a build.

    Attributes:
        appliance: The appliance to build.
        lock: Its lock.
        mirrors: The package mirrors of the build, by archive.
        image_mirrors: The package mirrors for the image itself, by archive.
        templates: The folder of templates.
        guest: The files of every guest.
        bare: Build the base alone, without the appliance's additions.
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
        """The packages installed after the base's."""
        return () if self.bare else self.lock.packages


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One stage of a builder.

    Attributes:
        kind: The stage's kind.
        reads: The first path components of the rendered files it reads.
        tools: The programs whose versions shape its output.
        code: The code of Slipway that shapes its output.
        packages: The packages it installs; their content hashes are inputs.
        more: Further inputs.
    """

    kind: str
    reads: tuple[str, ...]
    tools: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    packages: tuple[LockedPackage, ...] = ()
    more: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """A failed stage whose unfinished result still exists.

    ``shell`` is the command to open a shell in it.
    """

    stage: str
    why: str
    shell: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workplace:
    """The means of a builder: cache, pool, progress, logs and memory.

    Attributes:
        memory_mib: The limit of memory, in MiB; 0 means most of the free memory.
        on_broken: Gets a failed stage; its unfinished result exists until this returns.
    """

    cache: Cache
    pool: Pool
    progress: Progress
    logs: Path
    memory_mib: int = 0
    on_broken: Callable[[Broken], None] | None = None


class Builder(Protocol):
    """The interface of every builder.

    ``targets`` are the names of the platforms it can render for, beside this host's.
    """

    name: str
    targets: tuple[str, ...]

    def parts(self, source: Source) -> tuple[Part, ...]:
        """Return the stages up to the raw disk, in order; the last one is the disk."""
        ...

    def render(self, source: Source, targets: Sequence[str] = ()) -> Rendered:
        """Return every file that the builder will run or read.

        Args:
            targets: Platforms to render for, instead of that of its own build.
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
        """Add the files too large to render to a directory, so that others can build with it."""
        ...

    def memory_mib(self, source: Source) -> int:
        """Return the memory to make the disk in, in MiB; with less, the build works on disk."""
        ...

    def disk(
        self, plan: Plan, rendered: Rendered, source: Source, workplace: Workplace
    ) -> AbstractContextManager[Path]:
        """Make the missing stages and give the path of the raw disk, valid for the block."""
        ...


def require_targets(name: str, known: Sequence[str], targets: Sequence[str]) -> None:
    """Refuse platforms that a builder does not render for.

    Args:
        name: The builder.
        known: Its targets.

    Raises:
        UsageError: The builder has no targets, or lacks one of these.
    """
    if targets and not known:
        raise UsageError(
            f"{name} builds for no platform in particular",
            hint="--source goes with --builder packer",
        )
    for target in targets:
        if target not in known:
            hint = choose(target, known)
            raise UsageError(f'there is no source "{target}"', hint=hint)


@cache
def builder_names() -> tuple[str, ...]:
    """Return the names of all builders."""
    return tuple(
        sorted(
            module.name
            for module in pkgutil.iter_modules(__path__)
            if not module.name.startswith("_")
        )
    )


def builder(name: str) -> Builder:
    """Return a builder by its name.

    Raises:
        UsageError: There is no builder of this name.
    """
    if name not in builder_names():
        raise UsageError(
            f'there is no builder "{name}"',
            hint=choose(name, builder_names()),
        )
    module = importlib.import_module(f"{__name__}.{name}")
    return cast(Builder, getattr(module, name.capitalize())())
