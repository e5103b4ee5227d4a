"""The box's filter of system calls: each machine's program is run as the kernel runs it, on calls
of that machine.
"""

from __future__ import annotations

import errno
import re
import socket
import stat
import struct
from pathlib import Path

import pytest

from slipway.builders import _box

ALLOWED = 0x7FFF0000
MACHINES = ("x86_64", "aarch64")
#: The kernel's own headers (linux-libc-dev), by machine.
HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}
#: Calls that every program needs, by machine: read, write, openat, execve, wait4, mkdirat,
#: fchownat, setuid.
NEEDED = {
    "x86_64": (0, 1, 257, 59, 61, 258, 260, 105),
    "aarch64": (63, 64, 56, 221, 260, 34, 54, 146),
}
CLONE_NEWUSER, CLONE_VM, TIOCSTI, TCGETS = 0x10000000, 0x100, 0x5412, 0x5401


def _answer(machine: str, number: int, *arguments: int, architecture: int | None = None) -> int:
    """Run the filter over one struct seccomp_data (linux/seccomp.h); 0 is "allowed", else the
    number of the error.
    """
    audit = _box._ARCHITECTURES[machine][0] if architecture is None else architecture
    data = struct.pack("=iIQ6Q", number, audit, 0, *(*arguments, *[0] * (6 - len(arguments))))
    program = list(struct.iter_unpack("=HBBI", _box.syscall_filter(machine)))
    place = accumulator = 0
    while True:
        code, yes, no, value = program[place]
        place += 1
        if code == 0x20:  # BPF_LD | BPF_W | BPF_ABS
            (accumulator,) = struct.unpack_from("=I", data, value)
        elif code == 0x54:  # BPF_ALU | BPF_AND | BPF_K
            accumulator &= value
        elif code == 0x06:  # BPF_RET | BPF_K
            return 0 if value == ALLOWED else value & 0xFFFF
        else:  # BPF_JMP | BPF_K and BPF_JEQ, BPF_JGE or BPF_JSET
            holds = {
                0x15: accumulator == value,
                0x35: accumulator >= value,
                0x45: bool(accumulator & value),
            }[code]
            place += yes if holds else no


@pytest.mark.parametrize("machine", MACHINES)
def test_what_a_build_needs_is_allowed(machine: str) -> None:
    numbers = _box._ARCHITECTURES[machine][1]
    calls: list[tuple[int, ...]] = [(number,) for number in NEEDED[machine]]
    calls += [
        (numbers["clone"], CLONE_VM),
        (numbers["socket"], socket.AF_UNIX),
        (numbers["ioctl"], 0, TCGETS),
    ]
    calls += [(numbers["mknodat"], 0, 0, stat.S_IFIFO | 0o600)]
    assert [call for call in calls if _answer(machine, *call)] == []


@pytest.mark.parametrize("machine", MACHINES)
def test_what_leads_out_of_the_box_is_refused(machine: str) -> None:
    numbers = _box._ARCHITECTURES[machine][1]
    by_argument = ("clone", "socket", "ioctl", "mknod", "mknodat")
    assert [
        name
        for name in numbers
        if name not in by_argument and _answer(machine, numbers[name]) != errno.EPERM
    ] == []
    assert [number for number in _box._EVERYWHERE if _answer(machine, number) != errno.EPERM] == []
    assert _answer(machine, numbers["clone"], CLONE_NEWUSER | CLONE_VM) == errno.EPERM
    assert _answer(machine, numbers["ioctl"], 0, TIOCSTI) == errno.EPERM
    assert _answer(machine, numbers["socket"], socket.AF_PACKET) == errno.EAFNOSUPPORT
    for kind in (stat.S_IFCHR, stat.S_IFBLK):
        assert _answer(machine, numbers["mknodat"], 0, 0, kind | 0o600) == errno.EPERM


@pytest.mark.parametrize("machine", MACHINES)
def test_calls_of_another_machine_and_without_a_filter_of_their_own_do_not_exist(
    machine: str,
) -> None:
    other = _box._ARCHITECTURES[next(name for name in MACHINES if name != machine)][0]
    assert _answer(machine, NEEDED[machine][0], architecture=other) == errno.ENOSYS
    # 32 bits: AUDIT_ARCH_I386
    assert _answer(machine, NEEDED[machine][0], architecture=0x40000003) == errno.ENOSYS
    assert _answer(machine, _box._CLONE3) == errno.ENOSYS


def test_the_x32_calls_do_not_exist() -> None:
    assert _answer("x86_64", 0x40000000 | 1) == errno.ENOSYS


@pytest.mark.parametrize("machine", MACHINES)
def test_the_numbers_are_the_kernels(machine: str) -> None:
    if not HEADERS[machine].exists():
        pytest.skip("linux-libc-dev is not installed")
    defined = dict(
        re.findall(r"#define __NR(?:3264)?_(\w+)\s+([0-9]+)", HEADERS[machine].read_text())
    )
    numbers = {name: str(number) for name, number in _box._ARCHITECTURES[machine][1].items()}
    assert numbers == {name: defined.get(name) for name in numbers}
