"""Build by default from locked packages, in a private namespace without a network.

The flow is base tree, then overlays, then the raw disk.

Every stage is a rendered script, ``<part>/build.sh``, run in a
:class:`~slipway.host.namespace.Namespace`. A tree stage's result is its overlay layer, kept in the
cache as ``layer.tar.zst``; it is written while the next stage runs. Cached layers are unpacked only
when a later stage is missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from slipway.builders import Part, Source, Workplace, require_targets
from slipway.builders._broken import broken_tree
from slipway.builders._hygiene import HYGIENE_CODE, check_hygiene
from slipway.builders._known import require_known
from slipway.builders._layers import clean, overlay_option, pack, unpack
from slipway.builders._tree import (
    BOX_FILES,
    PACKAGE_CODE,
    TREE_CODE,
    box_files,
    context,
    dpkg_configuration,
    package_lines,
    place_downloads,
    read_secrets,
    require_clock,
    run_stage,
    tree_files,
    workspace,
)
from slipway.errors import BuildError
from slipway.host.namespace import MOUNT, Namespace, overlay_marks
from slipway.packages.lock import LockedPackage
from slipway.plan import Plan, Stage
from slipway.rendering.plain import Context
from slipway.rendering.render import Rendered, RenderedFile
from slipway.rendering.templating import render

__all__ = ["Mmdebstrap"]

_LAYERS = MOUNT / "layers"
_DISK = MOUNT / "disk.raw"
_SHARED = tuple(BOX_FILES)
#: The code of every stage, and of stages that install packages.
_CODE = ("builders/mmdebstrap.py", *TREE_CODE)
_INSTALLING = (*_CODE, *PACKAGE_CODE)
#: The size of a tree's unpacked layers, as a multiple of the sum of the .deb files.
_EXPANSION = 6


class Mmdebstrap:
    """See the module's description."""

    name = "mmdebstrap"
    targets = ()

    def parts(self, source: Source) -> tuple[Part, ...]:
        """Return base, packages (if the appliance adds any), tree and disk."""
        read_only = not source.bare and source.appliance.spec.root.mode == "read-only"
        marks = {"overlay": overlay_marks()}
        packages = Part(
            kind="packages",
            reads=(*_SHARED, "packages"),
            code=_INSTALLING,
            packages=source.packages,
            more=marks,
        )
        installer = (
            ("packages/wheels.py",) if not source.bare and source.appliance.spec.pypi else ()
        )
        return (
            Part(
                kind="base",
                reads=(*_SHARED, "base"),
                tools=("apt-get", "dpkg-deb", "mmdebstrap"),
                code=_INSTALLING,
                packages=source.lock.base_packages,
            ),
            *((packages,) if source.packages else ()),
            Part(
                kind="tree",
                reads=(*_SHARED, "tree"),
                code=(*_CODE, *HYGIENE_CODE, *installer),
                more=marks,
            ),
            Part(
                kind="disk",
                reads=(*_SHARED, "disk"),
                tools=(
                    "mke2fs",
                    "mkfs.vfat",
                    "mcopy",
                    "sfdisk",
                    *(["mksquashfs"] if read_only else []),
                ),
                code=(*_CODE, "disk/ext4.py", "disk/gpt.py"),
            ),
        )

    def render(self, source: Source, targets: Sequence[str] = ()) -> Rendered:
        """Return the scripts and their input files, by part."""
        require_targets(self.name, self.targets, targets)
        appliance, lock = source.appliance, source.lock
        layers = [
            str(_LAYERS / kind)
            for kind in ("packages", "base")
            if kind != "packages" or source.packages
        ]
        values = Context(
            {**context(source), "parents": layers, "layers": [str(_LAYERS / "tree"), *layers]}
        )
        templates = source.templates
        files = box_files(templates)

        def script(part: str, template: str, name: str = "build.sh") -> None:
            text = render(templates / template, values)
            files[f"{part}/{name}"] = RenderedFile(content=text.encode(), mode=0o755)

        script("base", "mmdebstrap/base.sh.j2")
        script("base", "mmdebstrap/base.inside.sh.j2", "inside.sh")
        base_lines = package_lines(lock.base_packages)
        files["base/packages"] = RenderedFile(content=base_lines)
        files["base/dpkg.cfg"] = RenderedFile(content=dpkg_configuration(appliance).encode())
        files["base/initramfs.conf"] = RenderedFile(content=b"MODULES=list\nCOMPRESS=zstd\n")
        files["base/modules"] = RenderedFile(
            content="".join(f"{name}\n" for name in appliance.base.initramfs_modules).encode()
        )
        if source.packages:
            script("packages", "mmdebstrap/packages.sh.j2")
            script("packages", "mmdebstrap/packages.inside.sh.j2", "inside.sh")
            files["packages/packages"] = RenderedFile(
                content=base_lines + package_lines(source.packages)
            )
        script("tree", "mmdebstrap/tree.sh.j2")
        script("tree", "mmdebstrap/tree.inside.sh.j2", "inside.sh")
        files["tree/finish.sh"] = RenderedFile(
            content=(templates / "mmdebstrap/tree.finish.sh").read_bytes(), mode=0o755
        )
        files["tree/mirrors.sh"] = RenderedFile(
            content=(templates / "mmdebstrap/mirrors.sh").read_bytes(), mode=0o755
        )
        files["tree/grub.cfg"] = RenderedFile(
            content=render(templates / "disk/grub.cfg.j2", values).encode()
        )
        files |= {f"tree/{path}": file for path, file in tree_files(source).items()}
        script("disk", "disk/disk.sh.j2")
        for name in ("early.cfg", "layout.sfdisk", *(["slots.cfg"] if values["read_only"] else [])):
            files[f"disk/{name}"] = RenderedFile(
                content=render(templates / f"disk/{name}.j2", values).encode()
            )
        files["disk/mke2fs.conf"] = RenderedFile(
            content=(templates / "disk/mke2fs.conf").read_bytes()
        )
        return Rendered(files)

    def complete(
        self,
        directory: Path,
        plan: Plan,
        rendered: Rendered,
        source: Source,
        workplace: Workplace,
        targets: Sequence[str] = (),
    ) -> None:
        """Add nothing: the scripts need namespaces of this builder's own."""

    def memory_mib(self, source: Source) -> int:
        """Return the memory for the tree and the disk, unpacked side by side, in MiB.

        The appliance's own files are counted a third time, for their originals.
        """
        download = sum(package.size for package in (*source.lock.base_packages, *source.packages))
        own = () if source.bare else source.appliance.files
        files = sum(item.path.stat().st_size for item in own if item.link is None)
        return max(1024, 2 * _EXPANSION * download // 2**20 + 512) + 3 * files // 2**20

    @contextmanager
    def disk(
        self, plan: Plan, rendered: Rendered, source: Source, workplace: Workplace
    ) -> Iterator[Path]:
        """Build the missing stages; the disk lives in the namespace's memory until the block
        ends.
        """
        require_clock(source)
        made = any(
            stage.kind == "tree" and not workplace.cache.find(stage.id) for stage in plan.stages
        )
        secrets = read_secrets(source) if made else {}
        with (
            workspace(workplace, self.memory_mib(source)) as namespace,
            ThreadPoolExecutor(1) as savers,
        ):
            namespace.seal()
            job = _Job(namespace, plan, rendered, source, workplace, savers, secrets)
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


@dataclass(slots=True)
class _Job:
    """One build under way: its namespace and its inputs."""

    namespace: Namespace
    plan: Plan
    rendered: Rendered
    source: Source
    workplace: Workplace
    savers: ThreadPoolExecutor
    secrets: Mapping[str, str]
    saving: list[Future[None]] = field(default_factory=list)
    checking: Future[None] | None = None
    overlay: str = field(init=False)

    def __post_init__(self) -> None:
        self.overlay = overlay_option(self.namespace)
        self.rendered.write(self.namespace.path(MOUNT / "render"))
        self.namespace.run(["mkdir", "-p", _LAYERS])

    def fetch(self) -> None:
        """Fetch all packages for the missing layers into the pool, in one download."""
        wanted = [
            package
            for stage in self.plan.stages
            if stage.kind in ("base", "packages") and not self.workplace.cache.find(stage.id)
            for package in self._packages(stage.kind)
        ]
        missing = self.workplace.pool.missing(wanted)
        if missing:
            with self.workplace.progress.step("fetch") as step:
                log = self.workplace.logs / "fetch.log"
                self.workplace.pool.fetch(missing, self.source.mirrors, log, began=step.watch)
                step.detail = f"{len(missing)} packages, {step.transfer}"

    def layer(self, stage: Stage) -> None:
        """Put a stage's layer into the namespace: from the cache, or made now and cached."""
        cache = self.workplace.cache
        with ExitStack() as stack:
            stack.enter_context(
                cache.locked(
                    stage.id,
                    lambda: self.workplace.progress.note(
                        stage.kind, "waiting: another build is making it"
                    ),
                )
            )
            entry = cache.verified(stage.id)
            if entry:
                with self.workplace.progress.step(stage.kind) as step:
                    step.detail = "from the cache"
                    unpack(
                        self.namespace,
                        entry.file("layer.tar.zst"),
                        _LAYERS / stage.kind,
                        what=f"unpacking the layer {stage.kind}",
                    )
                return
            with self.workplace.progress.step(stage.kind) as step:
                if stage.kind in ("base", "packages"):
                    self._repository(stage.kind)
                else:
                    # Read now: the plan may have trusted a cached layer that was found damaged
                    # since.
                    self.secrets = read_secrets(self.source)
                    place_downloads(
                        self.source, self.namespace.path(MOUNT / "render/tree"), self.workplace
                    )
                    self._require_known()
                self._script(stage.kind)
                # The next stage continues from the same tree as a later build unpacks.
                clean(self.namespace, _LAYERS / stage.kind)
                step.detail = f"made, {self._count(stage.kind)}"
            # The lock is kept until the layer is in the cache. It gets there while the next stage
            # runs.
            held = stack.pop_all()

        if stage.kind == "tree":
            # The check may go on while the disk is made, but nobody gets a layer or a disk that
            # failed it.
            self.checking = self.savers.submit(self._hygiene)

        def save() -> None:
            with held:
                if stage.kind == "tree" and self.checking:
                    self.checking.result()
                cache.add(
                    stage.id,
                    stage.kind,
                    {"layer.tar.zst": lambda file: self._pack(stage.kind, file)},
                )

        self.saving.append(self.savers.submit(save))

    def make_disk(self) -> None:
        """Run the disk's script and make its file system repeatable."""
        from slipway.disk.ext4 import normalise
        from slipway.disk.gpt import partitions

        with self.workplace.progress.step("disk") as step:
            self._script("disk")
            disk = self.namespace.path(_DISK)
            # The last partition is the one with an ext4: the root, or the state of a read-only one.
            normalise(
                disk, offset=partitions(disk)[-1].offset, epoch=self.source.lock.source_date_epoch
            )
            step.detail = (
                f"made, {disk.stat().st_size // 2**20} MiB, {disk.stat().st_blocks // 2048} MiB "
                "used"
            )

    def _script(self, part: str) -> None:
        secrets = self.secrets if part == "tree" else {}
        try:
            run_stage(
                self.namespace,
                part,
                self.workplace.logs / f"{part}.log",
                overlay=self.overlay,
                secrets=secrets,
            )
        except BuildError as error:
            if part == "tree" and self.workplace.on_broken:
                self.workplace.on_broken(broken_tree(self.namespace, error))
            raise

    def _packages(self, part: str) -> tuple[LockedPackage, ...]:
        return self.source.lock.base_packages if part == "base" else self.source.packages

    def _repository(self, part: str) -> None:
        """Put a flat repository of the part's locked packages in the place its script expects."""
        packages = self._packages(part)
        pool = self.workplace.pool
        pool.fetch(packages, self.source.mirrors, self.workplace.logs / "fetch.log")
        directory = self.namespace.path(MOUNT / "repositories" / part)
        pool.repository(packages, directory, suite=self.source.appliance.base.release)

    def _hygiene(self) -> None:
        """Look for identities, secrets and traces in the finished tree.

        Raises:
            BuildError: There are findings; all are named.
        """
        with self._mounted("hygiene", ("tree", "packages", "base")) as tree:
            check_hygiene(self.namespace, tree, self.source.appliance.name, self.secrets.values())

    def _require_known(self) -> None:
        """Refuse names in the spec that are unknown to the image; see :func:`require_known`."""
        with self._mounted("known", ("packages", "base")) as tree:
            require_known(
                self.source,
                (self.namespace.path(MOUNT / "render/tree/files"), self.namespace.path(tree)),
            )

    @contextmanager
    def _mounted(self, name: str, kinds: Sequence[str]) -> Iterator[Path]:
        """Mount a read-only tree of those of these layers that are in the plan, the uppermost
        first.
        """
        planned = {stage.kind for stage in self.plan.stages}
        layers = ":".join(str(_LAYERS / kind) for kind in kinds if kind in planned)
        mounted = MOUNT / name
        self.namespace.run(["mkdir", "-p", mounted])
        # One layer alone is no overlay yet; an empty one makes two of it.
        empty = MOUNT / "empty"
        self.namespace.run(["mkdir", "-p", empty])
        self.namespace.run(
            [
                "mount",
                "-t",
                "overlay",
                "slipway",
                mounted,
                "-o",
                f"ro,lowerdir={empty}:{layers},{self.overlay}",
            ]
        )
        try:
            yield mounted
        finally:
            self.namespace.run(["umount", mounted])

    def _count(self, part: str) -> str:
        lock = self.source.lock
        return {
            "base": f"{len(lock.base_packages)} packages",
            "packages": f"{len(self.source.packages)} packages",
            "tree": f"{sum(path.startswith('tree/files/') for path in self.rendered.files)} files",
        }[part]

    def _pack(self, part: str, file: IO[bytes]) -> None:
        pack(self.namespace, _LAYERS / part, file, what=f"packing the layer {part}")
