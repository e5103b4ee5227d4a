"""Describe a virtual machine, make QEMU's command line of it, and run it.

:func:`command` is pure.

Invariants of :func:`running`: the machine writes to a throwaway overlay, never to the image. QEMU's
monitor is its standard input and output, so nobody else can reach it. QEMU ends with the block,
even if an error ends it. Everything the machine receives, reports and writes is in files for this
user alone, and on no command line.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from slipway.errors import HostError, UsageError
from slipway.host import process
from slipway.host.accelerator import Accelerator
from slipway.host.namespace import require_in_sight
from slipway.host.programs import package_of
from slipway.spec.base import Base

__all__ = [
    "FIRMWARES",
    "MOST_SLOWDOWN",
    "SCREEN",
    "Machine",
    "Running",
    "command",
    "host_slowdown",
    "mac_address",
    "make_overlay",
    "running",
    "unprivileged",
]

FIRMWARES = ("bios", "uefi", "secureboot")
#: The limit of a machine's slowdown: however busy the host is, nobody waits longer.
MOST_SLOWDOWN = 4.0
#: QEMU's name for the file of a machine's ``screen``. By the time of a dump it may open no other.
SCREEN = "/dev/fdset/1"
#: The nanoseconds that a machine's threads run or wait before its slowdown is measured anew.
_MEASURED_NS = 10 * 10**9
#: The rights that QEMU does not need once it runs (qemu(1), -sandbox): old system calls, other
#: users' rights, programs, priorities.
_CONFINED = ("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny")
#: The user and group of QEMU if root starts it: an id of nobody. It has opened everything by then.
_NOBODYS_ID = 0x70000000
_GONE = "QEMU is gone, or does not answer"
#: The maximum length of a line of QEMU's monitor, in bytes.
_LINE_BYTES = 1 << 20
#: Firmware images by architecture and firmware: code and variables, at their paths in Debian,
#: Ubuntu and Fedora.
_FIRMWARE: Mapping[tuple[str, str], tuple[tuple[str, str], ...]] = {
    ("amd64", "uefi"): (
        ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
        ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
    ),
    ("amd64", "secureboot"): (
        ("/usr/share/OVMF/OVMF_CODE_4M.ms.fd", "/usr/share/OVMF/OVMF_VARS_4M.ms.fd"),
        ("/usr/share/edk2/ovmf/OVMF_CODE.secboot.fd", "/usr/share/edk2/ovmf/OVMF_VARS.secboot.fd"),
    ),
    ("arm64", "uefi"): (("/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd"),),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A machine's description.

    Attributes:
        networks: QEMU's -netdev options, one for each interface, without their id.
        credentials: System credentials for the guest's systemd (https://systemd.io/CREDENTIALS).
        drives: Raw disks (serial number -> file), read-only for the guest.
        ports: Virtio-serial ports (name -> file); their output is appended to the file.
        agent: The name of the guest agent's abstract socket (unix(7)), in QEMU's network namespace.
        instance: The number of the machine among those of one network.
        screen: The file for one dump of the screen (``screendump`` to :data:`SCREEN`).
    """

    architecture: str
    system: str
    machine: str
    cpus: int
    memory_mib: int
    disk: Path
    firmware: str
    accelerator: Accelerator
    console: Path
    networks: tuple[str, ...] = ()
    credentials: Mapping[str, bytes] = field(default_factory=dict)
    drives: Mapping[str, Path] = field(default_factory=dict)
    ports: Mapping[str, Path] = field(default_factory=dict)
    agent: str = ""
    variables: Path | None = None
    instance: int = 0
    screen: Path | None = None
    #: The words to run another QEMU than the host's, valid inside ``enter`` of :func:`running`.
    program: tuple[str, ...] = ()

    @classmethod
    def for_base(cls, base: Base, architecture: str, **more: Any) -> Machine:
        """Return a machine of the type that a base's architecture asks for."""
        qemu = base.architectures[architecture].qemu
        return cls(
            architecture=architecture, system=qemu["system"], machine=qemu["machine"], **more
        )


def mac_address(number: int, instance: int = 0) -> str:
    """Return the hardware address of an interface of an instance, both counted from 0.

    The prefix is QEMU's own, for local use.
    """
    return f"52:54:00:77:{instance:02x}:{number + 1:02x}"


def firmware_files(architecture: str, firmware: str) -> tuple[Path, Path]:
    """Return the code and the variables of a UEFI firmware.

    Raises:
        HostError: The firmware is not installed.
    """
    for code, variables in _FIRMWARE.get((architecture, firmware), ()):
        if Path(code).exists() and Path(variables).exists():
            return Path(code), Path(variables)
    (code, _variables), *_ = _FIRMWARE[architecture, "uefi"]
    raise HostError(
        f"there is no {firmware} firmware for {architecture}",
        hint=f"sudo apt-get install {package_of(code)}",
    )


def _quoted(value: object) -> str:
    """Return a value for one of QEMU's comma-separated options."""
    return str(value).replace(",", ",,")


def command(machine: Machine, credentials: Sequence[Path] = ()) -> list[str]:
    """Return QEMU's command line.

    Everybody on the host can read it, so credentials are given as files.
    """
    secure = machine.firmware == "secureboot"
    kvm = machine.accelerator.name == "kvm"
    program = machine.program or (f"qemu-system-{machine.system}",)
    argv = [*program, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
    argv += ["-machine", machine.machine + (",smm=on" if secure else "")]
    argv += ["-accel", "kvm" if kvm else "tcg,thread=multi", "-cpu", "host" if kvm else "max"]
    argv += ["-smp", str(machine.cpus), "-m", str(machine.memory_mib)]
    if machine.variables:
        code, _ = firmware_files(machine.architecture, machine.firmware)
        argv += ["-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={_quoted(code)}"]
        argv += ["-drive", f"if=pflash,unit=1,format=raw,file={_quoted(machine.variables)}"]
        argv += ["-global", "driver=cfi.pflash01,property=secure,value=on"] if secure else []
    argv += [
        "-drive",
        f"if=none,id=root,format=qcow2,cache=unsafe,discard=unmap,file={_quoted(machine.disk)}",
    ]
    argv += ["-device", "virtio-blk-pci,drive=root,bootindex=0"]
    for number, network in enumerate(machine.networks):
        argv += ["-netdev", f"{network},id=net{number}"]
        # No option ROM: nothing starts from the network, and BIOS need not load it.
        mac = mac_address(number, machine.instance)
        argv += ["-device", f"virtio-net-pci,netdev=net{number},mac={mac},romfile="]
    for number, (serial, file) in enumerate(machine.drives.items()):
        argv += ["-drive", f"if=none,id=drive{number},format=raw,readonly=on,file={_quoted(file)}"]
        argv += ["-device", f"virtio-blk-pci,drive=drive{number},serial={serial}"]
    argv += ["-device", "virtio-rng-pci", "-device", "virtio-serial-pci"]
    argv += [
        "-chardev",
        f"file,id=console,path={_quoted(machine.console)}",
        "-serial",
        "chardev:console",
    ]
    argv += ["-device", "VGA" if machine.architecture == "amd64" else "virtio-gpu-pci"]
    for number, (name, file) in enumerate(machine.ports.items()):
        argv += [
            "-chardev",
            f"file,id=port{number},path={_quoted(file)}",
            "-device",
            f"virtserialport,chardev=port{number},name={name}",
        ]
    if machine.agent:
        argv += [
            "-chardev",
            f"socket,id=agent,path={_quoted(machine.agent)},abstract=on,server=on,wait=off",
        ]
        argv += ["-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0"]
    for file in credentials:
        argv += ["-smbios", f"type=11,path={_quoted(file)}"]
    return [*argv, *_CONFINED, "-qmp", "stdio"]


@cache
def unprivileged(*qemu: str) -> tuple[str, ...]:
    """Return the options that make QEMU give up root's rights once its files are open.

    Their sandbox filter allows that one change of user.

    Args:
        qemu: The command to run QEMU.
    """
    said = process.run([*qemu, "-help"], check=False, timeout_s=60).stdout.decode(errors="replace")
    newer = re.search(r"^-run-with [^\n]*user=", said, re.MULTILINE) is not None
    user = f"{_NOBODYS_ID}:{_NOBODYS_ID}"
    sandbox = _CONFINED[1].replace("elevateprivileges=deny", "elevateprivileges=allow")
    return ("-sandbox", sandbox, *(("-run-with", f"user={user}") if newer else ("-runas", user)))


def make_overlay(image: Path, overlay: Path, *, size_gib: int) -> None:
    """Make a file for a machine's writes over its image; only this user can read it.

    Raises:
        HostError: The machine cannot see the image or the overlay.
    """
    require_in_sight(image, overlay)
    process.run(
        [
            "qemu-img",
            "create",
            "-q",
            "-f",
            "qcow2",
            "-b",
            image.absolute(),
            "-F",
            "qcow2",
            overlay,
            f"{size_gib}G",
        ]
    )
    overlay.chmod(0o600)


def _make_private(file: Path) -> None:
    """Make an empty file for this user alone; QEMU opens it as it is."""
    file.unlink(missing_ok=True)
    os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def _write_credentials(machine: Machine, folder: Path) -> list[Path]:
    """Write a machine's credentials, one to a file, as SMBIOS strings
    (systemd.system-credentials(7)).
    """
    files = []
    for number, (name, value) in enumerate(machine.credentials.items()):
        file = folder / str(number)
        _make_private(file)
        file.write_text(f"io.systemd.credential.binary:{name}={base64.b64encode(value).decode()}")
        files.append(file)
    return files


def host_slowdown() -> float:
    """Return the slowdown that a new machine can expect from the host's load: 1 to
    :data:`MOST_SLOWDOWN`.
    """
    return max(1.0, min(MOST_SLOWDOWN, os.getloadavg()[0] / (os.cpu_count() or 1)))


def _scheduled(pid: int) -> tuple[int, int]:
    """Return the run time and the wait time of a process and its children, in nanoseconds.

    Both are 0 if the process is gone.
    """
    ran = waited = 0
    for task in Path(f"/proc/{pid}/task").glob("*"):
        with contextlib.suppress(OSError, ValueError):
            times = (task / "schedstat").read_text().split()
            ran, waited = ran + int(times[0]), waited + int(times[1])
            for child in (task / "children").read_text().split():
                more = _scheduled(int(child))
                ran, waited = ran + more[0], waited + more[1]
    return ran, waited


class Running:
    """A running machine, reached by its monitor (QEMU Machine Protocol)."""

    def __init__(self, qemu: subprocess.Popen[bytes]) -> None:
        assert qemu.stdin and qemu.stdout
        self.qemu = qemu
        self._in, self._out, self._rest = qemu.stdin, qemu.stdout.fileno(), b""
        #: The time limit for an answer of QEMU, in seconds.
        self.patience_s = 60.0
        #: The run and wait times at the last measurement, and the slowdown before it.
        self._measured, self._lately = (0, 0), 1.0

    @property
    def ended(self) -> int | None:
        """QEMU's exit status, negative for a signal; None while it runs."""
        return self.qemu.poll()

    @property
    def slowdown(self) -> float:
        """The slowdown compared with an idle host: 1 to :data:`MOST_SLOWDOWN`.

        It is run time plus wait time over run time, of the threads of QEMU (Linux,
        Documentation/scheduler/sched-stats.rst, /proc/<pid>/schedstat). The larger of two values
        counts: since the start, and lately. A host may have been idle for an hour and got work a
        minute ago.
        """
        ran, waited = _scheduled(self.qemu.pid)
        since = (ran - self._measured[0], waited - self._measured[1])
        if sum(since) >= _MEASURED_NS:
            self._measured, self._lately = (ran, waited), sum(since) / max(since[0], 1)
        whole = (ran + waited) / ran if ran > 10**9 else 1.0
        return max(1.0, min(MOST_SLOWDOWN, max(whole, self._lately)))

    def ask(self, name: str, **arguments: Any) -> Any:
        """Send a command and return the answer.

        Raises:
            OSError: QEMU is gone, hangs, or refused.
        """
        try:
            self._in.write(json.dumps({"execute": name, "arguments": arguments}).encode() + b"\n")
            self._in.flush()
        except BrokenPipeError:
            raise OSError(_GONE) from None
        for answer in self._messages(self.patience_s):
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise OSError(f"QEMU: {answer['error'].get('desc')}")
        raise OSError(_GONE)

    def _messages(self, timeout_s: float) -> Iterator[dict[str, Any]]:
        """Yield QEMU's answers and events, until it is gone or the time is up.

        Raises:
            OSError: QEMU wrote something else than JSON objects, or a line without an end.
        """
        until = time.monotonic() + timeout_s
        while True:
            while b"\n" not in self._rest:
                if len(self._rest) > _LINE_BYTES:
                    raise OSError(f"QEMU wrote a line of more than {_LINE_BYTES >> 20} MiB")
                left = until - time.monotonic()
                # Also while there is something to read: QEMU could go on forever.
                if left <= 0 or not select.select([self._out], [], [], left)[0]:
                    return
                data = os.read(self._out, 1 << 16)
                if not data:
                    return
                self._rest += data
            line, _, self._rest = self._rest.partition(b"\n")
            try:
                message = json.loads(line)
            except ValueError:
                message = None
            if not isinstance(message, dict):
                raise OSError(f"QEMU wrote {line[:80]!a}")
            yield message

    def reset(self) -> None:
        """Press the reset button; the guest loses everything unwritten.

        Raises:
            OSError: QEMU is gone, hangs, or refused.
        """
        self.ask("set-action", reboot="reset")
        self.ask("system_reset")

    def reboot(self, timeout_s: float) -> bool:
        """Press Ctrl-Alt-Delete, so that systemd stops everything and restarts the machine.

        Returns:
            True if it restarted in time.

        Raises:
            OSError: QEMU is gone, hangs, or refused.
        """
        self.ask("set-action", reboot="reset")
        keys = [{"type": "qcode", "data": name} for name in ("ctrl", "alt", "delete")]
        self.ask("send-key", keys=keys)
        return any(message.get("event") == "RESET" for message in self._messages(timeout_s))

    def power_off(self, timeout_s: float) -> bool:
        """Press the power button and wait; return True if the guest switched itself off in time."""
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            self.ask("system_powerdown")
            self.qemu.wait(timeout_s)
            return True
        return False


@contextlib.contextmanager
def running(machine: Machine, *, enter: Sequence[str] = (), log: Path) -> Iterator[Running]:
    """Run a machine for the block.

    Args:
        enter: The words before QEMU's command, to run it in a namespace.
        log: The file for QEMU's own messages.

    Raises:
        HostError: QEMU or its firmware is not installed.
        UsageError: There is no such firmware.
    """
    if machine.firmware not in FIRMWARES:
        raise UsageError(
            f'there is no firmware "{machine.firmware}"',
            hint=f"choose from: {', '.join(FIRMWARES)}",
        )
    if machine.variables:
        _make_private(machine.variables)
        shutil.copyfile(
            firmware_files(machine.architecture, machine.firmware)[1], machine.variables
        )
    _make_private(machine.console)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="credentials-", dir=machine.disk.parent)
        )
        argv = command(machine, _write_credentials(machine, Path(folder)))
        passed = []
        if machine.screen:
            _make_private(machine.screen)
            screen = stack.enter_context(machine.screen.open("wb", buffering=0))
            passed = [screen.fileno()]
            argv += ["-add-fd", f"fd={screen.fileno()},set={SCREEN.rpartition('/')[2]}"]
        if not machine.program:
            argv[0] = process.find_tool(argv[0])
        if os.geteuid() == 0:
            at = argv.index("-sandbox")
            argv[at : at + 2] = unprivileged(
                *(*enter, *machine.program) if machine.program else argv[:1]
            )
        errors = stack.enter_context(log.open("ab"))
        qemu = stack.enter_context(
            process.spawn(
                [*enter, *argv],
                pass_fds=passed,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        )
        machine_running = Running(qemu)
        with contextlib.suppress(OSError):
            machine_running.ask("qmp_capabilities")
        yield machine_running
