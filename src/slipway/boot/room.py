"""Make the room for checks from outside: users and a network of its own, and a root of programs
only.

What goes in: folders to show at their own paths. What comes out: a :class:`Room`, a
:class:`~slipway.host.namespace.Namespace` inside another one. Its root is nobody on this host.

Invariants: of this host, only the files of its programs are in reach, because the old root is
detached. These files belong to other users. Every process inside is one of the room's own users, so
it cannot trace a process of this host, such as QEMU. QEMU shares the room's network and nothing
else. The room ends with the block, as its outer namespace does.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from slipway.errors import HostError
from slipway.host import process
from slipway.host.namespace import MOUNT, Namespace, namespace_hint

__all__ = ["HOME", "Room"]

#: The home of checks; it is empty at first.
HOME: Final = Path("/home/check")
#: Ids that nobody has on this host (systemd's docs/UIDS-GIDS: beyond those of containers), and the
#: number of ids in a room.
_BASE: Final = 0x7000_0000
_COUNT: Final = 65536
#: Files for programs below /etc: names of users, hosts and ports, the linker's cache, authorities.
_ETC: Final = [
    "alternatives",
    "ca-certificates",
    "group",
    "host.conf",
    "hosts",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "mime.types",
    "nsswitch.conf",
    "passwd",
    "pki",
    "protocols",
    "python3",
    "services",
    "ssl/certs",
    "ssl/openssl.cnf",
]
_DEVICES: Final = ["full", "null", "random", "tty", "urandom", "zero"]

#: Builds the root, as this host's user, because only that user may reach some of the folders. $1 is
#: the id of the room's root, $2 the folder. Then follow links (NAME TARGET), "--", and folders and
#: files.
_BUILD: Final = """\
set -eu
umask 022
owner=$1
cd "$2"
shift 2
mkdir -p dev/pts dev/shm etc home/check mnt proc run sys tmp old
chmod 1777 tmp dev/shm
ln -s /proc/self/fd dev/fd
while [ "$1" != -- ]; do
    ln -s "$2" ".$1"
    shift 2
done
shift
for path; do
    if [ -d "$path" ]; then mkdir -p ".$path"; else mkdir -p ".${path%/*}"; : >>".$path"; fi
done
chown -R -h "$owner:$owner" .
for path; do mount --rbind "$path" ".$path"; done
mount --rbind /sys sys
"""
#: The first process: becomes the room's root once it has ids, and leaves this host's root behind.
_INIT: Final = """\
set -eu
echo waiting
read -r _
exec env -i PATH="$PATH" setpriv --reuid 0 --regid 0 --clear-groups sh -euc '
    mount --make-rprivate /
    mount --rbind "$0" "$0"
    cd "$0"
    mount -t proc -o nosuid,nodev,noexec proc proc
    pivot_root . old
    umount -l /old
    rmdir /old
    mount -t tmpfs -o mode=755,nosuid,nodev run /run
    ip link set lo up
    echo ready
    exec 3<&0
    cat <&3 >/dev/null &
    wait' "$1"
"""


class Room(Namespace):
    """A context manager, as its base: the room exists inside the block.

    Args:
        memory_mib: The size limit of its file system, in MiB.
        shown: Folders and files to show at their own paths, besides this host's programs.

    Raises:
        HostError: The host cannot make a room; the hint names the change to make.
    """

    def __init__(self, *, memory_mib: int, shown: Sequence[Path] = ()) -> None:
        super().__init__(memory_mib=memory_mib)
        self.shown = shown
        self._outer = Namespace(memory_mib=memory_mib)
        self._number = 0
        self._rooms = ExitStack()

    def __enter__(self) -> Self:
        with self._rooms:
            self._rooms.enter_context(self._outer)
            first, count = self._ids()
            links, folders = _system()
            folders += [str(path) for path in self.shown]
            words: list[str | Path] = [
                "sh",
                "-c",
                _BUILD,
                "sh",
                str(first),
                MOUNT,
                *links,
                "--",
                *folders,
            ]
            self._outer.run(words, what="making a room for checks")
            argv = [
                *self._outer.enter,
                "unshare",
                "--user",
                "--keep-caps",
                "--mount",
                "--net",
                "--pid",
                "--fork",
                "--kill-child",
            ]
            argv += ["--", "sh", "-c", _INIT, "init", str(MOUNT)]
            pipe = subprocess.PIPE
            init = self._rooms.enter_context(
                process.spawn(argv, stdin=pipe, stdout=pipe, stderr=pipe)
            )
            assert init.stdin and init.stdout and init.stderr
            if init.stdout.readline() == b"waiting\n":
                self.pid = _descendant(init.pid, 2)
                self._number = int(_status(self.pid, "NSpid")[1])
                script = 'for kind in uid gid; do echo "0 $2 $3" >"/proc/$1/${kind}_map"; done'
                words = ["sh", "-euc", script, "sh", str(self._number), str(first), str(count)]
                self._outer.run(words, what="mapping the users of a room")
                init.stdin.write(b"go\n")
                init.stdin.flush()
            if not self.pid or init.stdout.readline() != b"ready\n":
                said = init.stderr.read().decode(errors="replace").strip()
                raise HostError(
                    f"cannot make a room for checks: {said}", hint=namespace_hint(os.geteuid() == 0)
                )
            self._rooms.callback(init.stderr.close)
            self._rooms = self._rooms.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._rooms.close()

    def _ids(self) -> tuple[int, int]:
        """Return the first of the room's ids, counted in the outer namespace, and their number.

        See user_namespaces(7).
        """
        if os.geteuid() == 0:
            size = int(Path("/proc/self/uid_map").read_text().split()[2])
            return (_BASE, _COUNT) if size > _BASE + _COUNT else (size // 2, min(_COUNT, size // 2))
        *_, first, _, count = Path(f"/proc/{self._outer.pid}/uid_map").read_text().split()
        return int(first), int(count)

    @property
    def enter(self) -> list[str]:
        """The words before a command to run it inside, as the room's root."""
        words = [
            "nsenter",
            f"--target={self._number}",
            "--user",
            "--mount",
            "--net",
            "--pid",
            "--setuid=0",
            "--setgid=0",
            "--",
        ]
        # A proxy's address may contain a password.
        words += ["env", "-u", "http_proxy", "-u", "https_proxy", "-u", "no_proxy", f"HOME={HOME}"]
        return [*self._outer.enter, *words]

    @property
    def beside(self) -> list[str]:
        """The words before a command of this host's user to run it in the room's network."""
        return [*self._outer.enter, "nsenter", f"--net=/proc/{self._number}/ns/net", "--"]

    def write(self, path: Path, content: bytes, *, mode: int = 0o600) -> None:
        """Write a file inside; it belongs to the room's root."""
        script = 'umask 077; mkdir -p "${1%/*}"; cat >"$1"; chmod "$2" "$1"'
        self.run(
            ["sh", "-euc", script, "sh", path, f"{mode:o}"],
            what="writing into a room",
            input=content,
        )


def _system() -> tuple[list[str], list[str]]:
    """Return the links, and the folders and files, that programs need of this host's root.

    Links are names and targets in turn.
    """
    links: list[str] = []
    found = [
        Path("/usr"),
        *(Path("/etc", name) for name in _ETC),
        *(Path("/dev", name) for name in _DEVICES),
    ]
    for path in map(Path, ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")):
        if path.is_symlink():
            links += [str(path), str(path.readlink())]
        else:
            found.append(path)
    # Python: this environment, and the installation below it.
    found += [
        path for path in map(Path, (sys.base_prefix, sys.prefix)) if not path.is_relative_to("/usr")
    ]
    return links, [str(path) for path in dict.fromkeys(found) if path.exists()]


def _descendant(pid: int, depth: int) -> int:
    """Return the descendant of a process at a depth: the first child of the first child, and so on.

    See proc_pid_task_children(5).
    """
    for _ in range(depth):
        pid = int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
    return pid


def _status(pid: int, name: str) -> list[str]:
    """Return the words of a line of proc_pid_status(5)."""
    lines: Mapping[str, str] = dict(
        line.split(":", 1)
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if ":" in line
    )
    return lines[name].split()
