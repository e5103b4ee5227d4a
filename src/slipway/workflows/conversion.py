"""An existing release -> its disk in other formats, without a build.

What goes in: a manifest, and its raw artifact. What comes out: the same files as from a build with
these formats. All facts about the machine come from the manifest.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from slipway.cache import sha256_of
from slipway.errors import BuildError, HostError
from slipway.formats import Description, file_name, load, require, with_needed
from slipway.formats.raw import Raw, unpack
from slipway.host.ownership import require_writable
from slipway.job import Workshop
from slipway.records.manifest import Manifest
from slipway.spec.model import Interface, Parameter
from slipway.terminal.progress import size

if TYPE_CHECKING:
    from slipway.channels.client import Client

__all__ = ["export_built", "export_published"]


def export_published(
    shop: Workshop,
    client: Client,
    appliance: str,
    build: str | None,
    formats: Sequence[str],
    out: Path | None,
) -> dict[str, Path]:
    """Download a release's raw disk from a channel, verified, and make files of it.

    Args:
        build: The release; None is the channel's current one.

    Returns:
        The files by format.

    Raises:
        StoreError: The channel has no such release, or it was not made as raw.
        VerificationError: A file contradicts the channel's signed metadata.
        BuildError: A format is not possible for the appliance.
    """
    from slipway.channels.client import fetch_image, fetch_manifest

    manifest = fetch_manifest(client, appliance, build)
    formats = _checked(manifest, formats)
    _require_places(shop, manifest, out)  # before a download
    downloads = shop.settings.cache / "downloads"
    packed = fetch_image(client, manifest, Raw.name, downloads, shop.progress)
    made = _export(shop, manifest, packed, formats, out)
    packed.unlink(missing_ok=True)
    return made


def export_built(
    shop: Workshop, folder: Path, formats: Sequence[str], out: Path | None
) -> dict[str, Path]:
    """Make files of a release's folder; return them by format.

    Raises:
        BuildError: The folder is no finished build, has no raw artifact, or a format is not
            possible.
    """
    from slipway.records.release import read_release

    inside = sorted(path.parent for path in folder.glob("*/manifest.json"))
    if inside and not (folder / "manifest.json").exists():
        raise BuildError(
            f"{folder} holds releases, and is none", hint=f"name one: {' '.join(map(str, inside))}"
        )
    manifest = read_release(folder).manifest
    formats = _checked(manifest, formats)
    raw = next((artifact for artifact in manifest.artifacts if artifact.format == Raw.name), None)
    if raw is None:
        there = ", ".join(sorted(artifact.format for artifact in manifest.artifacts))
        raise BuildError(
            f"{manifest.ref} was not made as {Raw.name}",
            hint=f"choose from: {there}",
        )
    _require_places(shop, manifest, out)
    return _export(shop, manifest, folder / raw.file, formats, out)


def _checked(manifest: Manifest, formats: Sequence[str]) -> tuple[str, ...]:
    """Return these formats and their needs, if all are possible for the release.

    Raises:
        BuildError: A format needs another kernel, or the manifest names none.
    """
    found = with_needed(formats)
    for name in found:
        form = load(name)
        if form.kernel and not manifest.kernel:
            raise BuildError(
                f"{manifest.ref} does not say which kernel it has, "
                f"and {name} needs the {form.kernel} one",
                hint="export a newer release",
            )
        require(form, manifest.appliance, manifest.kernel)
    return found


def _folder(shop: Workshop, manifest: Manifest, out: Path | None) -> Path:
    return out or shop.root / "downloads" / manifest.appliance


def _logs(shop: Workshop) -> Path:
    """Return the folder for the output of programs.

    It is outside the scratch folder, since an error's hint names it.
    """
    return shop.root / "build/logs"


def _require_places(shop: Workshop, manifest: Manifest, out: Path | None) -> None:
    """Refuse unwritable places before work starts.

    Raises:
        OSError: Nothing can be made in one of them.
    """
    for folder in (_folder(shop, manifest, out), _logs(shop), shop.settings.cache):
        require_writable(folder)


def _export(
    shop: Workshop, manifest: Manifest, packed: Path, formats: Sequence[str], out: Path | None
) -> dict[str, Path]:
    artifact = next(artifact for artifact in manifest.artifacts if artifact.format == Raw.name)
    about = _description(manifest, shop.root / "templates")
    made: dict[str, Path] = {}
    out = _folder(shop, manifest, out)
    out.mkdir(parents=True, exist_ok=True)
    # Beside their place: what gets its name there has to be on the same file system.
    with (
        shop.cache.scratch() as scratch,
        TemporaryDirectory(prefix=".export-", dir=out) as unfinished,
    ):
        disk = scratch / "disk.raw"
        with shop.progress.step("disk") as step:
            unpack(
                packed,
                disk,
                sha256=artifact.sha256,
                uncompressed_sha256=artifact.uncompressed_sha256,
                uncompressed_size=artifact.uncompressed_size,
            )
            step.detail = f"unpacked, {size(artifact.uncompressed_size)}"

        for name in formats:
            form = load(name)
            output = Path(unfinished) / file_name(
                manifest.appliance, manifest.release, manifest.architecture, form
            )
            with shop.progress.step(name) as step:
                images = {other: made[other] for other in form.needs}
                virtual_size = manifest.resources["disk_gib"] * 2**30
                log = _logs(shop) / f"export-{manifest.appliance}-{name}.log"
                log.parent.mkdir(parents=True, exist_ok=True)
                log.unlink(missing_ok=True)
                done = form.export(
                    disk,
                    output,
                    virtual_size=virtual_size,
                    log=log,
                    about=replace(about, images=images),
                )
                step.detail = f"made, {size(done.size)}"
            output.chmod(0o644)  # somebody's own file; a format makes what the cache keeps
            made[name] = output
        return {name: _keep(path, out / path.name) for name, path in made.items()}


def _keep(made: Path, target: Path) -> Path:
    """Give a finished file its name; an identical file there is left alone.

    Raises:
        HostError: Another file has this name.
    """
    try:
        os.link(made, target, follow_symlinks=False)
    except FileExistsError:
        status = target.lstat()
        same = stat.S_ISREG(status.st_mode) and status.st_size == made.stat().st_size
        if not same or sha256_of(target) != sha256_of(made):
            raise HostError(
                f"{target} exists with other content, and is left as it is",
                hint="move it away, or give another folder: --out DIR",
            ) from None
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP):
            raise
        # A file system without hard links. The empty file that is replaced is our own.
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        made.replace(target)
    return target


def _description(manifest: Manifest, templates: Path) -> Description:
    return Description(
        name=manifest.appliance,
        version=manifest.version,
        summary=manifest.summary,
        architecture=manifest.architecture,
        system=manifest.system,
        kernel=manifest.kernel,
        epoch=manifest.source_date_epoch,
        cpus=manifest.resources["cpus"],
        memory_mib=manifest.resources["memory_mib"],
        interfaces=tuple(
            Interface.model_validate_json(json.dumps(each)) for each in manifest.interfaces
        ),
        parameters=tuple(
            Parameter.model_validate_json(json.dumps(each)) for each in manifest.parameters
        ),
        templates=templates,
    )
