"""Images: build, boot, check and run them.

Takes arguments; prints lines, or JSON.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from slipway.commandline.answer import Answer
from slipway.commandline.invocation import option, task
from slipway.commands.apart import built_apart, side_by_side
from slipway.commands.holding import Holding
from slipway.commands.options import (
    MADE,
    Place,
    Recipe,
    Working,
    at_least_one,
    chosen,
    described,
    folders,
    prepared,
    require_folder,
    require_words,
    shared,
)
from slipway.commands.output import say, show, until_ctrl_c
from slipway.commands.planning import plan, render
from slipway.commands.publishing import publish_into
from slipway.commands.records import machine_record, proof_record, release_record
from slipway.commands.shapes import (
    Built,
    Checked,
    FaultProof,
    Faults,
    Item,
    Machine,
    Release,
    Reproduced,
    Sizes,
    Started,
)
from slipway.commands.summaries import BuildSummary
from slipway.commands.values import given_values
from slipway.terminal.text import one_line

if TYPE_CHECKING:
    from slipway.job import Job, Workshop

__all__ = ["TASKS", "TITLE"]

TITLE: Final = "Build, boot and check"


@dataclass(frozen=True, slots=True)
class _Making:
    """The appliances to build, and the use of their releases."""

    format: list[str] = field(
        default_factory=list, metadata={"help": described("format")["format"]}
    )
    all: bool = shared("all", False)
    no_boot: bool = option(False, "do not boot the image and run its checks")
    publish: bool = option(False, "publish what was built")
    verify_reproducible: bool = option(
        False,
        "build again, from an empty cache and from its layers, and fail unless the "
        "bytes are the same",
    )
    jobs: int = shared("jobs", 1)
    built: str = shared("built", "")
    channel: str = option("nightly", "with --publish: into this channel")


@task(help=described("names"))
def build(
    names: list[str],
    *,
    at: Place,
    recipe: Recipe,
    wanted: _Making,
    holding: Holding,
    answer: Answer,
) -> None:
    """Build, boot, check and record appliances; stages in the cache are reused.

    With --jobs, a failed appliance does not stop the others.
    """
    from slipway import pipeline
    from slipway.errors import UsageError
    from slipway.host.credentials import leave_behind
    from slipway.outputs import announce, listing

    if wanted.publish and wanted.no_boot:
        raise UsageError(
            "an image that was not booted is not published", hint="leave --no-boot or --publish out"
        )
    at_least_one("--jobs", wanted.jobs)
    holding.require_terminal(alone=wanted.jobs == 1 and not wanted.publish)
    require_folder("--built", wanted.built)
    require_words(recipe.builder, wanted.format)
    options = [
        *recipe.words(),
        *at.words(),
        f"--root={at.root}",
        *(f"--format={name}" for name in wanted.format),
    ]
    options += ["--no-boot"] * wanted.no_boot + [
        "--verify-reproducible"
    ] * wanted.verify_reproducible
    if wanted.publish:
        build_and_publish(
            [*names, *["--all"] * wanted.all, *options, f"--jobs={wanted.jobs}"],
            at,
            wanted.channel,
            answer,
        )
        return
    leave_behind()
    shop = replace(at.workshop(), on_broken=holding.on_broken)
    prepared_jobs = prepared(shop, chosen(shop, names, wanted.all), recipe, wanted.format)
    done: list[Release] = []
    answer.tell(Built(releases=done))
    if wanted.jobs > 1 and len(prepared_jobs) > 1:
        build_side_by_side(shop, prepared_jobs, wanted.jobs, options, wanted.built, done)
        return
    summary = BuildSummary()
    with summary.written():
        for job in prepared_jobs:
            with shop.progress.group(job.headline), summary.row(job.name):
                release = pipeline.build(
                    shop, job, boot=not wanted.no_boot, on_failure=holding.on_failure
                )
                if wanted.verify_reproducible:
                    from slipway.workflows.inspection import verify_reproducible as verify

                    same = ", ".join(verify(shop, job))
                    print(
                        f"builds from an empty cache and from cached layers made the same {same}",
                        flush=True,
                    )
                announce(wanted.built, job.name, release.folder)
                done.append(release_record(release))
            summary.add(release)
            for line in [
                *listing(release),
                *summary.lines(shop.progress, release, last=not wanted.built),
            ]:
                say(line)


def build_side_by_side(
    shop: Workshop,
    jobs: Sequence[Job],
    at_once: int,
    options: Sequence[str],
    built: str,
    done: list[Release],
) -> None:
    """Build with a process for each appliance, and add the releases to ``done``.

    They are added even if another appliance failed.
    """
    import shutil
    import tempfile

    from slipway.outputs import announced
    from slipway.records.release import read_release

    with tempfile.TemporaryDirectory(prefix="slipway-") as folder:
        try:
            side_by_side(shop, "build", jobs, at_once, [*options, f"--built={folder}"])
        finally:
            done += [release_record(read_release(each)) for each in announced(folder, shop.root)]
            for file in Path(folder).glob("*.json") if built else ():
                shutil.copyfile(file, Path(built) / file.name)


def build_and_publish(words: Sequence[str], at: Place, channel: str, answer: Answer) -> None:
    """Build in a process without credentials; publish from this one, free of appliances' code.

    Finished releases are published even if another appliance failed.
    """
    from slipway.host.credentials import seal

    seal()
    shop, session, ring = at.publishing(channel, dry_run=True)  # before anything is built
    session.require_writable(keys=ring is None)
    done = built_apart(shop, "build", words, json=answer.json)
    if done.folders:
        shop, session, ring = at.publishing(channel)
        publish_into(shop, session, done.folders, channel, answer)
    if done.ended:
        raise done.ended


@task(keyless=True, help=described("name", "format"))
def reproduce(name: str, *, at: Working, recipe: Recipe, format: list[str], answer: Answer) -> None:
    """Build in differing surroundings and compare the bytes.

    The surroundings differ in umask, user, host name, time zone, memory or disk, and cache. Another
    user and another host name need root.
    """
    from slipway.workflows.surroundings import build_in_all, require_same

    shop = at.workshop()
    prepared(shop, [name], recipe, format)
    rows = list(build_in_all(shop, name, (recipe.builder, recipe.arch), format))
    table = [row.record() for row in rows]
    answer.tell(Reproduced(appliance=name, rows=table))
    show(table)
    require_same(rows)


@dataclass(frozen=True, slots=True)
class _Which:
    """The releases to show, and the folder for their paths."""

    all: bool = shared("all", False)
    built: str = shared("built", "")


@task(keyless=True, help=described("names", format=MADE))
def releases(
    names: list[str],
    *,
    at: Working,
    recipe: Recipe,
    format: list[str],
    answer: Answer,
    wanted: _Which,
) -> None:
    """Show the folders of the releases built from the present sources."""
    from slipway.errors import BuildError
    from slipway.outputs import announce, finished
    from slipway.records.release import read_release

    require_folder("--built", wanted.built)
    shop = at.workshop()
    jobs = prepared(shop, chosen(shop, names, wanted.all), recipe, format)
    found: list[Release] = []
    answer.tell(Built(releases=found))
    for job in jobs:
        done = finished(job, boot=True)
        if done is None:
            unchecked = finished(job, boot=False)
            reason = (
                f"no boot has checked {unchecked.name} of {job.name}"
                if unchecked
                else f"{job.name} is not up to date: its inputs have changed, or it was never built"
            )
            raise BuildError(reason, hint=f"run: invoke build {job.name} --publish")
        announce(wanted.built, job.name, done)
        found.append(release_record(read_release(done)))
        if not wanted.built:
            print(done)


@dataclass(frozen=True, slots=True)
class _Checks:
    """The checks to run, their appliances, and the firmware."""

    only: list[str] = field(
        default_factory=list,
        metadata={"help": "run this check and no other of its appliance's; can be given again"},
    )
    all: bool = shared("all", False)
    firmware: str = shared("firmware", "bios")


@task(keyless=True, help=described("names"))
def check(
    names: list[str],
    *,
    at: Working,
    recipe: Recipe,
    holding: Holding,
    answer: Answer,
    which: _Checks,
) -> None:
    """Boot built images and run their checks again; a run with --only is no pass."""
    from slipway import pipeline
    from slipway.boot.machine import FIRMWARES
    from slipway.boot.trial import find_checks
    from slipway.errors import UsageError, choose

    if which.firmware not in FIRMWARES:
        raise UsageError(
            f'there is no firmware "{which.firmware}"',
            hint=choose(which.firmware, FIRMWARES),
        )
    holding.require_terminal(alone=True)
    shop = at.workshop()
    jobs = prepared(shop, chosen(shop, names, which.all), recipe)
    wanted = [find_checks(job.source.appliance, which.only) for job in jobs]
    machines: list[Machine] = []
    answer.tell(Checked(machines=machines))
    for job, some in zip(jobs, wanted, strict=True):
        with shop.progress.group(job.headline) if len(jobs) > 1 else nullcontext():
            report = pipeline.check(
                shop,
                job,
                again=True,
                firmware=which.firmware,
                only=some,
                on_failure=holding.on_failure,
            )
        machines.append(machine_record(job.name, report, only=some))
        for found in report.checks:
            said = f"{found.outcome:<10} {found.duration_s:7.1f} s  {found.place}/{found.name}"
            print(one_line(said), flush=True)


@task(keyless=True, help=described("names", "all", "jobs"))
def faults(
    names: list[str],
    *,
    at: Working,
    recipe: Recipe,
    all: bool = False,
    jobs: int = 1,
    answer: Answer,
) -> None:
    """Break appliances as their faults/ describe, and see the right check fail each time."""
    from slipway.errors import UsageError
    from slipway.workflows import faults

    at_least_one("--jobs", jobs)
    if answer.json and jobs > 1:
        raise UsageError("--json does not go with --jobs", hint="run it once for each appliance")
    shop = at.workshop()
    prepared_jobs = prepared(shop, chosen(shop, names, all), recipe)
    found = {job.name: faults.read(job.source.appliance) for job in prepared_jobs}
    if jobs > 1 and len(prepared_jobs) > 1:
        side_by_side(
            shop, "faults", prepared_jobs, jobs, [*recipe.words(), *at.words(), f"--root={at.root}"]
        )
        return
    for name in [name for name, its in found.items() if not its]:
        print(f"{name} has no faults", flush=True)
    proofs: list[faults.Proof] = []
    told: list[FaultProof] = []
    answer.tell(Faults(proofs=told))
    for job in prepared_jobs:
        for fault in found[job.name]:
            proofs.append(faults.prove(shop, job, fault))
            told.append(proof_record(job.name, proofs[-1]))
            print(proofs[-1], flush=True)
    faults.require_proven(proofs)


@task(keyless=True, help=described("name"))
def sizes(name: str, *, at: Working, recipe: Recipe, answer: Answer) -> None:
    """Show the sizes of packages and folders in a built image: on the disk, and compressed."""
    from slipway.terminal.progress import size
    from slipway.workflows.inspection import sizes as find_sizes

    shop = at.workshop()
    (job,) = prepared(shop, [name], recipe)
    found = find_sizes(shop, job)
    packages, parts = ([Item(**row) for row in found[title]] for title in ("packages", "folders"))
    answer.tell(Sizes(appliance=job.name, packages=packages, folders=parts))
    for title, rows in found.items():
        total = {
            "name": f"all {title}",
            "size": sum(row["size"] for row in rows),
            "compressed": sum(row["compressed"] for row in rows),
        }
        for row in (*rows[:25], total):
            print(f"{size(row['compressed']):>10}  {size(row['size']):>10}  {row['name']}")
        print()


@dataclass(frozen=True, slots=True)
class _Start:
    """The values and the access of a started machine."""

    set: list[str] = field(
        default_factory=list,
        metadata={
            "help": (
                "a parameter's value, as name=value; can be given again. Others on this host can "
                "read it: see --set-file"
            )
        },
    )
    set_file: list[str] = field(
        default_factory=list,
        metadata={"help": "the same from a file, as name=PATH: for secrets; can be given again"},
    )
    keep: str = option(
        "",
        "a snapshot: made from the state at the end if there is none of this name, "
        "else what is started from",
    )
    ssh_key: str = option("", "a public key that may log in as root")
    internet: bool = option(
        False, "let the machine reach this host, and whatever this host reaches"
    )


@task(keyless=True, help=described("name"))
def start(name: str, *, at: Working, recipe: Recipe, wanted: _Start, answer: Answer) -> None:
    """Run a built image in a sandbox until Ctrl-C.

    Its ports are forwarded to free ports of this host's loopback.
    """
    from slipway import pipeline
    from slipway.boot.sandbox import require_startable
    from slipway.host.sshkey import require_public

    values = given_values(wanted.set, wanted.set_file)
    if wanted.ssh_key:
        require_public(Path(wanted.ssh_key))
    shop = at.workshop()
    # before a lock is made
    require_startable(shop.library.load(*folders([name])), values, wanted.keep)
    (job,) = prepared(shop, [name], recipe)
    key = Path(wanted.ssh_key) if wanted.ssh_key else None
    with (
        pipeline.start(
            shop, job, parameters=values, keep=wanted.keep, ssh_key=key, internet=wanted.internet
        ) as box,
        # Around the lines too: a reader of the first may not wait for the last.
        until_ctrl_c("stopping"),
    ):
        answer.tell_now(
            Started(
                appliance=job.name,
                accelerator=box.emulator.accelerator.name,
                console=str(box.console),
                ports=box.ports,
                unreachable=box.unreachable,
                login=box.login if box.ssh_key else None,
            )
        )
        for line in box.listing:
            print(line, flush=True)
        box.guest.qemu.wait()


TASKS: Final = (
    plan,
    render,
    build,
    reproduce,
    releases,
    check,
    faults,
    sizes,
    start,
)
