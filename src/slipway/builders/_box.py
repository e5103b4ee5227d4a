"""Run a command in a box, with a tree as its root and nothing of the host in sight.

What goes in: the tree's folder, folders to show in it below /dev/slipway, and a command. What comes
out: the command's output and exit status. This module is a program of the standard library only.
`unshare` starts it as the first process of new mount, process, network, IPC, UTS and cgroup
namespaces.

Invariants: the host's root is detached before anything of the tree runs, and links are followed
inside the tree only. The command cannot mount, make namespaces or device nodes, trace processes, or
use keyrings and the kernel's settings. It lacks the capabilities, gains none by execve(2), and a
filter refuses the system calls (seccomp(2)).
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import fcntl
import os
import platform
import resource
import signal
import socket
import stat
import struct
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

__all__ = ["ENVIRONMENT", "KEPT", "enter", "main", "syscall_filter"]

#: The environment of every command; SOURCE_DATE_EPOCH and INITRD are passed on.
ENVIRONMENT: Final[Mapping[str, str]] = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
    "TZ": "UTC0",
    "DEBIAN_FRONTEND": "noninteractive",
    "DEBCONF_NONINTERACTIVE_SEEN": "true",
    "PYTHONHASHSEED": "0",
}
_PASSED_ON: Final = ("SOURCE_DATE_EPOCH", "INITRD")

#: The capabilities that package scripts need as root (capabilities(7)): CHOWN, DAC_OVERRIDE,
#: FOWNER, FSETID, KILL, SETGID, SETUID, NET_BIND_SERVICE, SYS_CHROOT (`ldconfig -r` of mkinitramfs)
#: and SETFCAP.
KEPT: Final = frozenset({0, 1, 3, 4, 5, 6, 7, 10, 18, 31})

#: Every command's limits, independent of the caller's, as far as the caller's hard ones allow. None
#: means no limit (getrlimit(2)).
_LIMITS: Final[Mapping[str, int | None]] = {
    "CORE": 0,
    "NOFILE": 1024,
    "STACK": 8 << 20,
    "MEMLOCK": 8 << 20,
    "MSGQUEUE": 819_200,
    "NPROC": 65_536,
    "SIGPENDING": 65_536,
    "NICE": 0,
    "RTPRIO": 0,
    **dict.fromkeys(("CPU", "FSIZE", "DATA", "RSS", "AS", "RTTIME")),
}
_DEVICES: Final = ("null", "zero", "full", "random", "urandom", "tty")
#: Entries of /proc that are readable for all and yet reveal too much. Other entries but processes
#: are judged by their mode.
_HIDDEN: Final = frozenset(
    {"config.gz", "kallsyms", "keys", "kmsg", "sched_debug", "scsi", "timer_list", "timer_stats"}
)

# mount(2), umount(2), prctl(2)
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = (
    1,
    2,
    4,
    8,
    32,
    4096,
    16384,
    1 << 18,
)
_MNT_DETACH: Final = 2
_PR_SET_SECCOMP, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 22, 24, 38, 47
_SECCOMP_MODE_FILTER, _PR_CAP_AMBIENT_CLEAR_ALL = 2, 4

_libc = ctypes.CDLL(None, use_errno=True)

#: AUDIT_ARCH of a machine and its numbers of system calls (linux/audit.h, asm/unistd.h).
_ARCHITECTURES: Final = {
    "x86_64": (
        0xC000003E,
        {
            "ptrace": 101, "syslog": 103, "mknod": 133, "pivot_root": 155, "acct": 163,
            "settimeofday": 164, "mount": 165, "umount2": 166, "swapon": 167, "swapoff": 168,
            "reboot": 169, "sethostname": 170, "setdomainname": 171, "iopl": 172, "ioperm": 173,
            "init_module": 175, "delete_module": 176, "quotactl": 179, "clock_settime": 227,
            "kexec_load": 246, "add_key": 248, "request_key": 249, "keyctl": 250, "mknodat": 259,
            "unshare": 272, "perf_event_open": 298, "name_to_handle_at": 303,
            "open_by_handle_at": 304, "setns": 308, "process_vm_readv": 310,
            "process_vm_writev": 311, "kcmp": 312, "finit_module": 313, "kexec_file_load": 320,
            "bpf": 321, "userfaultfd": 323, "clone": 56, "socket": 41, "ioctl": 16,
        },
    ),
    "aarch64": (
        0xC00000B7,
        {
            "mknodat": 33, "umount2": 39, "mount": 40, "pivot_root": 41, "quotactl": 60, "acct": 89,
            "unshare": 97, "kexec_load": 104, "init_module": 105, "delete_module": 106,
            "clock_settime": 112, "syslog": 116, "ptrace": 117, "reboot": 142, "sethostname": 161,
            "setdomainname": 162, "settimeofday": 170, "add_key": 217, "request_key": 218,
            "keyctl": 219, "swapon": 224, "swapoff": 225, "perf_event_open": 241,
            "name_to_handle_at": 264, "open_by_handle_at": 265, "setns": 268,
            "process_vm_readv": 270, "process_vm_writev": 271, "kcmp": 272, "finit_module": 273,
            "bpf": 280, "userfaultfd": 282, "kexec_file_load": 294, "clone": 220, "socket": 198,
            "ioctl": 29,
        },
    ),
}  # fmt: skip
#: The newer calls have one number everywhere: io_uring_*, open_tree .. move_mount, pidfd_getfd,
#: mount_setattr, quotactl_fd.
_EVERYWHERE: Final = (425, 426, 427, 428, 429, 430, 431, 432, 433, 438, 442, 443, 467)
_CLONE3: Final = 435
#: CLONE_NEW* without CLONE_NEWTIME of threads, because clone(2) has no room for it.
_NEW_NAMESPACE: Final = 0x7E020000
_FAMILIES: Final = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK)
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
_EPERM, _ENOSYS, _EAFNOSUPPORT = 1, 38, 97
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000


def _call(name: str, *arguments: int | bytes | None) -> None:
    """Call a function of the C library.

    Raises:
        OSError: The function failed.
    """
    if getattr(_libc, name)(*arguments) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def _mount(
    source: str, target: str, kind: str | None = None, flags: int = 0, data: str | None = None
) -> None:
    encoded = [None if word is None else word.encode() for word in (source, target, kind, data)]
    _call("mount", encoded[0], encoded[1], encoded[2], ctypes.c_ulong(flags), encoded[3])  # type: ignore[arg-type]


def syscall_filter(machine: str) -> bytes:
    """Return a machine's filter in the kernel's format (an array of struct sock_filter,
    linux/filter.h).

    Raises:
        KeyError: There is no filter for this machine.
    """
    audit, numbers = _ARCHITECTURES[machine]
    load, equal, at_least, masked, answer = 0x20, 0x15, 0x35, 0x45, 0x06
    words: list[tuple[int, int, int, int]] = []

    def refuse_if(offset: int, test: int, *values: int, error: int = _EPERM) -> None:
        """Refuse if a 32-bit word of struct seccomp_data passes the test with one of the values."""
        words.append((load, 0, 0, offset))
        for left, value in reversed(list(enumerate(reversed(values)))):
            words.append((test, left, 1 if left == 0 else 0, value))
        words.append((answer, 0, 0, _REFUSE | error))

    def argument_of(
        name: str,
        index: int,
        test: int,
        *values: int,
        mask: int | None = None,
        refused: bool = True,
    ) -> None:
        """Check an argument of one call: refuse the call with these values, or with all others."""
        error = _EPERM if refused else _EAFNOSUPPORT
        body = [(load, 0, 0, 16 + 8 * index), *([(0x54, 0, 0, mask)] if mask else [])]
        for place, value in enumerate(values):
            rest = len(values) - place - 1
            body.append(
                (test, rest, 0 if rest else 1, value) if refused else (test, rest + 1, 0, value)
            )
        body.append((answer, 0, 0, _REFUSE | error))
        words.extend([(load, 0, 0, 0), (equal, 0, len(body), numbers[name]), *body])

    words += [(load, 0, 0, 4), (equal, 1, 0, audit), (answer, 0, 0, _REFUSE | _ENOSYS)]
    if machine == "x86_64":  # the x32 ABI has numbers of its own
        refuse_if(0, at_least, 0x40000000, error=_ENOSYS)
    # its flags are in memory; the C library then calls clone
    refuse_if(0, equal, _CLONE3, error=_ENOSYS)
    special = ("clone", "socket", "ioctl", "mknod", "mknodat")
    refuse_if(
        0, equal, *(number for name, number in numbers.items() if name not in special), *_EVERYWHERE
    )
    argument_of("clone", 0, masked, _NEW_NAMESPACE)
    argument_of("ioctl", 1, equal, _TIOCSTI, _TIOCLINUX)
    argument_of("socket", 0, equal, *_FAMILIES, refused=False)
    for name, index in (("mknod", 1), ("mknodat", 2)):
        if name in numbers:
            argument_of(name, index, equal, 0x2000, 0x6000, mask=0xF000)  # S_IFCHR, S_IFBLK
    words.append((answer, 0, 0, _ALLOW))
    return b"".join(struct.pack("=HBBI", *word) for word in words)


def enter(tree: str, shown: Mapping[str, str], *, bare: bool = False) -> None:
    """Make a tree this process' root and detach the old one.

    Args:
        shown: Folders by their names below /dev/slipway; a name that ends with "+" is writable.
        bare: Leave the tree's own /run and /tmp in sight.
    """
    old = os.open("/", os.O_PATH | os.O_DIRECTORY)
    devices = {name: os.open(f"/dev/{name}", os.O_PATH) for name in _DEVICES}
    folders = {name: os.open(path, os.O_PATH | os.O_DIRECTORY) for name, path in shown.items()}
    _mount("none", "/", flags=_MS_REC | _MS_PRIVATE)
    _mount(tree, tree, flags=_MS_BIND | _MS_REC)
    os.chdir(tree)
    # From here on, a path begins at the tree: a link in it leads to a place in it.
    _call("pivot_root", b".", b".")
    _mount("proc", "/proc", "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    _mount("dev", "/dev", "tmpfs", _MS_NOSUID, "mode=755,size=1m")
    for name, descriptor in devices.items():
        os.close(os.open(f"/dev/{name}", os.O_CREAT | os.O_WRONLY, 0o644))
        _mount(f"/proc/self/fd/{descriptor}", f"/dev/{name}", flags=_MS_BIND)
        _read_only(f"/dev/{name}")  # the device's mode and owner are the host's
    for name in ("shm", "pts", "slipway"):
        Path("/dev", name).mkdir()
    for name, target in (
        ("fd", "/proc/self/fd"),
        ("stdin", "fd/0"),
        ("stdout", "fd/1"),
        ("stderr", "fd/2"),
    ):
        Path("/dev", name).symlink_to(target)
    for name, descriptor in folders.items():
        point = f"/dev/slipway/{name.removesuffix('+')}"
        Path(point).mkdir()
        _mount(f"/proc/self/fd/{descriptor}", point, flags=_MS_BIND)
        if not name.endswith("+"):
            _read_only(point)
    if not bare:
        _mount("run", "/run", "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=755")
        _mount("tmp", "/tmp", "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=1777")
        Path("/run/lock").mkdir()
        Path("/run/slipway").mkdir()
    _close_proc()
    os.fchdir(old)
    _call("umount2", b".", _MNT_DETACH)
    os.chdir("/")


def _close_proc() -> None:
    """Hide everything in /proc but processes.

    Folders become read-only. Files become empty unless they are readable for all and writable for
    nobody. The entries of ``_HIDDEN`` become empty. The host's root owns the kernel's settings, and
    its processes need no capability to write them.
    """
    for entry in sorted(Path("/proc").iterdir()):
        mode = entry.lstat().st_mode
        if entry.name.isdigit() or stat.S_ISLNK(mode):
            continue
        if stat.S_ISDIR(mode) and entry.name not in _HIDDEN:
            _mount(str(entry), str(entry), flags=_MS_BIND)
            _read_only(str(entry))
        elif stat.S_ISDIR(mode):
            _mount(
                "hidden",
                str(entry),
                "tmpfs",
                _MS_RDONLY | _MS_NOSUID | _MS_NODEV | _MS_NOEXEC,
                "size=4k",
            )
        elif entry.name in _HIDDEN or mode & 0o222 or not mode & 0o004:
            _mount("/dev/null", str(entry), flags=_MS_BIND)
            _read_only(str(entry))


def _own_streams() -> None:
    """Replace standard streams on a device of the host by the box's /dev/null.

    The host's root could change the mode of an open device.
    """
    for descriptor in range(3):
        if stat.S_ISCHR(os.fstat(descriptor).st_mode):
            null = os.open("/dev/null", os.O_RDWR)
            os.dup2(null, descriptor)
            os.close(null)


def _read_only(point: str) -> None:
    """Make a mount read-only.

    Its other flags are kept, because a user namespace may not remove them.
    """
    flags = os.statvfs(point).f_flag
    kept = flags & (_MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    # statvfs(3): ST_NOATIME 1024, ST_NODIRATIME 2048, ST_RELATIME 4096; mount(2): the same, and 1
    # << 21.
    kept |= flags & (1024 | 2048) | (1 << 21 if flags & 4096 else 0)
    _mount("none", point, flags=_MS_REMOUNT | _MS_BIND | _MS_RDONLY | kept)


def forget_caller() -> None:
    """Reset signals, limits and personality to those of a new system, whatever the caller had.

    Python itself ignores SIGPIPE, and the command would inherit it.
    """
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    _call("personality", 0)
    for name, soft in _LIMITS.items():
        limit = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(limit)[1]
        possible = hard if soft is None or -1 < hard < soft else soft
        resource.setrlimit(limit, (possible, hard))


def _loopback_up() -> None:
    """Bring up the loopback device, the only one.

    See netdevice(7): SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        asked = fcntl.ioctl(control, 0x8913, struct.pack("16sH22x", b"lo", 0))
        fcntl.ioctl(
            control,
            0x8914,
            struct.pack("16sH22x", b"lo", struct.unpack_from("H", asked, 16)[0] | 1),
        )


def _give_up_privileges() -> None:
    """Keep the capabilities for scripts, and forbid the rest for good."""
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    for capability in range(last + 1):
        if capability not in KEPT:
            _call("prctl", _PR_CAPBSET_DROP, capability, 0, 0, 0)
    _call("prctl", _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    kept = sum(1 << capability for capability in KEPT)
    low, high = kept & 0xFFFFFFFF, kept >> 32
    # capset(2): version 3, this process; effective, permitted and inheritable, the low halves
    # first.
    _call(
        "capset", struct.pack("=Ii", 0x20080522, 0), struct.pack("=6I", low, low, 0, high, high, 0)
    )
    _call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    program = syscall_filter(platform.machine())
    words = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: a count, padding, a pointer.
    given = struct.pack("=H6xQ", len(program) // 8, ctypes.addressof(words))
    _call("prctl", _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, given, 0, 0)


def main(argv: Sequence[str]) -> int:
    """Enter the box and become the command."""
    options = argparse.ArgumentParser(
        description="Run a command in a tree, without a way to the host."
    )
    options.add_argument(
        "--show",
        action="append",
        default=[],
        metavar="NAME=FOLDER",
        help="show a folder as /dev/slipway/NAME",
    )
    options.add_argument(
        "--keep",
        type=int,
        default=2,
        metavar="NUMBER",
        help="a descriptor to keep open, which is no folder's",
    )
    options.add_argument(
        "--bare", action="store_true", help="leave the tree's own /run and /tmp in sight"
    )
    options.add_argument("tree", metavar="TREE")
    options.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND")
    given = options.parse_args(argv)
    os.umask(0o022)
    forget_caller()
    socket.sethostname("localhost")
    _loopback_up()
    enter(given.tree, dict(item.split("=", 1) for item in given.show), bare=given.bare)
    environment = {
        **ENVIRONMENT,
        **{name: os.environ[name] for name in _PASSED_ON if name in os.environ},
    }
    _own_streams()
    if stat.S_ISDIR(os.fstat(given.keep).st_mode):
        options.error(f"the descriptor {given.keep} is a folder's")
    os.closerange(3, max(3, given.keep))
    os.closerange(max(3, given.keep + 1), 65536)
    os.set_inheritable(given.keep, True)
    _give_up_privileges()
    with contextlib.suppress(FileNotFoundError):
        os.execvpe(given.command[0], given.command, environment)
    sys.stderr.write(f"{given.command[0]}: not found in the tree\n")
    return 127


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
