"""One appliance made ready: appliance.yaml -> Spec -> Lock -> Rendered and Plan.

Nothing is built here. A :class:`Workshop` holds a command's surroundings; a :class:`Job` is one
appliance with all facts found out about it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Final

from slipway.builders import Broken, Builder, Part, Source
from slipway.builders import builder as find_builder
from slipway.cache import Cache, sha256_of
from slipway.errors import SpecErrors, UsageError
from slipway.formats import Description, describe, require, with_needed
from slipway.formats import load as load_format
from slipway.host.accelerator import host_architecture
from slipway.host.ownership import require_private, require_writable
from slipway.packages.lock import (
    Lists,
    Lock,
    LockDiff,
    LockedPackage,
    Wanted,
    check_lock,
    differences,
    read_lock,
    resolve,
    write_lock,
)
from slipway.packages.mirror import find_mirrors, with_sources
from slipway.packages.pool import Pool
from slipway.packages.resolve import resolve_apart
from slipway.plan import Plan, Stage, make_stage
from slipway.rendering.apart import require_apart
from slipway.rendering.render import Rendered
from slipway.settings import Settings, load_settings
from slipway.spec.folder import SourceFile
from slipway.spec.library import Appliance, Library, guest_files
from slipway.terminal.durations import Durations
from slipway.terminal.progress import Progress
from slipway.tools import code_digest, tool_versions

__all__ = [
    "BOOTED",
    "Job",
    "Workshop",
    "current_lock",
    "host_qemu",
    "lock",
    "lock_path",
    "lock_qemu",
    "prepare",
    "tree_of_qemu",
]

#: The format for booting and checking: QEMU reads it.
BOOTED = "qcow2"
#: The packages and locks of a QEMU newer than a host's.
QEMU: Final = Path("templates/qemu")


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """The surroundings of a command; made once for each.

    Args:
        cache_directory: Another cache for finished stages than the setting's. Packages and known
            versions of tools stay in the setting's.
        settings_root: The folder of slipway.toml, if not the root.
        on_broken: Gets the unfinished work of a failed stage.
    """

    root: Path
    progress: Progress = field(default_factory=Progress)
    cache_directory: Path | None = None
    settings_root: Path | None = None
    on_broken: Callable[[Broken], None] | None = None
    _versions: dict[tuple[str, ...], Mapping[str, str]] = field(
        default_factory=dict, init=False, repr=False
    )

    @cached_property
    def settings(self) -> Settings:
        """slipway.toml and the environment; the cache they name is this user's alone.

        Raises:
            HostError: The cache belongs to another user, or others can write it.
        """
        settings = load_settings(self.settings_root or self.root)
        require_private(settings.cache, setting="SLIPWAY_CACHE")
        return settings

    @cached_property
    def library(self) -> Library:
        """The appliances.

        Raises:
            UsageError: The root is no checkout.
        """
        if not (self.root / "templates").is_dir():
            hint = "change to a checkout, or give it as --root FOLDER"
            raise UsageError(
                f"{self.root} is not a checkout of Slipway: it has no templates/", hint=hint
            )
        return Library(self.root)

    @cached_property
    def cache(self) -> Cache:
        """Finished stages."""
        return Cache(
            self.cache_directory or self.settings.cache,
            limit_bytes=self.settings.cache_limit_gib * 2**30,
        )

    @cached_property
    def durations(self) -> Durations:
        """The recorded durations of stages on this machine."""
        return Durations(self.settings.cache / "durations.json")

    @cached_property
    def pool(self) -> Pool:
        """Verified packages."""
        return Pool(self.settings.cache / "pool")

    @cached_property
    def mirrors(self) -> Mapping[str, str]:
        """The URIs of the package mirrors, by archive."""
        return find_mirrors(self.settings)

    @property
    def store(self) -> str:
        """The store of the settings, or the folder ``build/store``."""
        return self.settings.store or str(self.root / "build/store")

    @cached_property
    def guest(self) -> tuple[SourceFile, ...]:
        """The files of every guest."""
        return guest_files(self.root / "templates/guest/files")

    def versions(self, tools: tuple[str, ...]) -> Mapping[str, str]:
        """Return :func:`~slipway.tools.tool_versions`, remembered here and in the cache."""
        if tools not in self._versions:
            self._versions[tools] = tool_versions(tools, self.settings.cache / "tools.json")
        return self._versions[tools]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One appliance, ready to be built.

    ``outputs`` is the folder for its releases. ``lock_sha256`` and ``base_sha256`` are the digests
    of the files behind it.
    """

    source: Source
    builder: Builder
    rendered: Rendered
    plan: Plan
    formats: tuple[str, ...]
    outputs: Path
    lock_sha256: str
    base_sha256: str

    @property
    def name(self) -> str:
        """The appliance's name."""
        return self.source.appliance.name

    @property
    def architecture(self) -> str:
        """The image's architecture."""
        return self.source.lock.architecture

    @property
    def headline(self) -> str:
        """One line with the appliance, its version, its architecture and its base."""
        appliance = self.source.appliance
        return (
            f"{self.name} {appliance.spec.version} for {self.architecture} on "
            f"{appliance.base.summary}"
        )

    @property
    def memory_mib(self) -> int:
        """The memory for building and checking it, if the host has that much."""
        spec = self.source.appliance.spec
        return (
            self.builder.memory_mib(self.source)
            + (1 + len(spec.instances)) * spec.resources.memory_mib
        )

    @property
    def logs(self) -> Path:
        """The folder for the output of programs."""
        return self.outputs / "logs"

    @property
    def description(self) -> Description:
        """The description for formats that hold more than the disk."""
        return describe(self.source)

    def stage(self, kind: str) -> Stage:
        """Return the stage of an existing kind."""
        return next(stage for stage in self.plan.stages if stage.kind == kind)


def lock_path(appliance: Appliance, architecture: str) -> Path:
    """Return the path of an appliance's lock."""
    return appliance.folder / f"lock.{architecture}.json"


def _earlier(path: Path) -> Lock | None:
    """Return the lock to be replaced; None if there is none, or it cannot be read.

    A lock with a merge conflict is made anew, as the hints of its errors say.

    Raises:
        OSError: The folder cannot be written.
    """
    require_writable(path.parent)
    with contextlib.suppress(SpecErrors):
        return read_lock(path) if path.exists() else None
    return None


def lock(
    shop: Workshop, appliance: Appliance, architecture: str, *, fresh: bool = False
) -> tuple[Lock, LockDiff]:
    """Resolve an appliance's packages to exact versions and write its lock, if anything changed.

    Args:
        fresh: Ask the mirrors for new package lists even if the ones at hand are recent.
    """
    path = lock_path(appliance, architecture)
    before = _earlier(path)
    keyrings = {file.target: file.path for file in appliance.files}
    now = resolve(
        appliance.base,
        appliance.spec.kernel,
        architecture,
        Wanted(
            packages=appliance.spec.packages,
            sources=[(source, keyrings[source.signed_by]) for source in appliance.spec.sources],
            pypi=appliance.spec.pypi,
            tools=appliance.spec.tools,
            where=appliance.where,
        ),
        lists=Lists(mirrors=shop.mirrors, folder=shop.settings.cache / "apt", fresh=fresh),
        pool=shop.pool,
    )
    write_lock(path, now)
    return now, differences(before, now)


def current_lock(shop: Workshop, appliance: Appliance, architecture: str) -> Lock:
    """Return an appliance's lock; make it, and say so, if there is none.

    Raises:
        SpecError: The lock does not match the present spec.
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


def prepare(
    shop: Workshop,
    appliance: Appliance,
    *,
    builder: str,
    architecture: str,
    formats: Sequence[str] = (),
) -> Job:
    """Read everything, render, and plan; make nothing but a missing lock.

    Raises:
        UsageError: The builder or a format does not exist, or the base lacks this architecture.
        SpecErrors: The lock does not match the present spec.
    """
    # What was typed comes first: a lock takes a while.
    maker = find_builder(builder)
    wanted = with_needed(formats or appliance.spec.formats)
    appliance.base.architecture(architecture)
    source = Source(
        appliance=appliance,
        lock=current_lock(shop, appliance, architecture),
        mirrors=with_sources(shop.mirrors, appliance.spec.sources),
        image_mirrors=shop.settings.image_mirror,
        templates=shop.root / "templates",
        guest=shop.guest,
    )
    rendered = maker.render(source)
    require_apart(
        appliance.name,
        rendered,
        downloads=[file.path for file in appliance.spec.downloads],
        volumes=[volume.path for volume in appliance.spec.volumes],
    )
    stages: list[Stage] = []
    for part in maker.parts(source):
        inputs = {**rendered.digests(*part.reads), **_part_inputs(shop, part)}
        stages.append(make_stage(part.kind, inputs, stages[-1] if stages else None))
    disk = stages[-1]
    exported: dict[str, Stage] = {}
    for name in dict.fromkeys((BOOTED, *wanted)):
        needed = {exported[other].kind: exported[other].id for other in load_format(name).needs}
        exported[name] = make_stage(
            f"artifact:{name}", {**_format_inputs(shop, source, name), **needed}, disk
        )
    tools = _tools(shop, source)
    inputs = {
        **_boot_inputs(shop, appliance, architecture),
        **{stage.kind: stage.id for stage in tools},
    }
    booted = make_stage("boot", inputs, exported[BOOTED])
    plan = Plan(appliance=appliance.name, stages=(*stages, *exported.values(), *tools, booted))
    return Job(
        source=source,
        builder=maker,
        rendered=rendered,
        plan=plan,
        formats=wanted,
        outputs=shop.root / "build" / appliance.name,
        lock_sha256=sha256_of(lock_path(appliance, architecture)),
        base_sha256=sha256_of(appliance.base.folder / "base.yaml"),
    )


def _part_inputs(shop: Workshop, part: Part) -> dict[str, str]:
    """Return a stage's inputs, beside its rendered files."""
    content = {"content of packages": _content(part.packages)} if part.packages else {}
    return {**shop.versions(part.tools), **_code(*part.code), **content, **part.more}


def host_qemu(shop: Workshop, system: str) -> str:
    """Return the version line of this host's QEMU for a processor.

    Empty if the setting leaves it aside.
    """
    name = f"qemu-system-{system}"
    return "" if shop.settings.qemu == "tree" else shop.versions((name,))[name]


def tree_of_qemu(shop: Workshop, system: str) -> tuple[Lock, Stage] | None:
    """Return the lock and the stage of a QEMU in a tree of its own; None if it is no option here.

    The choice between it and the host's is made when a machine starts
    (:func:`slipway.boot.emulator.choose`).
    """
    from slipway.boot.emulator import wants_tree
    from slipway.boot.qemu_tree import PART, tree_lock

    if not wants_tree(shop.settings.qemu, host_qemu(shop, system)):
        return None
    found = tree_lock(shop.root / QEMU, system, host_architecture())
    if found is None:
        return None
    part = replace(PART, packages=found.packages)
    return found, make_stage(part.kind, {"system": system, **_part_inputs(shop, part)})


def lock_qemu(
    shop: Workshop, architecture: str, *, fresh: bool = False
) -> dict[Path, tuple[Lock, LockDiff]]:
    """Resolve the packages of QEMU's trees for a host's architecture and write their locks.

    Returns the locks and their changes by path.
    """
    from slipway.boot.qemu_tree import lock_path as tree_lock_path
    from slipway.spec.emulators import read_emulators

    wanted = read_emulators(shop.root / QEMU)
    base, done = shop.library.base(wanted.base), {}
    for system, packages in sorted(wanted.packages.items()):
        path = tree_lock_path(shop.root / QEMU, system, architecture)
        path.parent.mkdir(exist_ok=True)
        before = _earlier(path)
        now = resolve_apart(
            base,
            packages,
            architecture,
            mirrors=shop.mirrors,
            apt_root=shop.settings.cache / "apt",
            fresh=fresh,
        )
        write_lock(path, now)
        done[path] = now, differences(before, now)
    return done


def _content(packages: Sequence[LockedPackage]) -> str:
    """Return one digest of packages: a version is only a name, their hashes are the content."""
    lines = "".join(
        f"{package.sha256} {package.size} {package.name} {package.version}\n"
        for package in sorted(packages)
    )
    return hashlib.sha256(lines.encode()).hexdigest()


def _tools(shop: Workshop, source: Source) -> tuple[Stage, ...]:
    """Return the stage of the tree with the checks' programs, if they use any."""
    if not source.lock.tools:
        return ()
    from slipway.boot.tools import PART, render_tools

    part = replace(PART, packages=source.lock.tools)
    return (
        make_stage(
            part.kind, {**render_tools(source).digests(*part.reads), **_part_inputs(shop, part)}
        ),
    )


def _format_inputs(shop: Workshop, source: Source, name: str) -> dict[str, str]:
    """Return an artifact's inputs, beside the disk.

    Raises:
        BuildError: The appliance cannot have this format.
    """
    spec, form = source.appliance.spec, load_format(name)
    require(form, spec.name, spec.kernel)
    modules = [
        f"{module if '/' in module else f'formats/{module}'}.py"
        for module in (name, *form.builds_on)
    ]
    code = _code(*modules, *(["rendering/templating.py"] if form.described else []))
    size = {"disk_gib": str(spec.resources.disk_gib)} if form.sized else {}
    return {**size, **shop.versions(form.versioned), **code, **_described(source, form.described)}


def _described(source: Source, templates: Sequence[str] | None) -> dict[str, str]:
    """Return the further inputs of a format that holds more than the disk.

    They are the description and the templates that it fills in.
    """
    if templates is None:
        return {}
    data = repr(replace(describe(source), templates=Path()))
    digests = {
        name: hashlib.sha256((source.templates / name).read_bytes()).hexdigest()
        for name in templates
    }
    return {"description": hashlib.sha256(data.encode()).hexdigest(), **digests}


def _code(*names: str) -> dict[str, str]:
    """Return the digests of slipway's own code, as inputs of a stage."""
    return {f"slipway/{name}": code_digest(name) for name in names}


def _boot_inputs(shop: Workshop, appliance: Appliance, architecture: str) -> dict[str, str]:
    """Return the inputs of a boot's outcome, beside the image.

    They are the checks, the machine with its expected services, and QEMU.
    """
    spec = appliance.spec
    machine = spec.model_dump(
        mode="json",
        include={"interfaces", "instances", "ports", "parameters", "resources", "services"},
    )
    system = appliance.base.architectures[architecture].qemu["system"]
    qemu = {f"qemu-system-{system}": said} if (said := host_qemu(shop, system)) else {}
    tree = tree_of_qemu(shop, system)
    return {
        **{
            f"checks/{check.place}/{check.name}": (
                f"{check.sha256} {check.timeout_s} {check.before} {check.instances}"
            )
            for check in appliance.checks
        },
        "machine": hashlib.sha256(json.dumps(machine, sort_keys=True).encode()).hexdigest(),
        **qemu,
        **({tree[1].kind: tree[1].id} if tree else {}),
        **_code("boot"),
    }
