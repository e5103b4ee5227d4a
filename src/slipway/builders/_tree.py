"""Make the files of an appliance's tree and the values for its scripts, for any builder."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from slipway import __file__ as package_file
from slipway.builders import Source, Workplace
from slipway.builders._settings import USERS, service_drop_in, settings
from slipway.disk.identity import disk_identity
from slipway.errors import BuildError, HostError, UsageError
from slipway.host.namespace import MOUNT, Namespace, available_memory_mib
from slipway.host.rooted import create
from slipway.packages.lock import LockedPackage
from slipway.packages.mirror import source_text, sources
from slipway.packages.wheels import install_wheels, installer_version
from slipway.rendering.boxed import box
from slipway.rendering.plain import Context
from slipway.rendering.render import RenderedFile
from slipway.rendering.templating import render
from slipway.spec import parameters as rules
from slipway.spec.folder import SourceFile, open_content, read_content
from slipway.spec.library import Appliance, guest_files, template_context
from slipway.spec.model import Download, Services, Spec

__all__ = [
    "BOX_FILES",
    "PACKAGE_CODE",
    "TREE_CODE",
    "box_files",
    "context",
    "dpkg_configuration",
    "package_lines",
    "place_downloads",
    "read_secrets",
    "require_clock",
    "run_stage",
    "tree_files",
    "workspace",
]

#: A failed stage with less free space than this has run out of space.
_FULL_BYTES = 1 << 20
#: A shorter secret would be found everywhere.
_SECRET_CHARACTERS = 8
_DOCUMENTATION = {
    "docs": ("/usr/share/doc/*", "/usr/share/info/*", "/usr/share/lintian/*"),
    "man": ("/usr/share/man/*",),
    # translations; the sources of locale-gen(8) are always kept
    "locales": ("/usr/share/locale/*",),
}
#: The files shared by every stage's scripts, by name: the way into a tree, and the commands there.
BOX_FILES = ("box.py", "box.sh", "chroot.sh")
#: The code that shapes every stage of a tree, and the code of stages with packages.
TREE_CODE = (
    "builders/_layers.py",
    "builders/_tree.py",
    "builders/_settings.py",
    "builders/_secrets.py",
    "host/namespace.py",
    "host/process.py",
    "host/rooted.py",
    "rendering/render.py",
)
PACKAGE_CODE = ("packages/debfile.py", "packages/pool.py")


def box_files(templates: Path) -> dict[str, RenderedFile]:
    """Return the files shared by the scripts of every stage; they run as rendered."""
    program = Path(package_file).with_name("builders") / "_box.py"
    scripts = {
        name: RenderedFile(content=(templates / "mmdebstrap" / name).read_bytes(), mode=0o755)
        for name in BOX_FILES[1:]
    }
    return {BOX_FILES[0]: RenderedFile(content=program.read_bytes()), **scripts}


def run_stage(
    namespace: Namespace,
    part: str,
    log: Path,
    *,
    overlay: str = "",
    secrets: Mapping[str, str] | None = None,
) -> None:
    """Run a stage's rendered script in its folder, with a pipe between its output and the log.

    Raises:
        BuildError: The script failed.
        HostError: The script failed, and there is no space left.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    command: list[str | Path] = [
        "sh",
        "-c",
        'cd "$1" && exec sh -eu build.sh',
        "sh",
        MOUNT / "render" / part,
    ]
    program = Path(package_file).with_name("builders") / "_secrets.py"
    # Nothing of the caller's: programs read settings from their user's home (mtools: ~/.mtoolsrc).
    told = {
        "SLIPWAY_OVERLAY": overlay,
        "SLIPWAY_PYTHON": sys.executable,
        "HOME": "/nonexistent",
        "MTOOLSRC": "/dev/null",
    }
    given = json.dumps(dict(secrets or {})).encode()
    try:
        namespace.run(
            [sys.executable, "-I", program, *command],
            what=f"stage {part}",
            env=told,
            log=log,
            input=given,
        )
    except BuildError as error:
        room = os.statvfs(namespace.path(MOUNT))
        if room.f_bavail * room.f_frsize > _FULL_BYTES:
            raise
        where = "the disk that it worked on is full: free some space, or run: invoke cache prune"
        if namespace.directory is None:
            where = (
                f"the {namespace.memory_mib} MiB of memory that it worked in are full; "
                "work on disk: export SLIPWAY_MEMORY_MIB=1"
            )
        raise HostError(error.message, hint=where) from None


def context(source: Source) -> Context:
    """Return the plain values for the templates of every builder."""
    appliance, lock = source.appliance, source.lock
    spec = _spec(source)
    services = _services(spec)
    architecture = appliance.base.architectures[lock.architecture]
    values = {
        "spec": spec,
        "base": appliance.base,
        "bare": source.bare,
        "architecture": lock.architecture,
        "epoch": lock.source_date_epoch,
        "disk": disk_identity(
            f"{appliance.name} {_digest(lock.base_packages)} {_digest(lock.packages)}"
        ),
        "services": services,
        "users": USERS if spec.users or spec.groups else "",
        "timezone": spec.timezone or "",
        "locale": spec.locale,
        "keyboard": spec.keyboard or "",
        "exposures": _exposures(services),
        "mountpoints": _mountpoints(spec),
        "read_only": spec.root.mode == "read-only",
        "state": _state(spec),
        "setup": [] if source.bare else [f"setup/{path.name}" for path in appliance.setup],
        "root_partition_type": architecture.root_partition_type,
        "efi_files": architecture.efi_files,
        "bios": architecture.bios,
    }
    return Context.of(values)


def _spec(source: Source) -> Spec:
    """Return the spec; of a bare source, without the appliance's additions.

    A bare tree starts on any machine and asks for nothing.
    """
    spec = source.appliance.spec
    if not source.bare:
        return spec
    kept = (
        "schema_",
        "name",
        "version",
        "summary",
        "category",
        "base",
        "kernel",
        "resources",
        "formats",
        "keep",
    )
    defaults = {
        name: field.get_default() for name, field in Spec.model_fields.items() if name not in kept
    }
    return spec.model_copy(update={**defaults, "interfaces": spec.interfaces[:1]})


def _services(spec: Spec) -> Services:
    """Return the spec's services, with its timers."""
    timers = tuple(f"{timer.name}.timer" for timer in spec.timers)
    return spec.services.model_copy(update={"enable": (*spec.services.enable, *timers)})


def _mountpoints(spec: Spec) -> list[str]:
    """Return the mount points of separate file systems."""
    return [
        *(["/state"] if spec.root.mode == "read-only" else []),
        *(volume.path for volume in spec.volumes),
    ]


def _state(spec: Spec) -> list[str]:
    """Return the folders of a read-only root whose changes go into its state.

    These are the folders that an instance changes, except volumes.
    """
    volumes = {volume.path for volume in spec.volumes}
    return [
        name
        for name in ("etc", "home", "root", "srv", "var")
        if spec.root.mode == "read-only" and f"/{name}" not in volumes
    ]


def _exposures(services: Services) -> dict[str, int]:
    """Return the highest allowed exposure of each enabled service with a limit below 100.

    A timer, a path or a socket counts as the service it starts.
    """
    allowed = {name: services.exposure for name in services.enable} | {
        item.service: item.exposure for item in services.exposed
    }
    starts = re.compile(r"\.(service|timer|path|socket)$")
    return {
        f"{starts.sub('', name)}.service": level for name, level in allowed.items() if level < 100
    }


def _digest(packages: tuple[LockedPackage, ...]) -> str:
    return hashlib.sha256("".join(package.sha256 for package in packages).encode()).hexdigest()


def package_lines(packages: tuple[LockedPackage, ...]) -> bytes:
    """Return dpkg-query's lines for these packages once they are installed."""
    return "".join(
        f"{package.name} {package.version} {package.architecture} installed\n"
        for package in packages
    ).encode()


def dpkg_configuration(appliance: Appliance) -> str:
    """Return the dpkg configuration that leaves files of packages out (dpkg.cfg(5)).

    The image itself keeps it too.
    """
    left_out = [
        pattern
        for kind, patterns in _DOCUMENTATION.items()
        if kind not in appliance.spec.keep
        for pattern in patterns
    ]
    left_out += appliance.base.left_out
    lines = [f"path-exclude={pattern}" for pattern in left_out]
    if "/usr/share/doc/*" in left_out:
        lines += ["path-include=/usr/share/doc/*/copyright"]
    return "".join(f"{line}\n" for line in lines)


def _rendered(item: SourceFile, text: str | None) -> RenderedFile:
    """Return a folder's file as it goes into the tree; ``text`` is a template's rendered text."""
    if item.link is not None:
        return RenderedFile(link=item.link)
    if text is not None:
        return RenderedFile(content=text.encode(), mode=item.mode)
    return RenderedFile.copied(partial(open_content, item.path, depth=item.depth), mode=item.mode)


def tree_files(source: Source) -> dict[str, RenderedFile]:
    """Return ``files/``, to lay over the root, and ``setup/``, the scripts to run then.

    The files are the guest's own, the base's, the mix-ins' and the appliance's, in this order.
    """
    spec = _spec(source)
    files = _files_of_folders(source, spec)
    if not source.bare:
        files |= _scripts(source.appliance)
    _require_apart(source.appliance.name, spec.downloads, files)
    files |= _fetched(source, spec)
    for target, text in _made(source, spec).items():
        files.setdefault(f"files{target}", RenderedFile(content=text.encode()))
    if spec.locale != "C.UTF-8":
        files.setdefault("files/etc/default/locale", RenderedFile(link="../locale.conf"))
    if spec.timezone:
        zone = RenderedFile(link=f"/usr/share/zoneinfo/{spec.timezone}")
        files.setdefault("files/etc/localtime", zone)
    return files


def _files_of_folders(source: Source, spec: Spec) -> dict[str, RenderedFile]:
    """Return the files of the guest, the base, the mix-ins and the appliance."""
    appliance = source.appliance
    values = template_context(spec, appliance.base)
    files: dict[str, RenderedFile] = {}
    guest = source.guest
    if spec.root.mode == "read-only":
        guest = (*guest, *guest_files(source.templates / "guest/read-only"))
    for item in guest:
        text = render(item.path, values) if item.template and item.link is None else None
        files[f"files{item.target}"] = _rendered(item, text)
    for item in (*appliance.base.files, *(() if source.bare else appliance.files)):
        text = None
        if item.template and item.link is None:
            # Slipway's own templates are above; one of an appliance is a stranger's.
            content = read_content(item.path, depth=item.depth)
            text = box().render(content, values, shown=item.path)
        files[f"files{item.target}"] = _rendered(item, text)
    return files


def _scripts(appliance: Appliance) -> dict[str, RenderedFile]:
    """Return the setup scripts, and the scripts of first boot."""
    paths = {f"setup/{path.name}": path for path in appliance.setup} | {
        f"files/usr/lib/slipway/firstboot.d/{path.name}": path for path in appliance.firstboot
    }
    return {
        name: RenderedFile(content=read_content(path), mode=0o755) for name, path in paths.items()
    }


def _require_apart(name: str, downloads: Sequence[Download], files: Collection[str]) -> None:
    """Refuse a download in the place of a file.

    Raises:
        UsageError: A download and a file have the same path.
    """
    for download in downloads:
        if f"files{download.path}" in files:
            raise UsageError(
                f"{name} has {download.path} twice: in files/ and in downloads",
                hint="remove one of the two",
            )


def _fetched(source: Source, spec: Spec) -> dict[str, RenderedFile]:
    """Return the lists for :func:`place_downloads`: downloads, and packages of PyPI."""
    files = {}
    if spec.downloads:
        sums = "".join(f"{file.sha256}  files{file.path}\n" for file in spec.downloads)
        files["downloads"] = RenderedFile(content=sums.encode())
    if spec.pypi:
        wheels = "".join(f"{wheel.sha256}  {wheel.file}\n" for wheel in source.lock.wheels)
        files["wheels"] = RenderedFile(
            content=f"installer {installer_version()}\n{wheels}".encode()
        )
    return files


def _made(source: Source, spec: Spec) -> dict[str, str]:
    """Return the files made from the spec, by path; a folder's file takes precedence."""
    appliance = source.appliance
    definitions = [parameter.model_dump(mode="json") for parameter in spec.parameters]
    made = {
        "/usr/lib/slipway/accepted.py": Path(rules.__file__).read_text(encoding="utf-8"),
        "/usr/lib/slipway/parameters.json": json.dumps(definitions, indent=1) + "\n",
        "/etc/hostname": f"{appliance.name}\n",
        "/usr/lib/slipway/image-name": f"{appliance.name}\n",
        "/etc/fstab": render(source.templates / "disk/fstab.j2", context(source)),
        "/etc/apt/sources.list.d/debian.sources": sources(appliance.base, source.image_mirrors),
    }
    made |= dict(service_drop_in(service) for service in _services(spec).enable)
    if spec.root.mode == "read-only":
        # For updates to compare. Only here is the tree the version; elsewhere a new number builds
        # nothing again.
        made["/usr/lib/slipway/appliance"] = (
            f"NAME={appliance.name}\nVERSION={spec.version}\n"
            f"ARCHITECTURE={source.lock.architecture}\n"
        )
        made["/usr/lib/slipway/state"] = "".join(f"{name}\n" for name in _state(spec))
    made |= {
        f"/etc/apt/sources.list.d/{item.name}.sources": source_text(item, signed_by=item.signed_by)
        for item in spec.sources
    }
    return made | settings(spec)


def place_downloads(source: Source, folder: Path, workplace: Workplace) -> None:
    """Put the spec's downloads and its packages of PyPI beside the files of a written tree.

    Raises:
        BuildError: A download failed, or differs from the spec.
        UsageError: A download would go below a link.
    """
    for item in _spec(source).downloads:
        file = workplace.pool.fetch_file(item.url, item.sha256, workplace.logs / "fetch.log")
        with (
            file.open("rb") as content,
            create(folder, f"files{item.path}", mode=0o755 if item.executable else 0o644) as target,
        ):
            shutil.copyfileobj(content, target)
    if _spec(source).pypi:
        install_wheels(source.lock, workplace.pool, folder / "files")


def read_secrets(source: Source) -> dict[str, str]:
    """Return the spec's secrets, from the environment variables SLIPWAY_SECRET_<NAME>.

    The prefix is the builder's consent to give an appliance the secret. The name alone is the
    folder's choice, and could be that of a cloud's key.

    Raises:
        UsageError: A secret is missing, or too short to be told from other text.
    """
    names = _spec(source).secrets
    found = {name: os.environ.get(f"SLIPWAY_SECRET_{name}") for name in names}
    missing = [name for name, value in found.items() if value is None]
    if missing:
        hint = f"its setup scripts are given them: export SLIPWAY_SECRET_{missing[0]}=..."
        raise UsageError(
            f"{source.appliance.name} is built with secrets missing from the environment: "
            f"{', '.join(missing)}",
            hint=hint,
        )
    secrets = {name: value for name, value in found.items() if value is not None}
    for name, value in secrets.items():
        if len(value) < _SECRET_CHARACTERS:
            message = f"the secret {name} is shorter than {_SECRET_CHARACTERS} characters"
            raise UsageError(
                message, hint="it could not be told from other text, where it must not be"
            )
    return secrets


def require_clock(source: Source) -> None:
    """Refuse to build before the latest time of an image's files.

    Files made with an earlier clock would keep their own times.

    Raises:
        HostError: This machine's clock is before the newest locked package.
    """
    now, epoch = (
        datetime.fromtimestamp(seconds, UTC)
        for seconds in (time.time(), source.lock.source_date_epoch)
    )
    if now <= epoch:
        message = (
            f"this machine's clock says {now:%Y-%m-%d %H:%M} UTC, and the lock has a package of "
            f"{epoch:%Y-%m-%d %H:%M}"
        )
        raise HostError(message, hint="set the clock: sudo timedatectl set-ntp true")


@contextmanager
def workspace(workplace: Workplace, memory_mib: int) -> Iterator[Namespace]:
    """Keep a namespace with its own network to work in: in memory, or on disk if that is too
    small.
    """
    with ExitStack() as stack:
        directory = None
        # The size of setup scripts' output is unknown before. They may use all memory but a reserve
        # for this machine.
        room = workplace.memory_mib or available_memory_mib() * 3 // 4
        if memory_mib > room:
            workplace.progress.note(
                "memory",
                f"{memory_mib} MiB wanted, {room} to be had: working on disk "
                "instead, which is slower",
            )
            directory = stack.enter_context(workplace.cache.scratch())
        yield stack.enter_context(
            Namespace(network=True, memory_mib=max(memory_mib, room), directory=directory)
        )
