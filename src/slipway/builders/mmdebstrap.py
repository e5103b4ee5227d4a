"""The default builder: locked packages -> base tree -> overlays -> raw disk, in a private namespace, without a network.

Every stage is a rendered script, ``<part>/build.sh``, that runs in a :class:`~slipway.namespace.Namespace`. A tree
stage's result is the overlay layer it made, kept in the cache as ``layer.tar.zst``; it is written while the next stage
runs. Cached layers are unpacked only when a later stage is missing.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from slipway import __file__ as package_file
from slipway.builders import Part, Source, Workplace
from slipway.disk.identity import disk_identity
from slipway.errors import BuildError, HostError
from slipway.namespace import MOUNT, Namespace, available_memory_mib
from slipway.packages.lock import LockedPackage
from slipway.packages.mirror import sources
from slipway.plan import Plan, Stage
from slipway.progress import size
from slipway.render import Rendered, RenderedFile
from slipway.spec.library import Appliance, template_context
from slipway.templating import render

__all__ = ["Mmdebstrap"]

_LAYERS = MOUNT / "layers"
_DISK = MOUNT / "disk.raw"
#: What the layers of a tree become when they are unpacked, as a multiple of the sum of the .deb files.
_EXPANSION = 4
_AFTER_FIRST_BOOT = """\
# This starts only when first boot has succeeded.
[Unit]
Requires=slipway-firstboot.service
After=slipway-firstboot.service
"""
_DOCUMENTATION = {
    "docs": ("/usr/share/doc/*", "/usr/share/info/*", "/usr/share/lintian/*"),
    "man": ("/usr/share/man/*",),
    "locales": ("/usr/share/locale/*", "/usr/share/i18n/*"),
}


class Mmdebstrap:
    """See the module's description."""

    name = "mmdebstrap"

    def parts(self, source: Source) -> tuple[Part, ...]:
        """base, packages (if the appliance adds any), tree, disk."""
        code = ("builders/mmdebstrap.py",)
        packages = (Part(kind="packages", reads=("chroot.sh", "packages"), code=code),) if source.lock.packages else ()
        return (
            Part(kind="base", reads=("chroot.sh", "base"), tools=("mmdebstrap",), code=code),
            *packages,
            Part(kind="tree", reads=("chroot.sh", "tree"), code=(*code, "disk/hygiene.py")),
            Part(
                kind="disk",
                reads=("disk",),
                tools=("mke2fs", "mkfs.vfat", "mcopy", "sfdisk", "python:zstandard"),
                code=(*code, "disk/ext4.py", "formats/raw.py"),
            ),
        )

    def render(self, source: Source) -> Rendered:
        """The scripts, and everything they read, by part."""
        appliance, lock = source.appliance, source.lock
        context = _context(source)
        templates = source.templates
        files = {"chroot.sh": RenderedFile(content=(templates / "mmdebstrap/chroot.sh").read_bytes(), mode=0o755)}

        def script(part: str, template: str) -> None:
            text = render(templates / template, context)
            files[f"{part}/build.sh"] = RenderedFile(content=text.encode(), mode=0o755)

        script("base", "mmdebstrap/base.sh.j2")
        base_lines = _package_lines(lock.base_packages)
        files["base/packages"] = RenderedFile(content=base_lines)
        files["base/dpkg.cfg"] = RenderedFile(content=_dpkg_configuration(appliance).encode())
        files["base/initramfs.conf"] = RenderedFile(content=b"MODULES=list\nCOMPRESS=zstd\n")
        files["base/modules"] = RenderedFile(content="".join(f"{name}\n" for name in appliance.base.initramfs_modules).encode())
        if lock.packages:
            script("packages", "mmdebstrap/packages.sh.j2")
            files["packages/packages"] = RenderedFile(content=base_lines + _package_lines(lock.packages))
        script("tree", "mmdebstrap/tree.sh.j2")
        files["tree/grub.cfg"] = RenderedFile(content=render(templates / "disk/grub.cfg.j2", context).encode())
        files |= _tree_files(source, render(templates / "disk/fstab.j2", context))
        script("disk", "disk/disk.sh.j2")
        for name in ("early.cfg", "layout.sfdisk"):
            files[f"disk/{name}"] = RenderedFile(content=render(templates / f"disk/{name}.j2", context).encode())
        files["disk/mke2fs.conf"] = RenderedFile(content=(templates / "disk/mke2fs.conf").read_bytes())
        return Rendered(files)

    def memory_mib(self, source: Source) -> int:
        """The tree and the disk, unpacked side by side."""
        download = sum(package.size for package in source.lock.all_packages)
        return max(1024, 2 * _EXPANSION * download // 2**20 + 512)

    @contextmanager
    def disk(self, plan: Plan, rendered: Rendered, source: Source, workplace: Workplace) -> Iterator[Path]:
        """Build what is missing; the disk lives in the namespace's memory until the block ends."""
        memory_mib = self.memory_mib(source)
        with ExitStack() as stack:
            directory = None
            if memory_mib > available_memory_mib() * 3 // 4:
                workplace.progress.note("memory", f"less than {memory_mib} MiB free: working on disk instead, which is slower")
                directory = stack.enter_context(workplace.cache.scratch())
            namespace = stack.enter_context(Namespace(network=True, memory_mib=memory_mib, directory=directory))
            job = _Job(namespace, plan, rendered, source, workplace)
            job.savers = stack.enter_context(ThreadPoolExecutor(1))
            job.fetch()
            for stage in plan.stages:
                if stage.kind in ("base", "packages", "tree"):
                    job.layer(stage)
            job.make_disk()
            if job.checking:
                job.checking.result()
            yield namespace.path(_DISK)
            for saving in job.saving:
                saving.result()


class _Job:
    """One build under way: the namespace it works in and what it knows."""

    def __init__(self, namespace: Namespace, plan: Plan, rendered: Rendered, source: Source, workplace: Workplace) -> None:
        self.namespace = namespace
        self.plan = plan
        self.rendered = rendered
        self.source = source
        self.workplace = workplace
        self.savers: ThreadPoolExecutor
        self.saving: list[Future[None]] = []
        self.checking: Future[None] | None = None
        self.overlay = _overlay_option(namespace.path(MOUNT))
        rendered.write(namespace.path(MOUNT / "render"))
        namespace.run(["mkdir", "-p", _LAYERS])

    def fetch(self) -> None:
        """Have all the packages in the pool that the missing layers are made from, by one download."""
        wanted = [
            package
            for stage in self.plan.stages
            if stage.kind in ("base", "packages") and not self.workplace.cache.find(stage.id)
            for package in self._packages(stage.kind)
        ]
        missing = self.workplace.pool.missing(wanted)
        if missing:
            with self.workplace.progress.step("fetch") as step:
                step.detail = f"{len(missing)} packages, {size(sum(package.size for package in missing))}"
                self.workplace.pool.fetch(missing, self.source.mirrors, self.workplace.logs / "fetch.log")

    def layer(self, stage: Stage) -> None:
        """Have a stage's layer in the namespace: from the cache, or made now and put there."""
        cache = self.workplace.cache
        with ExitStack() as stack:
            stack.enter_context(
                cache.locked(stage.id, lambda: self.workplace.progress.note(stage.kind, "waiting: another build is making it"))
            )
            entry = cache.verified(stage.id)
            if entry:
                with self.workplace.progress.step(stage.kind) as step:
                    step.detail = "from the cache"
                    self._unpack(entry.file("layer.tar.zst"), stage.kind)
                return
            with self.workplace.progress.step(stage.kind) as step:
                if stage.kind in ("base", "packages"):
                    self._repository(stage.kind)
                self._script(stage.kind)
                step.detail = f"made, {self._count(stage.kind)}"
            # The lock is kept until the layer is in the cache, which happens while the next stage runs.
            held = stack.pop_all()

        if stage.kind == "tree":
            # It may go on while the disk is made, but nobody gets a layer or a disk that did not pass.
            self.checking = self.savers.submit(self._hygiene)

        def save() -> None:
            with held:
                if stage.kind == "tree" and self.checking:
                    self.checking.result()
                cache.add(stage.id, stage.kind, {"layer.tar.zst": lambda file: self._pack(stage.kind, file)})

        self.saving.append(self.savers.submit(save))

    def make_disk(self) -> None:
        """Run the disk's script and make the times in its file system repeatable."""
        from slipway.disk.ext4 import normalise_times

        with self.workplace.progress.step("disk") as step:
            self._script("disk")
            disk = self.namespace.path(_DISK)
            normalise_times(disk, offset=135168 * 512, epoch=self.source.lock.source_date_epoch)
            step.detail = f"made, {disk.stat().st_size // 2**20} MiB, {disk.stat().st_blocks // 2048} MiB used"

    def _script(self, part: str) -> None:
        log = self.workplace.logs / f"{part}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.unlink(missing_ok=True)
        self.namespace.run(
            ["sh", "-c", 'cd "$1" && exec sh -eu build.sh', "sh", MOUNT / "render" / part],
            what=f"stage {part}",
            env={"SLIPWAY_OVERLAY": self.overlay},
            log=log,
        )

    def _packages(self, part: str) -> tuple[LockedPackage, ...]:
        return self.source.lock.base_packages if part == "base" else self.source.lock.packages

    def _repository(self, part: str) -> None:
        """Put a flat repository of the part's locked packages where its script looks for it."""
        packages = self._packages(part)
        pool = self.workplace.pool
        pool.fetch(packages, self.source.mirrors, self.workplace.logs / "fetch.log")
        directory = self.namespace.path(MOUNT / "repositories" / part)
        pool.repository(packages, directory, suite=self.source.appliance.base.release)

    def _hygiene(self) -> None:
        """Look for identities, secrets and traces in the finished tree.

        Raises:
            BuildError: There are some; all are named.
        """
        layers = ":".join(str(_LAYERS / stage.kind) for stage in reversed(self.plan.stages) if stage.kind in ("base", "packages", "tree"))
        mounted = MOUNT / "hygiene"
        self.namespace.run(["mkdir", "-p", mounted])
        self.namespace.run(
            ["mount", "-t", "overlay", "slipway", mounted, "-o", f"ro,lowerdir={layers}{self.overlay and ',' + self.overlay}"]
        )
        # The program needs nothing but the standard library; it runs inside, where every file can be read.
        here = Path(package_file).parent
        answer = self.namespace.run([sys.executable, "-I", here / "disk/hygiene.py", mounted], what="hygiene check", check=False)
        self.namespace.run(["umount", mounted])
        try:
            findings = json.loads(answer.stdout)
        except ValueError:
            raise BuildError("the hygiene check ended without a report", hint="this is a bug in slipway") from None
        if findings:
            lines = "\n".join(f"  {found['path']}: {found['detail']} ({found['rule']})" for found in findings)
            raise BuildError(
                f"the tree of {self.source.appliance.name} holds what no image may hold:\n{lines}",
                hint="remove it in a setup script, or make it on first boot",
            )

    def _count(self, part: str) -> str:
        lock = self.source.lock
        return {
            "base": f"{len(lock.base_packages)} packages",
            "packages": f"{len(lock.packages)} packages",
            "tree": f"{sum(path.startswith('tree/files/') for path in self.rendered.files)} files",
        }[part]

    def _pack(self, part: str, file: IO[bytes]) -> None:
        command = 'tar -C "$1" --sort=name --numeric-owner --xattrs --xattrs-include="*" -c . | zstd -q -T0 -1'
        self.namespace.run(["sh", "-c", command, "sh", _LAYERS / part], what=f"packing the layer {part}", stdout=file)

    def _unpack(self, layer: Path, part: str) -> None:
        command = 'mkdir -p "$1" && zstd -dcq | tar -C "$1" --numeric-owner --xattrs --xattrs-include="*" -xp'
        with layer.open("rb") as file:
            self.namespace.run(["sh", "-c", command, "sh", _LAYERS / part], what=f"unpacking the layer {part}", stdin=file)


def _overlay_option(directory: Path) -> str:
    """How overlayfs keeps its marks: in user attributes, which everybody may write, so that layers made as root and
    without it are the same; where the file system has none (tmpfs before Linux 6.6), as only root can.

    Raises:
        HostError: Neither can be done.
    """
    try:
        os.setxattr(directory, "user.slipway", b"")
        os.removexattr(directory, "user.slipway")
    except OSError:
        if os.geteuid():
            raise HostError("without root, overlays on tmpfs need Linux 6.6 or newer", hint="run as root") from None
        return ""
    return "userxattr"


def _context(source: Source) -> dict[str, Any]:
    """What the templates of this builder may use."""
    appliance, lock = source.appliance, source.lock
    architecture = appliance.base.architectures[lock.architecture]
    layers = [f"{_LAYERS}/{kind}" for kind in ("packages", "base") if kind != "packages" or lock.packages]
    return {
        "spec": appliance.spec,
        "base": appliance.base,
        "lock": lock,
        "parameters": appliance.spec.parameters,
        "architecture": lock.architecture,
        "epoch": lock.source_date_epoch,
        "disk": disk_identity(f"{appliance.name} {_digest(lock.base_packages)} {_digest(lock.packages)}"),
        "parents": layers,
        "layers": [f"{_LAYERS}/tree", *layers],
        "setup": [f"setup/{path.name}" for path in appliance.setup],
        "root_partition_type": architecture.root_partition_type,
        "efi_files": architecture.efi_files,
        "bios": architecture.bios,
    }


def _digest(packages: tuple[LockedPackage, ...]) -> str:
    return hashlib.sha256("".join(package.sha256 for package in packages).encode()).hexdigest()


def _package_lines(packages: tuple[LockedPackage, ...]) -> bytes:
    """What dpkg-query says of them once they are installed."""
    return "".join(f"{package.name} {package.version} {package.architecture} installed\n" for package in packages).encode()


def _dpkg_configuration(appliance: Appliance) -> str:
    """Which files of packages are left out, in the image's own dpkg configuration too (dpkg.cfg(5))."""
    left_out = [pattern for kind, patterns in _DOCUMENTATION.items() if kind not in appliance.spec.keep for pattern in patterns]
    left_out += appliance.base.left_out
    lines = [f"path-exclude={pattern}" for pattern in left_out]
    if "/usr/share/doc/*" in left_out:
        lines += ["path-include=/usr/share/doc/*/copyright"]
    return "".join(f"{line}\n" for line in lines)


def _tree_files(source: Source, fstab: str) -> dict[str, RenderedFile]:
    """The files that go over the root: the guest's own, the base's, the mix-ins' and the appliance's, in this order."""
    appliance = source.appliance
    context = template_context(appliance.spec, appliance.base)
    files: dict[str, RenderedFile] = {}
    for item in (*source.guest, *appliance.base.files, *appliance.files):
        if item.link is not None:
            rendered = RenderedFile(link=item.link)
        elif item.template:
            rendered = RenderedFile(content=render(item.path, context).encode(), mode=item.mode)
        else:
            rendered = RenderedFile(content=item.path.read_bytes(), mode=item.mode)
        files[f"tree/files{item.target}"] = rendered
    for path in appliance.setup:
        files[f"tree/setup/{path.name}"] = RenderedFile(content=path.read_bytes(), mode=0o755)
    for path in appliance.firstboot:
        files[f"tree/files/usr/lib/slipway/firstboot.d/{path.name}"] = RenderedFile(content=path.read_bytes(), mode=0o755)
    definitions = [parameter.model_dump(mode="json") for parameter in appliance.spec.parameters]
    made = {
        "/usr/lib/slipway/parameters.json": json.dumps(definitions, indent=1) + "\n",
        "/etc/hostname": f"{appliance.name}\n",
        "/etc/fstab": fstab,
        "/etc/apt/sources.list.d/debian.sources": sources(appliance.base, source.mirrors),
    }
    for service in appliance.spec.services.enable:
        unit = service if "." in service else f"{service}.service"
        made[f"/etc/systemd/system/{unit}.d/10-slipway.conf"] = _AFTER_FIRST_BOOT
    for target, text in made.items():
        files.setdefault(f"tree/files{target}", RenderedFile(content=text.encode()))
    return files
