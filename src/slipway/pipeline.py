"""The flow: appliance.yaml -> Spec -> Lock -> Plan and Rendered -> disk -> Artifacts -> store.

Each arrow is a function. Those up to the plan are in :mod:`slipway.job`, the rest are here, in the
order of a build: the disk, Artifacts, BootReport, Manifest, store. The work is done in the modules
they call.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

from slipway.boot.report import BootReport
from slipway.builders import Source, Workplace
from slipway.cache import Entry
from slipway.errors import BuildError, HostError, UserError
from slipway.formats import load as load_format
from slipway.host.accelerator import probe
from slipway.job import BOOTED, Job, Workshop, host_qemu, tree_of_qemu
from slipway.outputs import capture, expected, expected_boot, finished, record, released_image
from slipway.plan import Stage
from slipway.rendering.render import Rendered
from slipway.terminal.progress import Step, size

if TYPE_CHECKING:
    from slipway.boot.emulator import Emulator
    from slipway.boot.sandbox import Sandbox
    from slipway.boot.trial import Held
    from slipway.channels.moves import Moved
    from slipway.channels.session import Session
    from slipway.records.release import Release

__all__ = [
    "build",
    "built_image",
    "check",
    "export",
    "find_emulator",
    "publish",
    "require_published",
    "session",
    "start",
    "write_rendered",
]


def build(
    shop: Workshop, job: Job, *, boot: bool = True, on_failure: Callable[[Held], None] | None = None
) -> Release:
    """Make the missing stages, and leave a release in the job's folder of outputs.

    Args:
        on_failure: Called with the machine whose checks failed; it runs until the call returns.
    """
    from slipway.records.release import read_release

    done = finished(job, boot=boot)
    if done and (shop.cache.find(job.stage(f"artifact:{BOOTED}").id) or released_image(job)):
        shop.progress.note("build", "nothing to do: this was built, and is all here")
        return read_release(done)
    inputs = capture(shop, job)
    job.logs.mkdir(parents=True, exist_ok=True)
    coming = shop.progress.expecting(expected(shop, job, boot=boot), shop.durations)
    with shop.cache.keeping(), coming:
        artifacts = export(shop, job)
        report = check(shop, job, on_failure=on_failure) if boot else None
        release = record(shop, job, artifacts, report, inputs)
    removed = shop.cache.prune()
    if removed:
        shop.progress.note(
            "cache", f"{len(removed)} entries removed to stay below {size(shop.cache.limit_bytes)}"
        )
    return release


def export(shop: Workshop, job: Job) -> dict[str, Entry]:
    """Return the artifacts by format, all in the cache; build the disk if one is missing."""
    stages = {
        stage.kind.partition(":")[2]: stage
        for stage in job.plan.stages
        if stage.kind.startswith("artifact:")
    }
    with ExitStack() as stack:
        for stage in stages.values():
            waiting = partial(shop.progress.note, stage.kind, "waiting: another build is making it")
            stack.enter_context(shop.cache.locked(stage.id, waiting))
        found = {
            name: entry
            for name, stage in stages.items()
            if (entry := shop.cache.verified(stage.id))
        }
        for name, entry in found.items():
            _require_room(job, int(entry.facts["uncompressed_size"]))
            shop.progress.note(name, "from the cache")
        missing = [name for name in stages if name not in found]
        if missing:
            scratch = stack.enter_context(shop.cache.scratch())
            raw = stack.enter_context(disk(shop, job, found.get("raw"), scratch))
            workers = stack.enter_context(ThreadPoolExecutor(2))
            # After Ctrl-C or a failure, what has not begun is not begun. (Called before the pool is
            # waited for.)
            stack.callback(workers.shutdown, wait=False, cancel_futures=True)
            made: dict[str, Future[Entry]] = {}
            for name in missing:
                # What others need comes first in the plan, so it is never waited for by all who
                # could make it.
                needed = {
                    other: found.get(other) or made[other] for other in load_format(name).needs
                }
                made[name] = workers.submit(
                    export_one, shop, job, stages[name], raw, scratch, needed
                )
            found |= {name: future.result() for name, future in made.items()}
    return {name: found[name] for name in stages}


@contextmanager
def disk(shop: Workshop, job: Job, packed: Entry | None, scratch: Path) -> Iterator[Path]:
    """Yield the raw disk, unpacked from its artifact if there is one, else built."""
    if packed:
        from slipway.formats.raw import unpack

        raw = scratch / "disk.raw"
        with shop.progress.step("disk") as step:
            unpack(
                packed.file("disk"),
                raw,
                sha256=packed.facts["sha256"],
                uncompressed_sha256=packed.facts["uncompressed_sha256"],
                uncompressed_size=packed.facts["uncompressed_size"],
            )
            step.detail = "from the cache"
        yield raw
        return
    with job.builder.disk(job.plan, job.rendered, job.source, _workplace(shop, job)) as raw:
        yield raw


def write_rendered(
    shop: Workshop, job: Job, directory: Path, targets: Sequence[str] = ()
) -> list[Path]:
    """Write the builder's input for some of its targets, with everything needed to run it.

    Returns the files.
    """
    rendered = job.builder.render(job.source, targets) if targets else job.rendered
    files = dict(rendered.files)
    if job.source.lock.tools and not targets:
        from slipway.boot.tools import render_tools

        files |= render_tools(job.source).files
    Rendered(files).write(directory)
    job.builder.complete(directory, job.plan, rendered, job.source, _workplace(shop, job), targets)
    return [path for path in directory.rglob("*") if not path.is_dir() or path.is_symlink()]


def _workplace(shop: Workshop, job: Job) -> Workplace:
    job.logs.mkdir(parents=True, exist_ok=True)
    place = Workplace(cache=shop.cache, pool=shop.pool, progress=shop.progress, logs=job.logs)
    return replace(place, memory_mib=shop.settings.memory_mib, on_broken=shop.on_broken)


def export_one(
    shop: Workshop,
    job: Job,
    stage: Stage,
    raw: Path,
    scratch: Path,
    needed: Mapping[str, Entry | Future[Entry]],
) -> Entry:
    """Make one artifact from those in ``needed`` and put it into the cache."""
    form = load_format(stage.kind.partition(":")[2])
    virtual_size = _require_room(job, raw.stat().st_size)
    entries = {
        name: entry.result() if isinstance(entry, Future) else entry
        for name, entry in needed.items()
    }
    about = replace(
        job.description, images={name: entry.file("disk") for name, entry in entries.items()}
    )
    with shop.progress.step(form.name) as step:
        log = job.logs / f"{form.name}.log"
        artifact = form.export(
            raw, scratch / form.name, virtual_size=virtual_size, log=log, about=about
        )
        step.detail = f"made, {size(artifact.size)}"
        return shop.cache.add(
            stage.id, stage.kind, {"disk": (scratch / form.name, artifact.sha256)}, artifact.facts()
        )


def _require_room(job: Job, raw_size: int) -> int:
    """Return the disk's size for machines, in bytes.

    Raises:
        BuildError: The raw disk is larger.
    """
    virtual_size = job.source.appliance.spec.resources.disk_gib * 2**30
    if raw_size > virtual_size:
        raise BuildError(
            f"the disk needs {-(-raw_size // 2**30)} GiB, and resources.disk_gib is "
            f"{virtual_size // 2**30}",
            hint="raise resources.disk_gib in the spec",
        )
    return virtual_size


class Extent(TypedDict, total=False):
    """The extent of a boot for checks.

    ``first_failure`` stops it at the first failed check. ``only`` are the checks to run, as
    place/name, after the ones that every guest begins with; the report is no build's then.
    ``on_failure`` is called with the failed machine, and it runs until the call returns.
    """

    first_failure: bool
    only: Collection[str]
    on_failure: Callable[[Held], None] | None


def check(
    shop: Workshop,
    job: Job,
    *,
    again: bool = False,
    firmware: str = "bios",
    **extent: Unpack[Extent],
) -> BootReport:
    """Boot the artifact for QEMU and run the appliance's checks.

    Args:
        again: Boot even if the report of a boot with the same inputs is in the cache.
        firmware: bios, uefi or secureboot; only the first is part of a build.

    Raises:
        ChecksFailed: A check failed; the message names the passed ones.
        BuildError: The machine did not start.
    """
    from slipway.boot.checks import boot_and_check
    from slipway.boot.delivery import samples
    from slipway.boot.tools import make_tools
    from slipway.boot.trial import Trial

    only = extent.get("only", ())
    stage = job.stage("boot")
    waiting = partial(shop.progress.note, stage.kind, "waiting: another build is at it")
    known = [] if only else expected_boot(shop, job, firmware)
    coming = shop.progress.expecting(known, shop.durations)
    with shop.cache.keeping(), shop.cache.locked(stage.id, waiting), coming:
        image = built_image(shop, job)
        entry = None if again or only else shop.cache.verified(stage.id)
        if entry:
            report = BootReport.from_json(entry.facts)
            shop.progress.note("boot", f"from the cache: {report.summary}")
            return report
        for name, value in samples(job.source.appliance.spec.parameters).items():
            shop.progress.note("parameter", f"{name} has no default: the checks give it {value}")
        tools = job.plan.stage("tools")
        tree = make_tools(tools, job.source, _workplace(shop, job)) if tools else None
        emulator = find_emulator(shop, job)
        with shop.progress.step("boot") as step, shop.cache.scratch() as scratch:
            trial = Trial(
                source=_narrowed(job.source, only),
                tools=tree,
                image=image,
                work=scratch,
                logs=job.logs,
                step=step,
                firmware=firmware,
                emulator=emulator,
                first_failure=extent.get("first_failure", False),
                only=only,
                on_failure=extent.get("on_failure"),
            )
            report = boot_and_check(trial)
            step.detail = report.summary
        if firmware == "bios" and not only:
            shop.cache.add(stage.id, stage.kind, {}, report.to_json())
        return report


def _narrowed(source: Source, only: Collection[str]) -> Source:
    """Return the source with only these of its own checks; with all, if none is named."""
    if not only:
        return source
    checks = tuple(each for each in source.appliance.checks if f"{each.place}/{each.name}" in only)
    return replace(source, appliance=replace(source.appliance, checks=checks))


def find_emulator(shop: Workshop, job: Job) -> Emulator:
    """Choose the QEMU for an appliance's machines.

    A QEMU in a tree of its own is made now, if it is not in the cache.

    Raises:
        BuildError: The tree cannot be made, and the setting allows no other.
    """
    from slipway.boot.emulator import choose, host_version
    from slipway.boot.qemu_tree import make_tree

    system = job.source.appliance.base.architectures[job.architecture].qemu["system"]
    said, tree = host_qemu(shop, system), tree_of_qemu(shop, system)
    chosen = choose(shop.settings.qemu, probe(job.architecture), said, tree[0] if tree else None)
    if chosen.name == "host" or tree is None:
        return chosen
    try:
        made = make_tree(tree[1], tree[0], system, shop.mirrors, _workplace(shop, job))
    except BuildError as error:
        if shop.settings.qemu == "tree":
            raise
        reason = f"a newer one cannot be made here: {error.message.partition(chr(10))[0]}"
        chosen = replace(chosen, name="host", version=host_version(said), reason=reason)
    else:
        chosen = replace(chosen, tree=made)
    shop.progress.note("qemu", chosen.summary)
    return chosen


@contextmanager
def start(
    shop: Workshop,
    job: Job,
    *,
    parameters: Mapping[str, str],
    keep: str = "",
    ssh_key: Path | None = None,
    internet: bool = False,
) -> Iterator[Sandbox]:
    """Run the built image in a sandbox for as long as the block lasts.

    Without ``internet`` it reaches nothing else.

    Raises:
        BuildError: The image is not built.
        UsageError: A parameter does not exist or does not accept its value.
    """
    from slipway.boot.sandbox import Wanted, sandbox

    with shop.cache.keeping(), shop.cache.scratch() as work:
        image = built_image(shop, job)
        emulator = find_emulator(shop, job)
        folder = job.outputs / "sandbox"
        wanted = Wanted(
            parameters=parameters, keep=keep, folder=folder, ssh_key=ssh_key, internet=internet
        )
        appliance = job.source.appliance
        with sandbox(
            appliance, job.architecture, image, work, emulator=emulator, wanted=wanted
        ) as box:
            yield box


def built_image(shop: Workshop, job: Job) -> Path:
    """Return QEMU's image.

    Raises:
        BuildError: The image is not built.
    """
    entry = shop.cache.verified(job.stage(f"artifact:{BOOTED}").id)
    image = entry.file("disk") if entry else released_image(job)
    if image is None:
        raise BuildError(
            f"{job.name} is not up to date: its inputs have changed, or it was never built",
            hint=f"run: invoke build {job.name}",
        )
    return image


def publish(
    shop: Workshop,
    folders: Sequence[Path],
    session: Session,
    channel: str = "nightly",
    refused: dict[str, UserError] | None = None,
) -> list[Moved]:
    """Bring releases into a store and, with one commit, into a channel of it.

    Args:
        refused: Gets the problem of each unpublishable release, by name. Without it, the first
            problem is raised.
    """
    from slipway.channels.moves import publish_all

    ring = session.ring(channel)
    with shop.progress.step("publish") as step:
        moves = publish_all(
            session.store,
            ring,
            folders,
            started=_uploading(step, folders),
            refused=refused,
            **session.around(channel),
        )
        created = sum(len(blobs.created) for moved in moves for blobs in moved.blobs)
        step.detail = f"{created} objects created" if created else "there already"
    if any(moved.written for moved in moves):
        from slipway.workflows.indexing import update_catalog

        update_catalog(shop, session)
    return moves


def _uploading(step: Step, folders: Sequence[Path]) -> Callable[[str], None]:
    """Return a callback for the start of each object's upload; it counts the bytes before it."""
    sizes: dict[tuple[str, str, str], int] = {}
    for folder in folders:
        for path in folder.iterdir() if folder.is_dir() else ():
            sizes[folder.parent.name, folder.name, path.name] = path.stat().st_size
    total, done = sum(sizes.values()), [0, 0]
    step.transferred(0, total)

    def started(key: str) -> None:
        done[0] += done[1]
        _, appliance, release, name = ("", *key.split("/"))[-4:]
        done[1] = sizes.get((appliance, release, name.partition(".")[2]), 0)
        step.transferred(done[0], total)

    return started


def require_published(refused: Mapping[str, UserError]) -> None:
    """Raise if a release could not be published.

    Raises:
        UserError: Of the kind of the gravest problem; it names every refused release.
    """
    if not refused:
        return
    worst = max(refused.values(), key=lambda error: error.exit_code)
    if len(refused) == 1:
        raise worst
    listing = "".join(f"\n  {name}: {error.message}" for name, error in refused.items())
    raise type(worst)(
        f"{len(refused)} releases were not published:{listing}", hint="the others were"
    )


def _set_store(shop: Workshop) -> str:
    """Return the store of the settings, or the folder build/store on a person's machine.

    Raises:
        HostError: No store is set, but a key bundle or CI calls for one.
    """
    reason = next((name for name in ("SLIPWAY_KEY_BUNDLE", "CI") if os.environ.get(name)), None)
    if shop.settings.store is None and reason:
        hint = (
            "set SLIPWAY_STORE, which is empty or unset; or give --store, or store = "
            '"..." in slipway.toml'
        )
        raise HostError(
            f"no store is named, and {reason} is set: nothing is kept in a folder of this machine",
            hint=hint,
        )
    return shop.store


def session(
    shop: Workshop,
    store: str = "",
    *,
    keys: str = "",
    new: bool = False,
    reading: bool = False,
    **options: str,
) -> Session:
    """Open the named store, the one of the settings, or ``build/store``, with its channels' keys.

    Args:
        new: Allow a store that begins now.
        reading: Nothing will be written: allow a store on a web server too. Nothing is known of
            such a store before it is read.

    Raises:
        StoreError: There is no store, the place holds something else, or it is read-only.
    """
    from slipway.channels.keys import keys_directory
    from slipway.channels.session import Session
    from slipway.channels.state import require_store
    from slipway.settings import default_state
    from slipway.stores import open_store, read_only, require_writable

    opened = open_store(store or _set_store(shop), **options)
    if not reading:
        require_writable(opened)
    if not read_only(opened):
        require_store(opened, new=new)
    return Session(
        store=opened,
        keys=Path(keys).expanduser().absolute() if keys else keys_directory(),
        trust=shop.root / "trust",
        memory=default_state() / "clients",
    )
