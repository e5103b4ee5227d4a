"""Whether this host's KVM really runs guests, tested with one: a loop in real mode.

An existing ``/dev/kvm`` with an answer proves nothing: under some nested hypervisors it answers,
and guests hang. This module is also a program: it runs the loop and prints the seconds.
:func:`probe` starts it with a time limit, so a hanging kernel blocks nothing else.

Format: the Linux kernel's Documentation/virt/kvm/api.rst and include/uapi/linux/kvm.h.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import sys
import time
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Accelerator", "host_architecture", "main", "probe"]

#: A million turns take about a millisecond on a processor, and a hundred times that where every
#: exit is emulated.
SLOW_S = 0.02
_TIMEOUT_S = 5
# mov dx,16; again: mov cx,65535; loop $; dec dx; jnz again; hlt
_CODE = bytes.fromhex("ba1000 b9ffff e2fe 4a 75f8 f4")
_GET_API_VERSION, _CREATE_VM, _GET_VCPU_MMAP_SIZE, _CREATE_VCPU, _RUN = (
    0xAE00,
    0xAE01,
    0xAE04,
    0xAE41,
    0xAE80,
)
_SET_USER_MEMORY_REGION, _SET_REGS, _GET_SREGS, _SET_SREGS = (
    0x4020AE46,
    0x4090AE82,
    0x8138AE83,
    0x4138AE84,
)
_EXIT_HLT = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """The verdict: ``kvm`` or ``tcg``, the reason, and the loop's seconds (0 if it did not run)."""

    name: str
    reason: str
    seconds: float = 0.0


def host_architecture() -> str:
    """Return Debian's name of this host's architecture."""
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)


def probe(architecture: str = "amd64") -> Accelerator:
    """Return the accelerator for guests of an architecture on this host."""
    from slipway.host import process

    machine = host_architecture()
    if machine != architecture:
        return Accelerator(
            name="tcg", reason=f"a guest for {architecture} on {machine} is emulated"
        )
    if not Path("/dev/kvm").exists():
        return Accelerator(name="tcg", reason="there is no /dev/kvm")
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return Accelerator(
            name="tcg",
            reason="/dev/kvm may not be opened (sudo usermod --append --groups kvm $USER)",
        )
    ran = process.run([sys.executable, "-I", __file__], timeout_s=_TIMEOUT_S, check=False)
    said = ran.stdout.decode(errors="replace").strip()
    if ran.returncode or not said:  # killed when its time was up, it has said nothing
        return Accelerator(name="tcg", reason=f"KVM does not run a guest: {said or 'no answer'}")
    taken = float(ran.stdout)
    if taken > SLOW_S:
        return Accelerator(
            name="tcg",
            reason=f"KVM takes {taken * 1000:.0f} ms for what should take 1 ms",
            seconds=taken,
        )
    return Accelerator(
        name="kvm", reason=f"KVM ran a test loop in {taken * 1000:.1f} ms", seconds=taken
    )


def _run_loop() -> float:
    """Run the loop in a new virtual machine with one page of memory, and return its seconds.

    Raises:
        OSError: The kernel refused, or the guest ended otherwise.
    """
    kvm = os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
    version = fcntl.ioctl(kvm, _GET_API_VERSION, 0)
    if version != 12:
        raise OSError(f"KVM's API has version {version}")
    machine = fcntl.ioctl(kvm, _CREATE_VM, 0)
    processor = fcntl.ioctl(machine, _CREATE_VCPU, 0)
    if os.uname().machine != "x86_64":
        return 0.0  # that a processor can be made has to do where the loop means nothing
    with (
        mmap.mmap(-1, 4096) as memory,
        mmap.mmap(processor, fcntl.ioctl(kvm, _GET_VCPU_MMAP_SIZE, 0)) as state,
    ):
        memory.write(_CODE)
        address = _address(memory)
        fcntl.ioctl(machine, _SET_USER_MEMORY_REGION, struct.pack("<IIQQQ", 0, 0, 0, 4096, address))
        special = bytearray(312)
        fcntl.ioctl(processor, _GET_SREGS, special)
        # the code segment: base, limit, selector
        struct.pack_into("<QIH", special, 0, 0, 0xFFFF, 0)
        fcntl.ioctl(processor, _SET_SREGS, bytes(special))
        fcntl.ioctl(processor, _SET_REGS, struct.pack("<18Q", *[0] * 16, 0, 2))
        started = time.perf_counter()
        fcntl.ioctl(processor, _RUN, 0)
        taken = time.perf_counter() - started
        (reason,) = struct.unpack_from("<I", state, 8)
    if reason != _EXIT_HLT:
        raise OSError(f"the guest ended with KVM's exit reason {reason}")
    return taken


def _address(memory: mmap.mmap) -> int:
    """Return the address of a mapping in this process's memory."""
    import ctypes

    view = ctypes.c_char.from_buffer(memory)
    address = ctypes.addressof(view)
    del view
    return address


def main() -> int:
    """Print the seconds and return 0, or print the error and return 1."""
    try:
        sys.stdout.write(f"{_run_loop():.6f}\n")
    except OSError as error:
        sys.stdout.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
