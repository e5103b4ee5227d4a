"""The commands: each task reads its arguments, calls slipway and prints. `invoke --list` shows them."""

from __future__ import annotations

import json as json_module
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invoke import Context

from slipway.invocation import task
from slipway.terminal import one_line

if TYPE_CHECKING:
    from slipway.channels.keys import KeyRing
    from slipway.channels.session import Session
    from slipway.job import Job, Workshop

NAMES: dict[str, Any] = {"positional": ["names"], "iterable": ["names"]}
NAME: dict[str, Any] = {"positional": ["name"]}
HELP = {
    "root": "where appliances/ and templates/ are",
    "names": "appliances",
    "name": "an appliance",
    "json": "print JSON",
    "all": "every appliance",
    "arch": "processor architecture of the image, in Debian's words",
    "builder": "image builder",
    "jobs": "how many appliances at once",
    "store": "s3://bucket/prefix?options, a directory, or https://... to read; without it SLIPWAY_STORE, slipway.toml, or build/store",
    "endpoint_url": "the S3 server, where it is not Amazon's",
    "single_writer": "use a server that ignores conditional writes, and promise that nobody else writes",
    "keys": "where the keys of channels are; without it SLIPWAY_KEYS, or ~/.config/slipway/keys",
    "channel": "a channel; can be given again",
    "dry_run": "say what would be removed, and remove nothing",
    "yes": "do not ask",
    "from": "the channel that has it",
    "build": "a build id, or a release; without it the current one",
    "format": "make this format instead of those in the spec; can be given again",
    "firmware": "bios, uefi or secureboot",
    "built": "write into this directory where each finished release is, as <appliance>.json",
}
#: The words that start a task in a process of its own.
INVOKE = (sys.executable, "-P", "-m", "slipway", f"--search-root={Path(__file__).parent}")


def described(*names: str, **more: str) -> dict[str, str]:
    """The help texts of a task's arguments."""
    return {name.replace("_", "-"): HELP[name] for name in names} | {name.replace("_", "-"): text for name, text in more.items()}


def workshop(root: str) -> Workshop:
    """What the pipeline works with."""
    from slipway.job import Workshop

    return Workshop(root=Path(root).absolute())


def chosen(shop: Workshop, names: Sequence[str], everything: bool) -> tuple[str, ...]:
    """The appliances that a command is about."""
    from slipway.errors import UsageError

    if bool(names) == everything:
        raise UsageError("name appliances, or give --all" if not names else "name appliances or give --all, not both")
    return tuple(dict.fromkeys(names)) or shop.library.names()


def prepared(shop: Workshop, names: Sequence[str], builder: str, arch: str, formats: Sequence[str] = ()) -> list[Job]:
    """Jobs for appliances; every error of every spec is found before anything is made."""
    from slipway.job import prepare

    appliances = shop.library.load_all(names)
    return [prepare(shop, appliance, builder=builder, architecture=arch, formats=formats) for appliance in appliances]


def show(rows: Iterable[Mapping[str, Any]], *, as_json: bool, columns: Sequence[str] = ()) -> None:
    """Print a listing: as JSON, or in columns as wide as what stands in them."""
    found = list(rows)
    if as_json:
        print(json_module.dumps(found, indent=2, sort_keys=True))
        return
    names = list(columns) or (list(found[0]) if found else [])
    cells = [[one_line(row[name]) for name in names] for row in found]
    widths = [max((len(row[at]) for row in cells), default=0) for at in range(len(names))]
    for cell in cells:
        print("  ".join(f"{text:<{width}}" for text, width in zip(cell, widths, strict=True)).rstrip())


@task(
    keyless=True,
    help=described("root", "json", names="their names alone; with --json on one line, as a workflow's matrix wants them"),
    name="list",
)
def list_(_: Context, root: str = ".", names: bool = False, json: bool = False) -> None:
    """Show the appliances there are."""
    if names:
        found = workshop(root).library.names()
        print(json_module.dumps(found) if json else "\n".join(found))
        return
    rows = [
        {
            "name": each.name,
            "version": each.spec.version,
            "base": each.spec.base,
            "category": each.spec.category,
            "summary": each.spec.summary,
        }
        for each in workshop(root).library.load_all()
    ]
    show(rows, as_json=json)


@task(keyless=True, help=described("names", "root"), **NAMES)
def validate(_: Context, names: list[str], root: str = ".") -> None:
    """Check specs and everything that belongs to them: all, or those named. Every error is shown at once."""
    count = len(workshop(root).library.load_all(names))
    print(f"{count} appliance{'s are' if count != 1 else ' is'} valid")


@task(help=described("root", check="only say whether docs/appliance.schema.json is up to date"))
def schema(_: Context, root: str = ".", check: bool = False) -> None:
    """Write docs/appliance.schema.json, the JSON Schema of a spec, for editors."""
    from slipway.cache import create_file
    from slipway.errors import VerificationError
    from slipway.spec.model import json_schema

    path, text = Path(root) / "docs/appliance.schema.json", json_schema()
    same = path.is_file() and path.read_text() == text
    if check and not same:
        raise VerificationError(f"{path} is out of date", hint="run: invoke schema")
    if not same:
        with create_file(path, mode=0o644) as file:
            file.write(text.encode())
    print(f"{path} {'is up to date' if same else 'written'}")


@task(keyless=True, help=described("name", "root", like="start from a copy of this appliance"), **NAME)
def new(_: Context, name: str, like: str = "", root: str = ".") -> None:
    """Make the folder of a new appliance, which validates, builds and passes its checks at once."""
    folder = workshop(root).library.new(name, like or None)
    print(f"{folder}\nnext: edit {folder / 'appliance.yaml'}, then: invoke build {name}")


@task(keyless=True, help=described("names", "all", "arch", "root"), **NAMES)
def lock(_: Context, names: list[str], all: bool = False, arch: str = "amd64", root: str = ".") -> None:
    """Resolve packages to exact versions and hashes, and say what changed."""
    from slipway.job import lock as make_lock
    from slipway.job import lock_path

    shop = workshop(root)
    for appliance in shop.library.load_all(chosen(shop, names, all)):
        made, difference = make_lock(shop, appliance, arch, fresh=True)
        path = lock_path(appliance, arch)
        if difference:
            print(f"{path}: {len(made.all_packages)} packages\n{difference}")
        else:
            print(f"{path}: {len(made.all_packages)} packages, nothing changed")


@task(keyless=True, help=described("name", "builder", "arch", "root", "json"), **NAME)
def plan(_: Context, name: str, builder: str = "mmdebstrap", arch: str = "amd64", root: str = ".", json: bool = False) -> None:
    """Show the stages of a build: their ids, whether they are in the cache, and why one is new."""
    from slipway.outputs import explain

    shop = workshop(root)
    (job,) = prepared(shop, [name], builder, arch)
    rows = explain(shop, job)
    if json:
        show(rows, as_json=True)
        return
    for row in rows:
        print(f"{row['kind']:<16} {row['id'][:12]}  {row['state']:<10} {', '.join(row['reasons'])}".rstrip())


@task(
    keyless=True,
    help=described(
        "name",
        "builder",
        "arch",
        "root",
        out="an empty or new directory",
        source="with the builder packer: the platforms, as qemu,amazon-ebs",
    ),
    **NAME,
)
def render(
    _: Context, name: str, builder: str = "mmdebstrap", source: str = "", arch: str = "amd64", out: str = "", root: str = "."
) -> None:
    """Write the very files that the builder runs and reads."""
    from slipway import pipeline

    shop = workshop(root)
    (job,) = prepared(shop, [name], builder, arch)
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
        "builder",
        "format",
        "arch",
        "store",
        "root",
        "jobs",
        "built",
        no_boot="do not boot the image and run its checks",
        publish="publish what was built",
        verify_reproducible="build again, from an empty cache and from its layers, and fail unless the bytes are the same",
    ),
    positional=["names"],
    iterable=["names", "format"],
)
def build(
    _: Context,
    names: list[str],
    format: list[str],
    all: bool = False,
    builder: str = "mmdebstrap",
    no_boot: bool = False,
    publish: bool = False,
    verify_reproducible: bool = False,
    jobs: int = 1,
    built: str = "",
    arch: str = "amd64",
    store: str = "",
    root: str = ".",
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
    if jobs < 1:
        raise UsageError("--jobs wants a number from 1 on")
    options = [f"--builder={builder}", f"--arch={arch}", f"--root={root}", *(f"--format={name}" for name in format)]
    options += ["--no-boot"] * no_boot + ["--verify-reproducible"] * verify_reproducible
    if publish:
        build_and_publish([*names, *["--all"] * all, *options, f"--jobs={jobs}"], root, store)
        return
    leave_behind()
    shop = workshop(root)
    prepared_jobs = prepared(shop, chosen(shop, names, all), builder, arch, format)
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


def build_and_publish(words: Sequence[str], root: str, store: str) -> None:
    """Build in a process without credentials; publish from this one, which runs no appliance's code.

    What was built is published, also when another appliance failed.
    """
    from invoke.exceptions import Exit

    from slipway.credentials import seal

    seal()
    shop, session = open_session(root, store, new=True)
    code, folders = built_apart(shop, "build", words)
    if folders:
        publish_into(shop, session, folders, "nightly")
    if code:
        raise Exit(code=code)


def built_apart(shop: Workshop, name: str, words: Sequence[str]) -> tuple[int, list[Path]]:
    """Run a task that builds in a process without credentials; return its exit code and the folders of the releases."""
    import tempfile

    from slipway.credentials import run_apart
    from slipway.outputs import announced

    with tempfile.TemporaryDirectory(prefix="slipway-") as folder:
        code = run_apart([*INVOKE, name, *words, f"--built={folder}"])
        return code, announced(folder, shop.root, {word for word in words if not word.startswith("-")})


def side_by_side(shop: Workshop, name: str, jobs: Sequence[Job], at_once: int, options: Sequence[str]) -> None:
    """Do a task for each by a process of its own, with these options."""
    from contextlib import closing

    from slipway.errors import BuildError
    from slipway.namespace import available_memory_mib
    from slipway.parallel import Command, run_all

    commands = [Command(name=job.name, argv=[*INVOKE, name, job.name, *options], memory_mib=job.memory_mib) for job in jobs]
    failed = []
    with closing(run_all(commands, jobs=at_once, memory_mib=available_memory_mib() * 3 // 4, progress=shop.progress)) as results:
        for ended in results:
            print(ended.output, end="", flush=True)
            failed += [ended.name] if ended.status else []
    if failed:
        raise BuildError(f"{len(failed)} of {len(jobs)} appliances failed: {', '.join(failed)}", hint="the lines above say why")


@task(keyless=True, help=described("name", "json", "builder", "arch", "root"), **NAME)
def sizes(_: Context, name: str, json: bool = False, builder: str = "mmdebstrap", arch: str = "amd64", root: str = ".") -> None:
    """Show what takes the space in a built image, by package and by folder: on the disk, and compressed."""
    from slipway.inspection import sizes as find_sizes
    from slipway.progress import size

    shop = workshop(root)
    (job,) = prepared(shop, [name], builder, arch)
    found = find_sizes(shop, job)
    if json:
        print(json_module.dumps(found, indent=2))
        return
    for title, rows in found.items():
        total = {"name": f"all {title}", "size": sum(row["size"] for row in rows), "compressed": sum(row["compressed"] for row in rows)}
        for row in (*rows[:25], total):
            print(f"{size(row['compressed']):>10}  {size(row['size']):>10}  {row['name']}")
        print()


@task(keyless=True, help=described("arch", "root"))
def appliances(_: Context, arch: str = "amd64", root: str = ".") -> None:
    """Write docs/appliances.md: sizes, memory, time to start and ports of every appliance, from its newest build."""
    from slipway.cache import create_file
    from slipway.overview import overview, page

    shop = workshop(root)
    rows = overview(shop, prepared(shop, chosen(shop, [], True), "mmdebstrap", arch))
    path = Path(root, "docs/appliances.md")
    path.parent.mkdir(exist_ok=True)
    with create_file(path, mode=0o644) as file:
        file.write(page(rows).encode())
    print(f"{path}: {len(rows)} appliances")


@task(keyless=True, help=described("name", "firmware", "builder", "arch", "root"), **NAME)
def check(_: Context, name: str, firmware: str = "bios", builder: str = "mmdebstrap", arch: str = "amd64", root: str = ".") -> None:
    """Boot the built image and run its checks again."""
    from slipway import pipeline

    shop = workshop(root)
    (job,) = prepared(shop, [name], builder, arch)
    report = pipeline.check(shop, job, again=True, firmware=firmware)
    for found in report.checks:
        print(one_line(f"{found.outcome:<10} {found.duration_s:7.1f} s  {found.place}/{found.name}"))


@task(keyless=True, help=described("names", "all", "jobs", "builder", "arch", "root"), **NAMES)
def faults(
    _: Context, names: list[str], all: bool = False, jobs: int = 1, builder: str = "mmdebstrap", arch: str = "amd64", root: str = "."
) -> None:
    """Break appliances in the ways that their faults/ describe, and see that the right check fails each time."""
    from slipway import faults

    shop = workshop(root)
    prepared_jobs = prepared(shop, chosen(shop, names, all), builder, arch)
    found = {job.name: faults.read(job.source.appliance) for job in prepared_jobs}
    if jobs > 1 and len(prepared_jobs) > 1:
        side_by_side(shop, "faults", prepared_jobs, jobs, [f"--builder={builder}", f"--arch={arch}", f"--root={root}"])
        return
    for name in [name for name, its in found.items() if not its]:
        print(f"{name} has no faults", flush=True)
    proofs = [faults.prove(shop, job, fault) for job in prepared_jobs for fault in found[job.name]]
    for proof in proofs:
        print(proof, flush=True)
    faults.require_proven(proofs)


def open_session(
    root: str, store: str, endpoint_url: str = "", single_writer: bool = False, keys: str = "", *, new: bool = False, reading: bool = False
) -> tuple[Workshop, Session]:
    """What a command about a store works with; where ``new`` is set, the store may be one that begins now."""
    from slipway.pipeline import session

    shop = workshop(root)
    return shop, session(
        shop, store, keys=keys, new=new, reading=reading, endpoint_url=endpoint_url, single_writer="1" if single_writer else ""
    )


def publish_into(shop: Workshop, session: Session, folders: Sequence[Path], channel: str) -> None:
    """Publish releases, and say what changed."""
    from slipway import pipeline
    from slipway.channels.session import describe

    for moved in pipeline.publish(shop, folders, session, channel):
        created = sum(len(blobs.created) for blobs in moved.blobs)
        print("\n".join(describe(moved)), flush=True)
        print(f"  in {session.store.url}, {created} objects created", flush=True)
        kept = [file for blobs in moved.blobs for file in blobs.kept]
        if kept:
            print(f"  it was published before: {', '.join(kept)} of that build stay", flush=True)


def confirm(question: str, yes: bool) -> None:
    """Go on only if a person says so, or said so."""
    from slipway.errors import UsageError

    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("there is nobody to ask", hint="give --yes")
    if input(f"{one_line(question)} [y/N] ").strip().lower() not in ("y", "yes"):
        raise UsageError("nothing was changed")


STORE = ("store", "endpoint_url", "single_writer", "root")


@task(
    help=described(
        "names",
        "all",
        *STORE,
        "keys",
        "builder",
        "arch",
        channel="into this channel",
        folder="releases that were built elsewhere: all below this folder",
        only="refuse other appliances than this one in --folder; 'build-*': each folder is for the one that it is named after",
    ),
    **NAMES,
)
def publish(
    _: Context,
    names: list[str],
    all: bool = False,
    store: str = "",
    channel: str = "nightly",
    folder: str = "",
    only: str = "",
    endpoint_url: str = "",
    single_writer: bool = False,
    keys: str = "",
    builder: str = "mmdebstrap",
    arch: str = "amd64",
    root: str = ".",
) -> None:
    """Put built releases into a store and into a channel of it, with one commit; doing it again changes nothing."""
    from invoke.exceptions import Exit

    from slipway.channels.folders import builds_below
    from slipway.credentials import seal
    from slipway.errors import UsageError

    seal()
    shop, session = open_session(root, store, endpoint_url, single_writer, keys, new=True)
    if folder:
        if names or all:
            raise UsageError("name appliances or give --folder, not both")
        folders = builds_below(Path(folder), only)
    elif only:
        raise UsageError("--only goes with --folder", hint=f"without it: invoke publish {only}")
    else:
        # Appliances are read by a process that has no keys.
        words = [*names, *["--all"] * all, f"--builder={builder}", f"--arch={arch}", f"--root={root}"]
        code, folders = built_apart(shop, "releases", words)
        if code:
            raise Exit(code=code)
    publish_into(shop, session, folders, channel)


@task(keyless=True, help=described("names", "all", "builder", "arch", "root", "built"), **NAMES)
def releases(
    _: Context,
    names: list[str],
    all: bool = False,
    builder: str = "mmdebstrap",
    arch: str = "amd64",
    built: str = "",
    root: str = ".",
) -> None:
    """Show the folders of the releases that were built from what is here now."""
    from slipway.errors import BuildError
    from slipway.outputs import announce, finished

    shop = workshop(root)
    for job in prepared(shop, chosen(shop, names, all), builder, arch):
        done = finished(job, boot=True)
        if done is None:
            raise BuildError(f"{job.name} is not built from what is here now", hint=f"run: invoke build {job.name} --publish")
        announce(built, job.name, done)
        if not built:
            print(done)


@task(help=described(*STORE, "keys", "json"))
def channels(
    _: Context, store: str = "", endpoint_url: str = "", single_writer: bool = False, keys: str = "", json: bool = False, root: str = "."
) -> None:
    """Show what each channel of a store holds."""
    from slipway.channels.session import require_none

    _shop, session = open_session(root, store, endpoint_url, single_writer, keys, reading=True)
    rows, problems = session.holdings(lambda line: print(f"warning: {line}", file=sys.stderr, flush=True))
    if not json:
        for row in rows:
            row["releases"] = f"{len(row['releases'])} releases"
            row["withdrawn"] = f"{len(row['withdrawn'])} withdrawn" if row["withdrawn"] else ""
    show(rows, as_json=json)
    sys.stdout.flush()
    require_none(problems)


@task(
    help=described("name", "build", *STORE, "keys", "yes", "from", to="the channel that gets it"),
    **NAME,
)
def promote(
    _: Context,
    name: str,
    build: str = "",
    from_: str = "nightly",
    to: str = "candidate",
    store: str = "",
    endpoint_url: str = "",
    single_writer: bool = False,
    keys: str = "",
    yes: bool = False,
    root: str = ".",
) -> None:
    """List a release of one channel in another, and make it current there; no image is copied."""
    from slipway.channels.session import describe
    from slipway.pipeline import update_catalog

    shop, session = open_session(root, store, endpoint_url, single_writer, keys)
    release, changes, deed = session.promotion(name, build or None, from_, to)
    for sign, packages in (("+", changes.added), ("-", changes.removed)):
        for package, version in sorted(packages.items()):
            print(one_line(f"  {sign} {package} {version}"))
    for package, (before, after) in sorted(changes.changed.items()):
        print(one_line(f"  {package} {before} -> {after}"))
    confirm(f"promote {name} {release} from {from_} to {to}?", yes)
    print("\n".join(describe(deed())))
    update_catalog(shop, session)


@task(
    help=described("name", *STORE, "keys", "yes", channel="in this channel", to="to this release or build; without it the one before"),
    **NAME,
)
def rollback(
    _: Context,
    name: str,
    channel: str = "stable",
    to: str = "",
    store: str = "",
    endpoint_url: str = "",
    single_writer: bool = False,
    keys: str = "",
    yes: bool = False,
    root: str = ".",
) -> None:
    """Make an older release of a channel the current one again."""
    from slipway.channels.session import describe
    from slipway.pipeline import update_catalog

    shop, session = open_session(root, store, endpoint_url, single_writer, keys)
    confirm(f"roll {name} in {channel} back to {to or 'the release before'}?", yes)
    print("\n".join(describe(session.rollback(name, channel, to or None))))
    update_catalog(shop, session)


@task(
    help=described(
        "name",
        "build",
        *STORE,
        "keys",
        "yes",
        "channel",
        reason="why, for those who have it",
        derived="also the builds after it that name it as their parent, and those with the same disk",
    ),
    positional=["name"],
    iterable=["channel"],
)
def withdraw(
    _: Context,
    name: str,
    channel: list[str],
    build: str = "",
    reason: str = "",
    store: str = "",
    endpoint_url: str = "",
    single_writer: bool = False,
    keys: str = "",
    yes: bool = False,
    derived: bool = False,
    root: str = ".",
) -> None:
    """Take a release out of every channel, the most trusted first; what is left is a note that says why."""
    from slipway.channels.session import describe
    from slipway.errors import UsageError
    from slipway.pipeline import update_catalog

    if not build or not reason:
        raise UsageError("withdraw wants --build and --reason", hint="the reason is shown to everybody who has that release")
    shop, session = open_session(root, store, endpoint_url, single_writer, keys)
    confirm(f"withdraw {name} {build}{' and what is derived from it' if derived else ''} for good?", yes)
    done = session.withdraw(name, build, reason, channel, derived=derived)
    for moved in done.moved:
        print("\n".join(describe(moved)), flush=True)
    for release in done.releases if len(done.releases) > 1 or not done.moved else ():
        print(f"  withdrawn: {release}", flush=True)
    update_catalog(shop, session)
    done.require_whole()


@task(help=described(*STORE, "keys", "channel"), iterable=["channel"])
def refresh(
    _: Context, channel: list[str], store: str = "", endpoint_url: str = "", single_writer: bool = False, keys: str = "", root: str = "."
) -> None:
    """Renew the signatures of channels before they expire; run this every night."""
    _shop, session = open_session(root, store, endpoint_url, single_writer, keys)
    done = session.refresh(channel, lambda line: print(f"warning: {line}", file=sys.stderr, flush=True))
    print(f"refreshed: {', '.join(done) or 'nothing, no channel here has its keys here'}")


@task(
    help=described(*STORE, "keys", "yes", channel="the channel", to="restore this version; without it the newest one"),
    positional=["channel"],
)
def recover(
    _: Context,
    channel: str,
    to: int = 0,
    store: str = "",
    endpoint_url: str = "",
    single_writer: bool = False,
    keys: str = "",
    yes: bool = False,
    root: str = ".",
) -> None:
    """Go on with a channel that publishers refuse: show what is known of it, and sign its newest state anew."""
    _shop, session = open_session(root, store, endpoint_url, single_writer, keys, new=True)
    found = session.findings(channel, to or None)
    print("\n".join(found.lines), flush=True)
    if found.problem is None and not to:
        return
    if found.chosen is None:
        confirm(f"nothing is left of {channel}: forget what was seen, and begin it again?", yes)
    else:
        confirm(f"sign version {found.chosen} of {channel} anew?", yes)
    after = session.recover(found)
    if after is None:
        print(f"{channel} begins again with the next publish; who knows the old one refuses it: restore a backup if there is one")
    else:
        print(f"{channel} goes on from version {found.chosen}")


@task(help=described(*STORE, "keys", "channel", "dry_run"), iterable=["channel"])
def prune(
    _: Context,
    channel: list[str],
    store: str = "",
    dry_run: bool = False,
    endpoint_url: str = "",
    single_writer: bool = False,
    keys: str = "",
    root: str = ".",
) -> None:
    """Take old releases out of channels: all but the newest of 14 days, 8 weeks and 12 months, the current and the one before."""
    _shop, session = open_session(root, store, endpoint_url, single_writer, keys)
    for name, dropped in session.prune(channel, dry_run=dry_run).items():
        for appliance, releases in dropped.items():
            print(f"{name}: {appliance}: {'would drop' if dry_run else 'dropped'} {', '.join(releases)}")


@task(help=described(*STORE, "keys", "dry_run"))
def gc(
    _: Context, store: str = "", dry_run: bool = False, endpoint_url: str = "", single_writer: bool = False, keys: str = "", root: str = "."
) -> None:
    """Remove objects that no channel has referred to for a week."""
    from slipway.channels.session import require_none
    from slipway.progress import size

    _shop, session = open_session(root, store, endpoint_url, single_writer, keys)
    collected = session.collect(dry_run=dry_run)
    for status in collected.removed:
        print(f"{'would remove' if dry_run else 'removed'} {status.key}")
    print(f"{len(collected.removed)} objects, {size(collected.size)}; {collected.uploads} unfinished uploads", flush=True)
    require_none(collected.problems)


@task(
    help=described(
        "name",
        "build",
        "arch",
        *STORE,
        "keys",
        channel="from this channel",
        format="the image's format",
        out="the folder for it; without it downloads/NAME",
    ),
    **NAME,
)
def fetch(
    _: Context,
    name: str,
    channel: str = "stable",
    format: str = "qcow2",
    build: str = "",
    arch: str = "amd64",
    out: str = "",
    store: str = "",
    endpoint_url: str = "",
    single_writer: bool = False,
    keys: str = "",
    root: str = ".",
) -> None:
    """Download an image, verified; an interrupted download goes on, and no other file is ever replaced."""
    from slipway.channels.client import fetch_image, fetch_manifest

    shop, session = open_session(root, store, endpoint_url, single_writer, keys, reading=True)
    client = session.client(channel)
    manifest = fetch_manifest(client, name, build or None, arch)
    folder = Path(out) if out else Path(root, "downloads", manifest.appliance)
    print(fetch_image(client, manifest, format, folder, shop.progress))


@task(
    help=described(
        "format",
        *STORE,
        "keys",
        "build",
        "root",
        channel="from this channel",
        out="the folder for them; without it downloads/NAME",
        release="an appliance, or the folder of a build",
    ),
    positional=["release"],
    iterable=["format"],
)
def export(
    _: Context,
    release: str,
    format: list[str],
    channel: str = "stable",
    build: str = "",
    out: str = "",
    store: str = "",
    endpoint_url: str = "",
    single_writer: bool = False,
    keys: str = "",
    root: str = ".",
) -> None:
    """Make other formats of a release's raw disk, published or built here, without a build."""
    from slipway.conversion import export_built, export_published
    from slipway.errors import UsageError

    if not format:
        raise UsageError("export wants --format", hint="for example: --format ova")
    formats = list(dict.fromkeys(format))
    if Path(release).is_dir():
        made = export_built(workshop(root), Path(release), formats, Path(out) if out else None)
    else:
        shop, session = open_session(root, store, endpoint_url, single_writer, keys, reading=True)
        made = export_published(shop, session.client(channel), release, build or None, formats, Path(out) if out else None)
    for path in made:
        print(path)


@task(help=described(*STORE, "keys"))
def catalog(_: Context, store: str = "", endpoint_url: str = "", single_writer: bool = False, keys: str = "", root: str = ".") -> None:
    """Write a store's indexes for Incus, LXD and vSphere; once they are there, every change of a channel keeps them up to date."""
    from slipway.pipeline import write_catalog

    shop, session = open_session(root, store, endpoint_url, single_writer, keys)
    print("\n".join(write_catalog(shop, session)) or "nothing changed")


@task(help=described(*STORE, "keys", "channel"), iterable=["channel"])
def verify(
    _: Context, channel: list[str], store: str = "", endpoint_url: str = "", single_writer: bool = False, keys: str = "", root: str = "."
) -> None:
    """Audit channels: signatures, expiry, each object's size and hash, SHA256SUMS, manifests, and what belongs to no channel."""
    from slipway.channels.audit import require_sound

    shop, session = open_session(root, store, endpoint_url, single_writer, keys, reading=True)
    with shop.progress.step("verify") as step:
        lines, problems = session.audit(channel, lambda key: setattr(step, "detail", key))
        step.detail = ""
    print("\n".join(lines), flush=True)
    require_sound(problems)


@task(
    help=described(
        "names",
        *STORE,
        "keys",
        "builder",
        "arch",
        "built",
        channel="into this channel",
        no_publish="build only: this needs no keys",
    ),
    **NAMES,
)
def nightly(
    _: Context,
    names: list[str],
    store: str = "",
    channel: str = "nightly",
    endpoint_url: str = "",
    single_writer: bool = False,
    keys: str = "",
    builder: str = "mmdebstrap",
    arch: str = "amd64",
    no_publish: bool = False,
    built: str = "",
    root: str = ".",
) -> None:
    """Do a night's work: renew locks, build and boot what changed, publish it with one commit, refresh, prune."""
    from invoke.exceptions import Exit

    from slipway.credentials import leave_behind, seal
    from slipway.nightly import build_all, deliver
    from slipway.outputs import announce

    if no_publish:
        leave_behind()
        night = build_all(workshop(root), names=names, builder=builder, arch=arch)
        for name, folder in night.releases.items():
            announce(built, name, folder)
        print("\n".join(night.lines), flush=True)
        night.require_success()
        return
    seal()
    shop, session = open_session(root, store, endpoint_url, single_writer, keys, new=True)
    words = [*names, "--no-publish", f"--builder={builder}", f"--arch={arch}", f"--root={root}"]
    code, folders = built_apart(shop, "nightly", words)
    print("\n".join(deliver(shop, session, folders, channel)), flush=True)
    if code:
        raise Exit(code=code)


def made_lines(ring: KeyRing, *, protected: bool) -> list[str]:
    """Say where new keys are, and what to do with them."""
    lines = [f"made in {ring.folder}: keep a copy where nobody else gets at it"]
    for folder in ring.places:
        lines.append(f"a root key is in {folder}: move it to a place of its own, offline")
    if ring.places:
        lines.append(f"to use those again: invoke keys rotate {ring.channel} --role ROLE --root-key FOLDER, once for each")
    if not protected:
        lines.append(f"targets and root have no passphrase; to give them one: invoke keys protect {ring.channel}")
    return lines


@task(
    positional=["action", "channel"],
    iterable=["signer", "root_key"],
    help=described(
        "keys",
        action="init, protect, rotate, show or export",
        channel="nightly, candidate, stable, ...",
        role="the role that gets new keys: root, targets, snapshot or timestamp",
        root_keys="how many keys the root has; several get a folder each",
        root_key="the folder of a root key that was moved away; can be given again",
        online="export only what signs every night: snapshot and timestamp",
        offline_targets="export only the targets key",
        no_passphrase="put new targets and root keys under no passphrase",
        threshold="how many of them must sign",
        signer="ROLE=URI,PUBLIC.pem: a key that is elsewhere, by securesystemslib's URI; can be given again",
    ),
    name="keys",
)
def keys_(
    _: Context,
    signer: list[str],
    root_key: list[str],
    action: str = "show",
    channel: str = "nightly",
    role: str = "",
    root_keys: int = 1,
    threshold: int = 1,
    keys: str = "",
    online: bool = False,
    offline_targets: bool = False,
    no_passphrase: bool = False,
) -> None:
    """Make the keys of a channel (init), put them under a passphrase (protect), replace a role's (rotate), show public
    ones, or print them for CI's secrets (export). Passphrases come from the terminal or SLIPWAY_PASSPHRASE_FILE."""
    from slipway.channels import keys as rings
    from slipway.channels.minisign import public_key
    from slipway.errors import UsageError

    directory = Path(keys).expanduser().absolute() if keys else rings.keys_directory()
    places = tuple(Path(folder).expanduser().absolute() for folder in root_key)
    if action == "init":
        known = rings.parse_signers(signer)
        passphrase = None if no_passphrase else rings.new_passphrase()
        ring = rings.init(channel, directory, root_keys=root_keys, threshold=threshold, signers=known, passphrase=passphrase)
        print("\n".join(made_lines(ring, protected=passphrase is not None)))
    elif action == "protect":
        passphrase = rings.new_passphrase()
        if passphrase is None:
            raise UsageError("there is no terminal to ask on", hint=f"write the passphrase into a file, named by {rings.PASSPHRASE_FILE}")
        done = rings.protect(channel, directory, passphrase, places=places)
        print("\n".join(f"{directory / name} is under a passphrase" for name in done) or "nothing changed")
        return
    elif action == "rotate":
        if not role:
            raise UsageError("rotate wants --role", hint=f"one of: {', '.join(rings.ROLES)}")
        passphrase = rings.new_passphrase() if role in rings.OFFLINE and not no_passphrase else None
        ring = rings.rotate(channel, directory, role, places=places, passphrase=passphrase)
        print(f"the {role} key of {channel} is a new one; to tell the store: invoke refresh --channel {channel}")
    elif action == "export":
        if online and offline_targets:
            raise UsageError("--online or --offline-targets, not both", hint="without either, both are in the line")
        roles = rings.ONLINE if online else ("targets",) if offline_targets else ("targets", *rings.ONLINE)
        print(rings.export(rings.load_ring(channel, directory), roles))
        return
    elif action == "show":
        ring = rings.load_ring(channel, directory, places=places)
    else:
        raise UsageError(f'keys has no action "{action}"', hint="there is: init, protect, rotate, show, export")
    for name in rings.ROLES:
        for key in ring.public(name):
            print(f"{name:<10} {rings.fingerprint(key)}")
    minisign = public_key(ring.public("targets")[0], channel)
    if minisign:
        print(f"minisign   {minisign.splitlines()[1]}")


@task(
    keyless=True,
    positional=["action"],
    help=described(
        "root",
        action="prune: remove what was not used for the longest time, down to the limit",
        to="keep at most so many GiB",
        json="print JSON",
    ),
)
def cache(_: Context, action: str = "", to: int = -1, root: str = ".", json: bool = False) -> None:
    """Show what the cache of finished stages holds, or prune it."""
    from slipway.errors import UsageError
    from slipway.progress import size

    if action not in ("", "prune"):
        raise UsageError(f'cache has no action "{action}"', hint="there is: prune")
    store = workshop(root).cache
    if action == "prune":
        removed = store.prune(keep_bytes=to * 2**30 if to >= 0 else None)
        print(f"{len(removed)} entries removed, {size(sum(entry.size for entry in removed))}")
        return
    rows = [{"id": entry.id[:12], "kind": entry.kind, "size": entry.size if json else size(entry.size)} for entry in store.usage()]
    show(rows, as_json=json)
    if not json:
        print(f"{store.directory}: {size(sum(entry.size for entry in store.usage()))} of {size(store.limit_bytes)}")


@task(
    keyless=True,
    help=described(
        "name",
        "builder",
        "arch",
        "root",
        set="a parameter's value, as name=value; can be given again. Others on this host can read it: see --set-file",
        set_file="the same from a file, as name=PATH: for secrets; can be given again",
        internet="let the machine reach this host, and whatever this host reaches",
        keep="a snapshot: made from the state at the end if there is none of this name, else what is started from",
        ssh_key="a public key that may log in as root",
    ),
    positional=["name"],
    iterable=["set", "set_file"],
)
def start(
    _: Context,
    name: str,
    set: list[str],
    set_file: list[str],
    keep: str = "",
    ssh_key: str = "",
    internet: bool = False,
    builder: str = "mmdebstrap",
    arch: str = "amd64",
    root: str = ".",
) -> None:
    """Run a built image in a sandbox until Ctrl-C; its ports are forwarded to free ports of this host's loopback."""
    from slipway import pipeline
    from slipway.errors import UsageError

    values = dict(item.partition("=")[::2] for item in set)
    if any("=" not in item for item in set):
        raise UsageError("--set wants name=value")
    for item in set_file:
        parameter, path = item.partition("=")[::2]
        if not Path(path).is_file():
            raise UsageError(f"there is no file {path}", hint="--set-file wants name=PATH")
        values[parameter] = Path(path).read_text().removesuffix("\n")
    if ssh_key and not Path(ssh_key).is_file():
        raise UsageError(f"there is no file {ssh_key}", hint="--ssh-key wants the path of a public key, as ~/.ssh/id_ed25519.pub")
    shop = workshop(root)
    (job,) = prepared(shop, [name], builder, arch)
    key = Path(ssh_key) if ssh_key else None
    with pipeline.start(shop, job, parameters=values, keep=keep, ssh_key=key, internet=internet) as box:
        for line in box.listing:
            print(line, flush=True)
        try:
            box.guest.qemu.wait()
        except KeyboardInterrupt:
            print("stopping", flush=True)


@task(keyless=True, help=described("root", "json"))
def doctor(_: Context, root: str = ".", json: bool = False) -> None:
    """Show what this host can do, what is missing, and the command that installs it."""
    from slipway.doctor import examine
    from slipway.errors import HostError

    findings = examine(workshop(root))
    if json:
        show([finding.record for finding in findings], as_json=True)
    else:
        for finding in findings:
            print(finding.line)
    missing = [finding.name for finding in findings if finding.state == "missing"]
    if missing:
        raise HostError(f"missing: {', '.join(missing)}", hint="the commands above install it")


@task(help=described("root", update="lock the newest versions that pyproject.toml allows, and say what changed"))
def deps(_: Context, update: bool = False, root: str = ".") -> None:
    """Compare the lock of Slipway's own Python packages (requirements/) with pyproject.toml, or renew it."""
    from slipway import dependencies

    if update:
        print("\n".join(dependencies.update(Path(root).absolute()) or ["nothing changed"]))
        return
    dependencies.require_agreement(Path(root).absolute())
    print("requirements/ agrees with pyproject.toml")


@task(help=described("root"))
def lint(_: Context, root: str = ".") -> None:
    """Check style and types of the code, and the shell scripts."""
    from slipway.development import lint as run_lint

    run_lint(Path(root).absolute())


@task(
    help=described(
        "root",
        all="every test, also those that only the nightly workflow runs",
        unit="only the fast ones",
        integration="only those with real tools and the host's package mirror",
        vm="only those that boot virtual machines",
        store="ceph: only those with this object store",
        keyword="only tests that match (pytest -k); with --fresh: only machines with this in their name",
        fresh="the README's commands on minimal systems, one of each base for root and for an ordinary user",
    )
)
def test(
    _: Context,
    all: bool = False,
    unit: bool = False,
    integration: bool = False,
    vm: bool = False,
    store: str = "",
    keyword: str = "",
    fresh: bool = False,
    root: str = ".",
) -> None:
    """Check the code and run the tests that guard the main flow: style, types, unit, integration, an object store, machines."""
    from slipway import development
    from slipway.fresh import fresh as run_fresh

    flags = {"all": all, "unit": unit, "integration": integration, "vm": vm, "fresh": fresh}
    selection = development.select([name for name, given in flags.items() if given], store=store, keyword=keyword)
    if selection.fresh:
        run_fresh(workshop(root), selection.keyword)
        return
    if selection.lint:
        development.lint(Path(root).absolute())
    development.test(Path(root).absolute(), selection)


@task(help=described("root", names="mutants, or tables of them; every one if none is named", jobs="how many mutants at once"), **NAMES)
def mutants(_: Context, names: list[str], jobs: int = 2, root: str = ".") -> None:
    """Plant faults in a copy of the checkout (tests/mutants/), one at a time, and see that the tests notice each."""
    from contextlib import closing

    from slipway import mutants

    checkout = Path(root).absolute()
    chosen_mutants = mutants.choose(mutants.read(checkout), names)
    found = []
    with closing(mutants.prove(checkout, chosen_mutants, jobs=jobs)) as outcomes:
        for outcome in outcomes:
            print(outcome, flush=True)
            found.append(outcome)
    allowed = sum(bool(outcome.mutant.survives) for outcome in found)
    print(f"{sum(outcome.killed_by is not None for outcome in found)} of {len(found)} killed, {allowed} may survive", flush=True)
    mutants.require_killed(found)


@task(help=described("root", "json", runs="how often each command is measured; the median counts"))
def bench(_: Context, runs: int = 3, root: str = ".", json: bool = False) -> None:
    """Measure how fast this version is on this machine, beside a control; takes some minutes."""
    from slipway.bench.builds import bench as measure

    report = measure(workshop(root), runs=runs)
    if json:
        print(json_module.dumps(report.record(), indent=1))
        return
    show([row.record() for row in report.rows], as_json=False, columns=("name", "value", "unit", "goal", "outcome", "detail"))
    for name, took in report.profiles.items():
        print(f"\n{name}, where the seconds went: " + ", ".join(f"{label} {seconds_:.1f}" for label, seconds_ in took.items()))
