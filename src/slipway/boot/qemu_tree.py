"""Make a QEMU beside the host's from locked packages, and open it for machines to run in.

What goes in: a lock. What comes out: an archive in the cache, and the command to run its QEMU.

The tree is the files of packages: no script of a package runs. Its program runs by the tree's own
dynamic linker and libraries (ld.so(8)). So it sees the host's files by their own paths, as the
host's QEMU would.

Invariants: the program loads only libraries of the tree. The tree is in memory, and gone with its
namespace. Firmware for UEFI stays the host's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from slipway.boot.emulator import tree_version
from slipway.builders import Part, Workplace
from slipway.builders._layers import pack
from slipway.builders._tree import workspace
from slipway.cache import Entry, sha256_of
from slipway.host import process
from slipway.host.namespace import MOUNT, Namespace
from slipway.packages.lock import read_lock
from slipway.packages.locked import Lock
from slipway.plan import Stage
from slipway.terminal.progress import size

__all__ = ["PART", "lock_path", "make_tree", "open_tree", "tree_lock"]

TREE: Final = MOUNT / "qemu"
_SCRIPT: Final = Path(__file__).with_name("qemu_tree.sh")
PART: Final = Part(
    kind="qemu",
    reads=(),
    tools=("dpkg-deb",),
    code=("boot/qemu_tree.py", "builders/_layers.py"),
    more={"qemu_tree.sh": sha256_of(_SCRIPT)},
)
_ARCHIVE: Final = "tree.tar.zst"
_MIB: Final = 2**20
#: The folder of a Debian architecture's libraries, and the name of its dynamic linker.
_LINKERS: Final[Mapping[str, tuple[str, str]]] = {
    "amd64": ("x86_64-linux-gnu", "ld-linux-x86-64.so.2"),
    "arm64": ("aarch64-linux-gnu", "ld-linux-aarch64.so.1"),
}
#: Unpacks the archive on standard input into a file system of its own, with the options $1. It then
#: hides two settings of the host, because QEMU would load the host's modules and libraries for
#: them: nsswitch.conf(5) for names of users, and the preload list of ld.so(8).
_OPEN: Final = """\
mount -t tmpfs -o "$1" qemu "${2%/*}"
mkdir "$2"
tar -C "$2" --use-compress-program="zstd -q" --numeric-owner -xpf -
printf 'passwd: files\ngroup: files\nhosts: files dns\n' >"$2/nsswitch.conf"
: >"$2/none"
[ ! -e /etc/nsswitch.conf ] || mount --bind "$2/nsswitch.conf" /etc/nsswitch.conf
[ ! -e /etc/ld.so.preload ] || mount --bind "$2/none" /etc/ld.so.preload
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Places:
    """The program's libraries and dynamic linker in the tree, for a host's architecture."""

    libraries: Path
    linker: Path

    @classmethod
    def of(cls, architecture: str) -> _Places:
        triplet, linker = _LINKERS[architecture]
        libraries = TREE / "usr/lib" / triplet
        return cls(libraries=libraries, linker=libraries / linker)


def lock_path(folder: Path, system: str, architecture: str) -> Path:
    """Return the path of the lock for an emulated processor and a host's architecture."""
    return folder / system / f"lock.{architecture}.json"


def tree_lock(folder: Path, system: str, architecture: str) -> Lock | None:
    """Read the lock for an emulated processor and a host's architecture; None if there is none.

    Raises:
        SpecErrors: The lock is malformed, for example after an edit by hand.
    """
    path = lock_path(folder, system, architecture)
    return read_lock(path) if architecture in _LINKERS and path.exists() else None


def make_tree(
    stage: Stage, lock: Lock, system: str, mirrors: Mapping[str, str], workplace: Workplace
) -> Entry:
    """Return the tree's archive in the cache, after making it if it is missing.

    Raises:
        BuildError: A package's locked version is not available, or the program would load a file
            from outside the tree.
    """
    cache, progress = workplace.cache, workplace.progress
    with cache.locked(
        stage.id, partial(progress.note, stage.kind, "waiting: another build is making it")
    ):
        entry = cache.verified(stage.id)
        if entry:
            return entry
        memory_mib = 256 + 10 * sum(package.size for package in lock.packages) // _MIB
        with progress.step(stage.kind) as step, workspace(workplace, memory_mib) as namespace:
            step.detail = (
                f"QEMU {tree_version(lock)} is made once, from {len(lock.packages)} packages: "
                "it emulates faster"
            )
            namespace.seal()
            workplace.pool.fetch(lock.packages, mirrors, workplace.logs / "fetch.log")
            packages = MOUNT / "repositories/qemu"
            workplace.pool.repository(lock.packages, namespace.path(packages))
            unpacked_mib = _unpack(namespace, packages, lock.architecture, system)
            step.detail = f"made, QEMU {tree_version(lock)}, {size(unpacked_mib * _MIB)}"
            write = partial(pack, namespace, TREE, what="packing QEMU")
            return cache.add(
                stage.id,
                stage.kind,
                {_ARCHIVE: write},
                {"unpacked_mib": unpacked_mib, "architecture": lock.architecture},
            )


def _unpack(namespace: Namespace, packages: Path, architecture: str, system: str) -> int:
    """Make the tree from a folder of packages; return its size in MiB."""
    places = _Places.of(architecture)
    words: list[str | Path] = [
        packages,
        TREE,
        places.libraries.name,
        f"qemu-system-{system}",
        places.linker.name,
    ]
    done = namespace.run(["sh", _SCRIPT, *words], what="making QEMU's tree")
    return int(done.stdout)


def open_tree(entry: Entry, system: str, enter: Sequence[str]) -> tuple[str, ...]:
    """Unpack the tree in a namespace, over its :data:`MOUNT`.

    Args:
        enter: The words before a command to run it there, as a user with the right to mount.

    Returns:
        The words to run QEMU there; its options go after them.
    """
    places = _Places.of(str(entry.facts["architecture"]))
    options = f"size={int(entry.facts['unpacked_mib']) + 64}m,mode=755,nosuid,nodev"
    with entry.file(_ARCHIVE).open("rb") as archive:
        process.run(
            [*enter, "sh", "-euc", _OPEN, "sh", options, TREE], what="unpacking QEMU", stdin=archive
        )
    data = [word for name in ("qemu", "seabios") for word in ("-L", f"{TREE}/usr/share/{name}")]
    linked = [
        places.linker,
        "--inhibit-cache",
        "--library-path",
        places.libraries,
        TREE / "usr/bin" / f"qemu-system-{system}",
    ]
    return ("env", f"QEMU_MODULE_DIR={places.libraries}/qemu", *map(str, linked), *data)
