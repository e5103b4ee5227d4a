"""The flow: appliance.yaml -> Spec -> Lock -> Plan and Rendered -> disk -> BootReport -> Artifacts -> Manifest -> store.

Each arrow is a function here, in the order of a build; the work is done in the modules that they call. A
:class:`Workshop` is what they all work with.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.builders import Builder, Source, Workplace
from slipway.builders import builder as find_builder
from slipway.cache import Cache
from slipway.errors import UsageError
from slipway.packages.lock import Lock, LockDiff, differences, read_lock, resolve, write_lock
from slipway.packages.mirror import find_mirrors
from slipway.packages.pool import Pool
from slipway.plan import Plan, Stage, make_stage
from slipway.progress import Progress
from slipway.render import Rendered
from slipway.settings import Settings, load_settings
from slipway.spec.library import Appliance, Library
from slipway.tools import code_digest, tool_versions

if TYPE_CHECKING:
    from slipway.records.release import Release
    from slipway.channels.publish import Published

__all__ = ["Job", "Workshop", "build", "lock", "prepare", "publish"]


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """What every command works with; made once for a command."""

    root: Path
    progress: Progress = field(default_factory=Progress)

    @cached_property
    def settings(self) -> Settings:
        return load_settings(self.root)

    @cached_property
    def library(self) -> Library:
        return Library(self.root)

    @cached_property
    def cache(self) -> Cache:
        return Cache(self.settings.cache, limit_bytes=self.settings.cache_limit_gib * 2**30)

    @cached_property
    def pool(self) -> Pool:
        return Pool(self.settings.cache / "pool")

    @cached_property
    def mirrors(self) -> Mapping[str, str]:
        return find_mirrors(self.settings)

    @property
    def outputs(self) -> Path:
        """Where builds are left: a folder for each appliance, and the default store."""
        return self.root / "build"

    def versions(self, tools: Sequence[str]) -> dict[str, str]:
        """What :func:`~slipway.tools.tool_versions` says, remembered in the cache directory."""
        return tool_versions(tools, self.settings.cache / "tools.json")


@dataclass(frozen=True, kw_only=True)
class Job:
    """One appliance, ready to be built: everything that planning found out, and nothing made yet."""

    source: Source
    builder: Builder
    rendered: Rendered
    plan: Plan
    formats: tuple[str, ...]

    @property
    def name(self) -> str:
        """The appliance's name."""
        return self.source.appliance.name


def lock_path(appliance: Appliance, architecture: str) -> Path:
    """Where an appliance's lock is."""
    return appliance.folder / f"lock.{architecture}.json"


def lock(shop: Workshop, appliance: Appliance, architecture: str, *, fresh: bool = False) -> tuple[Lock, LockDiff]:
    """Resolve an appliance's packages to exact versions and write its lock, if anything changed.

    Args:
        fresh: Ask the mirrors for new package lists even if those at hand are recent.
    """
    path = lock_path(appliance, architecture)
    before = read_lock(path) if path.exists() else None
    now = resolve(
        appliance.base,
        appliance.spec.kernel,
        architecture,
        appliance.spec.packages,
        mirrors=shop.mirrors,
        pool=shop.pool,
        apt_root=shop.settings.cache / "apt",
        where=appliance.where,
        fresh=fresh,
    )
    write_lock(path, now)
    return now, differences(before, now)


def current_lock(shop: Workshop, appliance: Appliance, architecture: str) -> Lock:
    """An appliance's lock; made now, and said so, if there is none.

    Raises:
        SpecError: The lock is not for what the spec says now.
    """
    path = lock_path(appliance, architecture)
    if not path.exists():
        with shop.progress.step("lock") as step:
            made, _ = lock(shop, appliance, architecture)
            step.detail = f"made: {len(made.base_packages) + len(made.packages)} packages"
        return made
    found = read_lock(path)
    check_lock(found, path, appliance)
    return found


def prepare(shop: Workshop, appliance: Appliance, *, builder: str, architecture: str, formats: Sequence[str] = ()) -> Job:
    """Read everything, render, and plan; nothing is made (but a lock, if there is none)."""
    source = Source(
        appliance=appliance,
        lock=current_lock(shop, appliance, architecture),
        mirrors=shop.mirrors,
        templates=shop.root / "templates",
    )
    maker = find_builder(builder)
    rendered = maker.render(source)
    wanted = tuple(formats) or appliance.spec.formats
    stages: list[Stage] = []
    for part in maker.parts(source):
        inputs = rendered.digests(*part.reads) | shop.versions(part.tools) | {f"slipway {name}": code_digest(name) for name in part.code}
        stages.append(make_stage(part.kind, inputs, stages[-1] if stages else None))
    disk = stages[-1]
    exported = {}
    for name in dict.fromkeys((BOOT_FORMAT, *wanted)):
        form = find_format(name)
        inputs = {"disk_gib": str(appliance.spec.resources.disk_gib)} | shop.versions(form.tools) | {f"slipway formats/{name}.py": code_digest(f"formats/{name}.py")}
        exported[name] = make_stage(f"artifact:{name}", inputs, disk)
    boot = make_stage("boot", boot_inputs(source) | shop.versions(...), exported[BOOT_FORMAT])
    plan = Plan(appliance=appliance.name, stages=(*stages, *exported.values(), boot))
    return Job(source=source, builder=maker, rendered=rendered, plan=plan, formats=wanted)
