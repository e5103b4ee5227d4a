"""Reading a store: download, convert and audit its releases.

Takes arguments; prints lines, or JSON.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from slipway.commandline.answer import Answer, stamp
from slipway.commandline.invocation import option, task
from slipway.commands.channel_shapes import Audited, Exported, Fetched, WithdrawnImage
from slipway.commands.options import Reading, described, require_formats, shared
from slipway.commands.output import say, warn
from slipway.commands.records import image_record, seed_record
from slipway.commands.seeds import about_seed, attaching, is_file_word, verify_files
from slipway.commands.values import given_values
from slipway.terminal.text import one_line

__all__ = ["TASKS", "TITLE"]

TITLE: Final = "Read a store"


@dataclass(frozen=True, slots=True)
class _Image:
    """The image to fetch, and its folder."""

    channel: str = option("stable", "from this channel")
    format: str = option("qcow2", "the image's format")
    build: str = shared("build", "")
    arch: str = option("amd64", "processor architecture of the image, in Debian's words")
    out: str = option("", "the output folder (default: downloads/NAME)")
    set: list[str] = field(
        default_factory=list,
        metadata={
            "help": (
                "write a seed with this value of a parameter, as name=value; can be given again"
            )
        },
    )
    set_file: list[str] = field(
        default_factory=list,
        metadata={"help": "the same from a file, as name=PATH: for secrets; can be given again"},
    )


@task(help=described("name"))
def fetch(name: str, *, at: Reading, wanted: _Image, answer: Answer) -> None:
    """Download and verify an image; an interrupted download is resumed.

    No other file is ever replaced. With --set, also write a seed for its first boot beside it, over
    an earlier one.
    """
    from slipway.channels.client import fetch_image, fetch_manifest, withdrawn_images
    from slipway.host.ownership import require_writable
    from slipway.seeds.seed import make_seed, seed_path, write_seed

    require_formats([wanted.format])
    values = given_values(wanted.set, wanted.set_file)
    require_writable(_downloads(at, name, wanted.out))
    shop, session = at.open(reading=True)
    client = session.client(wanted.channel)
    manifest = fetch_manifest(client, name, wanted.build or None, wanted.arch)
    public = given_values(wanted.set, ())
    seed = make_seed(manifest, values, public=list(public)) if values else None
    folder = _downloads(at, manifest.appliance, wanted.out)
    path = fetch_image(client, manifest, wanted.format, folder, shop.progress)
    beside = seed_path(path)
    if seed:
        write_seed(beside, seed)
    left = withdrawn_images(client, manifest.appliance, folder)
    answer.tell(
        Fetched(
            store=session.store.url,
            channel=wanted.channel,
            appliance=manifest.appliance,
            release=manifest.release,
            architecture=manifest.architecture,
            created=stamp(manifest.created),
            image=image_record(
                wanted.format,
                path,
                next(each.sha256 for each in manifest.artifacts if each.format == wanted.format),
            ),
            withdrawn=[
                WithdrawnImage(path=str(each), release=release, reason=why)
                for each, (release, why) in left.items()
            ],
            seed=seed_record(beside, seed) if seed else None,
        )
    )
    print(path)
    if seed:
        print(beside)
        for line in (about_seed(seed), *attaching(wanted.format, beside)):
            shop.progress.line(line)
    for each, (_, why) in left.items():
        warn(one_line(f"{each} was withdrawn from {wanted.channel}: {why}"))


def _downloads(at: Reading, name: str, out: str) -> Path:
    """Return the folder for a fetched image."""
    return Path(out) if out else Path(at.root, "downloads", name)


@dataclass(frozen=True, slots=True)
class _Disk:
    """The release to convert, and the folder for its images."""

    channel: str = option("stable", "from this channel")
    build: str = shared("build", "")
    out: str = option("", "the output folder (default: downloads/NAME)")


@task(
    help=described(
        format="a format to make; can be given again",
        release="an appliance, or the folder of a build",
    )
)
def export(release: str, *, at: Reading, format: list[str], wanted: _Disk, answer: Answer) -> None:
    """Make other formats of a release's raw disk, published or built here, without a build."""
    from slipway.errors import UsageError
    from slipway.workflows.conversion import export_built, export_published

    if not format:
        raise UsageError("export needs --format", hint="for example: --format ova")
    require_formats(format)
    formats = list(dict.fromkeys(format))
    if Path(release).is_dir():
        made = export_built(
            at.workshop(), Path(release), formats, Path(wanted.out) if wanted.out else None
        )
    else:
        shop, session = at.open(reading=True)
        made = export_published(
            shop,
            session.client(wanted.channel),
            release,
            wanted.build or None,
            formats,
            Path(wanted.out) if wanted.out else None,
        )
    answer.tell(Exported(images=[image_record(form, path) for form, path in made.items()]))
    for path in made.values():
        print(path)


@task(help=dict(channel="a channel, or a file: an image or a seed; can be given again"))
def verify(channel: list[str], *, at: Reading, answer: Answer) -> None:
    """Audit channels, or verify downloaded images and seeds.

    Of a channel: signatures, expiry, each object's size and hash, SHA256SUMS, manifests, and
    objects without a channel. Of a file: its release, and the values set by its seed.
    """
    from slipway.channels.audit import Audited as Sound
    from slipway.channels.audit import audit
    from slipway.errors import VerificationError

    files = [Path(word) for word in channel if is_file_word(word)]
    channels = [word for word in channel if not is_file_word(word)]
    shop, session = at.open(reading=True)
    right, lines, problems = verify_files(session, files, shop.progress) if files else ([], [], [])
    audited = Sound()
    if channels or not files:
        with shop.progress.step("verify") as step:
            audited = audit(session, channels, lambda key: setattr(step, "detail", key))
            step.detail = ""
    answer.tell(
        Audited(
            store=session.store.url,
            sound=[*lines, *audited.lines],
            problems=[*problems, *audited.all_problems],
            files=right,
        )
    )
    for line in (*map(one_line, lines), *audited.lines):
        say(line)
    if problems:
        raise VerificationError(
            "\n  ".join([*problems, *audited.all_problems]),
            hint="use none of them; invoke fetch NAME gets what is signed",
        )
    audited.require_sound()


@task(help=dict(port="the port; 0 is any that is free"))
def serve(*, at: Reading, port: int = 8000) -> None:
    """Show a store's pages on this machine's loopback, until Ctrl-C."""
    from slipway.errors import StoreError
    from slipway.stores import read_only
    from slipway.workflows.serving import FIRST, Server

    _, session = at.open(reading=True)
    if session.store.stat(FIRST) is None:
        url = session.store.url
        raise StoreError(
            f"{url} has no pages",
            hint=(
                "its publisher makes them: invoke catalog"
                if read_only(session.store)
                else f"run: invoke catalog --store={url}"
            ),
        )
    with Server(session.store, port) as server:
        print(server.url, flush=True)
        server.serve_forever()


TASKS: Final = (
    fetch,
    export,
    verify,
    serve,
)
