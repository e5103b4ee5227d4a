"""Images: plan, build, boot, check and run them.

What goes in: arguments. What comes out: lines, or JSON.
"""

from __future__ import annotations

from collections.abc import Sequence
from json import dumps
from pathlib import Path
from typing import Final

from slipway.commands.apart import built_apart, side_by_side
from slipway.commands.options import Checkout, Place, Recipe, at_least_one, chosen, described, prepared
from slipway.commands.output import show
from slipway.commands.publishing import publish_into
from slipway.invocation import task
from slipway.terminal import one_line

__all__ = ["TASKS", "TITLE"]

TITLE: Final = "Build, boot and check"


@task(keyless=True, help=described("name", "json"))
def plan(name: str, *, at: Checkout, recipe: Recipe, json: bool = False) -> None:
    """Show the stages of a build: their ids, whether they are in the cache, and why one is new."""
    from slipway.outputs import explain

    shop = at.workshop()
    (job,) = prepared(shop, [name], recipe)
    rows = explain(shop, job)
    if json:
        show(rows, as_json=True)
        return
    for row in rows:
        print(f"{row['kind']:<16} {row['id'][:12]}  {row['state']:<10} {', '.join(row['reasons'])}".rstrip())


@task(
    keyless=True,
    help=described("name", out="an empty or new directory", source="with the builder packer: the platforms, as qemu,amazon-ebs"),
)
def render(name: str, *, at: Checkout, recipe: Recipe, source: str = "", out: str = "") -> None:
    """Write the very files that the builder runs and reads."""
    from slipway import pipeline

    shop = at.workshop()
    (job,) = prepared(shop, [name], recipe)
    directory = Path(out) if out else shop.root / "build" / name / "render"
    if not out:
        import shutil

        shutil.rmtree(directory, ignore_errors=True)
    written = pipeline.write_rendered(shop, job, directory, tuple(filter(None, source.split(","))))
    print(f"{directory}: {len(written)} files")


@task(
    help=described(
        "names",
        "all",
        "format",
        "jobs",
        "built",
        channel="with --publish: into this channel",
        no_boot="do not boot the image and run its checks",
        publish="publish what was built",
        verify_reproducible="build again, from an empty cache and from its layers, and fail unless the bytes are the same",
    )
)
def build(
    names: list[str],
    *,
    at: Place,
    recipe: Recipe,
    format: list[str],
    all: bool = False,
    no_boot: bool = False,
    publish: bool = False,
    verify_reproducible: bool = False,
    jobs: int = 1,
    built: str = "",
    channel: str = "nightly",
) -> None:
    """Build, boot, check and record appliances; what is in the cache is not made again.

    With --jobs, an appliance that fails does not stop the others.
    """
    from slipway import pipeline
    from slipway.credentials import leave_behind
    from slipway.errors import UsageError
    from slipway.outputs import announce, listing

    if publish and no_boot:
        raise UsageError("an image that was not booted is not published", hint="leave --no-boot or --publish out")
    at_least_one("--jobs", jobs)
    options = [*recipe.words(), f"--root={at.root}", *(f"--format={name}" for name in format)]
    options += ["--no-boot"] * no_boot + ["--verify-reproducible"] * verify_reproducible
    if publish:
        build_and_publish([*names, *["--all"] * all, *options, f"--jobs={jobs}"], at, channel)
        return
    leave_behind()
    shop = at.workshop()
    prepared_jobs = prepared(shop, chosen(shop, names, all), recipe, format)
    if jobs > 1 and len(prepared_jobs) > 1:
        side_by_side(shop, "build", prepared_jobs, jobs, [*options, f"--built={built}"] if built else options)
        return
    for job in prepared_jobs:
        shop.progress.line(job.headline)
        release = pipeline.build(shop, job, boot=not no_boot)
        if verify_reproducible:
            from slipway.inspection import verify_reproducible as verify

            same = ", ".join(verify(shop, job))
            print(f"builds from an empty cache and from cached layers made the same {same}", flush=True)
        announce(built, job.name, release.folder)
        for line in listing(release):
            print(line, flush=True)


def build_and_publish(words: Sequence[str], at: Place, channel: str) -> None:
    """Build in a process without credentials; publish from this one, which runs no appliance's code.

    What was built is published, also when another appliance failed.
    """
    from invoke.exceptions import Exit

    from slipway.credentials import seal

    seal()
    shop, session, _ring = at.publishing(channel)  # before anything is built
    code, folders = built_apart(shop, "build", words)
    if folders:
        publish_into(shop, session, folders, channel)
    if code:
        raise Exit(code=code)


@task(keyless=True, help=described("name", "json", "format"))
def reproduce(name: str, *, at: Checkout, recipe: Recipe, format: list[str], json: bool = False) -> None:
    """Build in surroundings that differ and show what came out: umask, user, host name, time zone, memory or disk, cache.

    As root also another user and another host name are among them.
    """
    from slipway.surroundings import build_in_all, require_same

    shop = at.workshop()
    prepared(shop, [name], recipe, format)
    rows = list(build_in_all(shop, name, (recipe.builder, recipe.arch), format))
    table = [row.record() for row in rows]
    show(table if json else [{name: name for name in table[0]}, *table], as_json=json)
    require_same(rows)


@task(keyless=True, help=described("names", "all", "built"))
def releases(names: list[str], *, at: Checkout, recipe: Recipe, all: bool = False, built: str = "") -> None:
    """Show the folders of the releases that were built from what is here now."""
    from slipway.errors import BuildError
    from slipway.outputs import announce, finished

    shop = at.workshop()
    for job in prepared(shop, chosen(shop, names, all), recipe):
        done = finished(job, boot=True)
        if done is None:
            raise BuildError(f"{job.name} is not built from what is here now", hint=f"run: invoke build {job.name} --publish")
        announce(built, job.name, done)
        if not built:
            print(done)


@task(keyless=True, help=described("name", "firmware"))
def check(name: str, *, at: Checkout, recipe: Recipe, firmware: str = "bios") -> None:
    """Boot the built image and run its checks again."""
    from slipway import pipeline
    from slipway.boot.machine import FIRMWARES
    from slipway.errors import UsageError, suggestion

    if firmware not in FIRMWARES:
        raise UsageError(f'there is no firmware "{firmware}"', hint=suggestion(firmware, FIRMWARES) or f"there is: {', '.join(FIRMWARES)}")
    shop = at.workshop()
    (job,) = prepared(shop, [name], recipe)
    report = pipeline.check(shop, job, again=True, firmware=firmware)
    for found in report.checks:
        print(one_line(f"{found.outcome:<10} {found.duration_s:7.1f} s  {found.place}/{found.name}"))


@task(keyless=True, help=described("names", "all", "jobs"))
def faults(names: list[str], *, at: Checkout, recipe: Recipe, all: bool = False, jobs: int = 1) -> None:
    """Break appliances in the ways that their faults/ describe, and see that the right check fails each time."""
    from slipway import faults

    at_least_one("--jobs", jobs)
    shop = at.workshop()
    prepared_jobs = prepared(shop, chosen(shop, names, all), recipe)
    found = {job.name: faults.read(job.source.appliance) for job in prepared_jobs}
    if jobs > 1 and len(prepared_jobs) > 1:
        side_by_side(shop, "faults", prepared_jobs, jobs, [*recipe.words(), f"--root={at.root}"])
        return
    for name in [name for name, its in found.items() if not its]:
        print(f"{name} has no faults", flush=True)
    proofs = [faults.prove(shop, job, fault) for job in prepared_jobs for fault in found[job.name]]
    for proof in proofs:
        print(proof, flush=True)
    faults.require_proven(proofs)


@task(keyless=True, help=described("name", "json"))
def sizes(name: str, *, at: Checkout, recipe: Recipe, json: bool = False) -> None:
    """Show what takes the space in a built image, by package and by folder: on the disk, and compressed."""
    from slipway.inspection import sizes as find_sizes
    from slipway.progress import size

    shop = at.workshop()
    (job,) = prepared(shop, [name], recipe)
    found = find_sizes(shop, job)
    if json:
        print(dumps(found, indent=2))
        return
    for title, rows in found.items():
        total = {"name": f"all {title}", "size": sum(row["size"] for row in rows), "compressed": sum(row["compressed"] for row in rows)}
        for row in (*rows[:25], total):
            print(f"{size(row['compressed']):>10}  {size(row['size']):>10}  {row['name']}")
        print()


@task(
    keyless=True,
    help=described(
        "name",
        set="a parameter's value, as name=value; can be given again. Others on this host can read it: see --set-file",
        set_file="the same from a file, as name=PATH: for secrets; can be given again",
        internet="let the machine reach this host, and whatever this host reaches",
        keep="a snapshot: made from the state at the end if there is none of this name, else what is started from",
        ssh_key="a public key that may log in as root",
    ),
)
def start(
    name: str,
    *,
    at: Checkout,
    recipe: Recipe,
    set: list[str],
    set_file: list[str],
    keep: str = "",
    ssh_key: str = "",
    internet: bool = False,
) -> None:
    """Run a built image in a sandbox until Ctrl-C; its ports are forwarded to free ports of this host's loopback."""
    from slipway import pipeline
    from slipway.errors import UsageError
    from slipway.sshkey import require_public

    values = dict(item.partition("=")[::2] for item in set)
    if any("=" not in item for item in set):
        raise UsageError("--set wants name=value")
    for item in set_file:
        parameter, path = item.partition("=")[::2]
        if not Path(path).is_file():
            raise UsageError(f"there is no file {path}", hint="--set-file wants name=PATH")
        values[parameter] = Path(path).read_text().removesuffix("\n")
    if ssh_key:
        require_public(Path(ssh_key))
    shop = at.workshop()
    (job,) = prepared(shop, [name], recipe)
    key = Path(ssh_key) if ssh_key else None
    with pipeline.start(shop, job, parameters=values, keep=keep, ssh_key=key, internet=internet) as box:
        for line in box.listing:
            print(line, flush=True)
        try:
            box.guest.qemu.wait()
        except KeyboardInterrupt:
            print("stopping", flush=True)


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
