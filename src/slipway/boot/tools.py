"""Make a tree of Debian programs for checks from outside; no image contains any of it.

What goes in: the lock's ``tools``, with all their dependencies. What comes out: a tar archive in
the cache. For checks it is unpacked at :data:`TREE`, to be entered with chroot(8) in the lab's
namespace and network.
"""

from __future__ import annotations

from functools import partial

from slipway.builders import Part, Source, Workplace
from slipway.builders._layers import clean, pack, unpack
from slipway.builders._tree import (
    BOX_FILES,
    PACKAGE_CODE,
    TREE_CODE,
    box_files,
    package_lines,
    run_stage,
    workspace,
)
from slipway.cache import Entry
from slipway.host.namespace import MOUNT, Namespace
from slipway.plan import Stage
from slipway.rendering.render import Rendered, RenderedFile
from slipway.rendering.templating import render

__all__ = ["PART", "TREE", "make_tools", "memory_mib", "open_tools", "render_tools"]

TREE = MOUNT / "tools"
PART = Part(
    kind="tools",
    reads=(*BOX_FILES, "tools"),
    tools=("apt-get", "dpkg-deb", "mmdebstrap"),
    code=("boot/tools.py", *TREE_CODE, *PACKAGE_CODE),
)
_ARCHIVE = "tree.tar.zst"
#: The tree's size, as a multiple of the sum of the .deb files.
_EXPANSION = 5
#: The mounts that programs expect.
_OPEN = """\
mount --rbind /dev "$1/dev"
mount -t proc proc "$1/proc"
mount -t sysfs -o ro sysfs "$1/sys"
mount -t tmpfs -o mode=1777 tmp "$1/tmp"
mount -t tmpfs run "$1/run"
"""


def render_tools(source: Source) -> Rendered:
    """Return the script to make the tree, and its input files."""
    lock, templates = source.lock, source.templates / "mmdebstrap"
    values = {
        "names": lock.tools_requested,
        "release": source.appliance.base.release,
        "epoch": lock.source_date_epoch,
        "tree": str(TREE),
    }
    return Rendered(
        {
            **box_files(source.templates),
            "tools/build.sh": RenderedFile(
                content=render(templates / "tools.sh.j2", values).encode(), mode=0o755
            ),
            "tools/inside.sh": RenderedFile(
                content=render(templates / "tools.inside.sh.j2", values).encode(), mode=0o755
            ),
            "tools/packages": RenderedFile(content=package_lines(lock.tools)),
        }
    )


def memory_mib(source: Source) -> int:
    """Return the memory for the tree, in MiB."""
    return 512 + _EXPANSION * sum(package.size for package in source.lock.tools) // 2**20


def make_tools(stage: Stage, source: Source, workplace: Workplace) -> Entry:
    """Return the tree's archive in the cache, after making it if it is missing."""
    cache, progress = workplace.cache, workplace.progress
    with cache.locked(
        stage.id, partial(progress.note, stage.kind, "waiting: another build is making it")
    ):
        entry = cache.verified(stage.id)
        if entry:
            return entry
        with (
            progress.step(stage.kind) as step,
            workspace(workplace, memory_mib(source)) as namespace,
        ):
            namespace.seal()
            render_tools(source).write(namespace.path(MOUNT / "render"))
            workplace.pool.fetch(source.lock.tools, source.mirrors, workplace.logs / "fetch.log")
            workplace.pool.repository(
                source.lock.tools,
                namespace.path(MOUNT / "repositories/tools"),
                suite=source.appliance.base.release,
            )
            run_stage(namespace, "tools", workplace.logs / "tools.log")
            step.detail = f"made, {len(source.lock.tools)} packages"
            clean(namespace, TREE)
            return cache.add(
                stage.id,
                stage.kind,
                {_ARCHIVE: lambda file: pack(namespace, TREE, file, what="packing the tools")},
            )


def open_tools(entry: Entry, namespace: Namespace) -> None:
    """Unpack the tree in the namespace of the checks."""
    unpack(namespace, entry.file(_ARCHIVE), TREE, what="unpacking the tools")
    namespace.run(["sh", "-euc", _OPEN, "sh", TREE], what="opening the tools")
