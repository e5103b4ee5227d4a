"""A private place to work in: mount, process, name and, if asked, network namespaces that vanish as
a whole.

Everything with privileges (chroots, overlays, bind mounts, taps) happens inside a
:class:`Namespace`. As root it unshares namespaces only. As any other user it also maps a user
namespace from the ranges in ``/etc/subuid``, so the trees inside have the right owners.

Invariants: a memory file system is mounted at :data:`MOUNT`, seen by nobody else. The namespace's
first process reads a pipe held by this process alone. When this process ends, even by SIGKILL, the
kernel ends every process in the namespace. Its mounts, files and network devices go with it.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self, Unpack

from slipway.errors import HostError
from slipway.host import process

__all__ = ["MOUNT", "Namespace", "available_memory_mib", "overlay_marks", "require_in_sight"]

#: Where the private file system is: a directory that every system has (FHS 3.0, 3.12).
MOUNT = Path("/mnt")
#: With a network of its own, a namespace has this folder for itself, too.
_RUN = Path("/run")

#: The first process: makes the namespace ready, says so, then waits for its standard input to end.
INIT = """\
set -eu
mount --make-rprivate /
mount -t tmpfs -o "$1" slipway /mnt
mount -t proc -o nosuid,nodev,noexec proc /proc
# By its system call: the file in /proc is the host's root's, whoever is root in here.
hostname localhost
if [ "$2" = network ]; then
    mount -t tmpfs -o mode=755,nosuid,nodev run /run
    ip link set lo up
fi
echo ready
exec 3<&0
# A shell that waits also reaps what lost its parent in here; unreaped, it would keep a namespace
# inside this one alive.
cat <&3 >/dev/null &
wait
"""

#: Makes every mount read-only but those named (mount_setattr(2): AT_RECURSIVE, struct mount_attr,
#: MOUNT_ATTR_RDONLY).
SEAL = """\
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
def change(path, put, take):
    attributes = struct.pack("=4Q", put, take, 0, 0)
    if libc.syscall(442, -100, path.encode(), 0x8000, attributes, len(attributes)):
        number = ctypes.get_errno()
        raise OSError(number, f"cannot make {path} read-only: {os.strerror(number)}")
change("/", 1, 0)
for path in sys.argv[1:]:
    change(path, 0, 1)
"""


def available_memory_mib(system: Path = Path("/")) -> int:
    """Return the usable memory without swapping, in MiB, bounded by control groups.

    Args:
        system: The root of the file system with /proc and /sys (MemAvailable of proc_meminfo(5),
            cgroups(7)).
    """
    available = 0
    for line in (system / "proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            available = int(line.split()[1]) * 1024
    return min([available, *_group_memory(system)]) // 2**20


def _group_memory(system: Path) -> Iterator[int]:
    """Yield the bytes left in each control group of this process.

    The pages of files that it can drop count as left. A container sees its own group as the root,
    but its path as the host's: missing groups are passed over.
    """
    with contextlib.suppress(OSError):
        for line in (system / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers not in ("", "memory"):
                continue
            below, limits, used = ("", ["memory.max", "memory.high"], "memory.current")
            if controllers:
                below, limits, used = ("memory", ["memory.limit_in_bytes"], "memory.usage_in_bytes")
            top = system / "sys/fs/cgroup" / below
            group = top / path.lstrip("/")
            for folder in dict.fromkeys((group, *group.parents, top)):
                if folder.is_relative_to(top):
                    for limit in limits:
                        yield from _left(folder, limit, used)


def _left(folder: Path, limit: str, used: str) -> Iterator[int]:
    """Yield the bytes left in one control group, if it has a limit."""
    with contextlib.suppress(OSError, ValueError):
        most = int((folder / limit).read_text())  # "max" is no number
        # The second count of version 1 is that of the groups in it too, as is the limit.
        droppable = re.findall(
            r"^(?:total_)?inactive_file ([0-9]+)$",
            (folder / "memory.stat").read_text(),
            re.MULTILINE,
        )
        yield max(0, most - int((folder / used).read_text()) + max(map(int, droppable), default=0))


def overlay_marks() -> str:
    """Return the kind of overlays' marks on this host: ``user`` or ``trusted`` attributes.

    Only root can write ``trusted`` ones; ``user`` ones need Linux 6.6 on tmpfs. The result depends
    on nothing but the kernel and the user, so it can be an input of ids. A layer with the other
    kind's marks would bring back removed files.
    """
    release = tuple(int(part) for part in re.findall(r"[0-9]+", os.uname().release)[:2])
    return "trusted" if os.geteuid() == 0 and release < (6, 6) else "user"


def require_in_sight(*paths: Path, network: bool = False) -> None:
    """Refuse paths in the places of a namespace's own files.

    Raises:
        HostError: A path is below such a place.
    """
    for hidden in (MOUNT, *([_RUN] if network else [])):
        for path in paths:
            if path.absolute().is_relative_to(hidden) or path.resolve().is_relative_to(
                hidden.resolve()
            ):
                hint = (
                    f"have it elsewhere, or show it elsewhere, too: mount --bind {hidden}/... "
                    "/srv/..."
                )
                raise HostError(
                    f"{path} is below {hidden}, where builds and machines have files of their own",
                    hint=hint,
                )


class Namespace:
    """A namespace for the ``with`` block; nothing of it is left afterwards.

    Args:
        network: Give it a network of its own (empty but for a loopback device that is up).
        memory_mib: The size limit of its file system, in MiB.
        directory: Back :data:`MOUNT` by this directory instead of memory.

    Raises:
        HostError: The host cannot make the namespace; the hint names the change.
    """

    def __init__(
        self, *, network: bool = False, memory_mib: int = 4096, directory: Path | None = None
    ) -> None:
        self.network = network
        self.memory_mib = memory_mib
        self.directory = directory
        self.pid = 0
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        root = os.geteuid() == 0
        needed = [
            Path(sys.executable),
            Path(sys.base_prefix),
            Path(__file__),
            *([self.directory] if self.directory else []),
        ]
        require_in_sight(*needed, network=self.network)
        argv = ["unshare", "--mount", "--pid", "--uts", "--fork", "--kill-child"]
        argv += ["--net"] if self.network else []
        if not root:
            process.find_tool("newuidmap", why="needed to build without root")
            argv += ["--user", "--map-auto", "--map-root-user"]
        argv += [
            "--",
            "sh",
            "-c",
            INIT,
            "init",
            f"size={self.memory_mib}m,mode=755",
            "network" if self.network else "none",
        ]
        with self._stack:
            init = self._stack.enter_context(
                process.spawn(
                    argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
                )
            )
            assert init.stdin and init.stdout and init.stderr
            if init.stdout.readline() != b"ready\n":
                said = init.stderr.read().decode(errors="replace").strip()
                raise HostError(
                    f"cannot make a private namespace: {said}", hint=namespace_hint(root)
                )
            self._stack.callback(init.stderr.close)
            # the kernel has ended everything inside when the first process is reaped
            self._stack.callback(init.wait)
            self._stack.callback(init.stdin.close)
            self.pid = _only_child(init.pid)
            if self.directory:
                self.run(["mount", "--bind", self.directory, MOUNT])
            self._stack = self._stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    @property
    def enter(self) -> list[str]:
        """The words before a command to run it inside."""
        words = [process.find_tool("nsenter"), f"--target={self.pid}", "--mount", "--pid", "--uts"]
        words += ["--net"] if self.network else []
        words += [] if os.geteuid() == 0 else ["--user", "--setuid=0", "--setgid=0"]
        return [*words, "--"]

    def path(self, inside: str | Path) -> Path:
        """Return the path of an inside file from outside, valid within the block."""
        return Path(f"/proc/{self.pid}/root") / str(inside).lstrip("/")

    def seal(self) -> None:
        """Make the host's files read-only in here.

        :data:`MOUNT` stays writable, and /run if the namespace has a network. A program misled by a
        tree or a disk then changes nothing. This process' view stays as it is.

        Raises:
            BuildError: The kernel refuses.
        """
        writable = [str(MOUNT), *(["/run"] if self.network else [])]
        self.run(
            [sys.executable, "-I", "-c", SEAL, *writable], what="making the host's files read-only"
        )

    def run(
        self,
        argv: Sequence[str | Path],
        *,
        what: str | None = None,
        env: Mapping[str, str] | None = None,
        log: Path | None = None,
        input: bytes | None = None,
        **options: Unpack[process.Options],
    ) -> process.Completed:
        """Run a command inside as its root, with temporary files there.

        See :func:`slipway.host.process.run` for the rest.
        """
        return process.run(
            [*self.enter, *argv],
            what=what or Path(str(argv[0])).name,
            env={"TMPDIR": str(MOUNT), **(env or {})},
            log=log,
            input=input,
            **options,
        )


def _only_child(pid: int) -> int:
    """Return the only child of a process (proc_pid_task_children(5)).

    The child of `unshare --fork` is the namespace's init.
    """
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def namespace_hint(root: bool) -> str:
    """Return the hint for a host without namespaces."""
    if root:
        return "in a container, give it the capability SYS_ADMIN, or run on the host itself"
    return (
        "allow user namespaces (on Ubuntu: "
        "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0), give this user a range in "
        "/etc/subuid and /etc/subgid (sudo usermod --add-subuids 100000-165535 --add-subgids "
        "100000-165535 $USER), have util-linux 2.38 or newer, or run as root"
    )
