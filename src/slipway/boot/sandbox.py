"""Run an image in a sandbox until somebody stops it, with its ports on this host's loopback.

Invariants: the image is never written to. A new snapshot's name keeps the state at the end under
it. With an existing snapshot, the machine starts from it and leaves it unchanged. Nothing outlives
the block, even if this process is killed: QEMU runs in a
:class:`~slipway.host.namespace.Namespace`.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import shlex
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from slipway.boot.delivery import parameter_credentials, parameter_values
from slipway.boot.emulator import Emulator
from slipway.boot.machine import Machine, Running, make_overlay, running
from slipway.boot.qemu_tree import open_tree
from slipway.cache import place
from slipway.errors import HostError, UsageError
from slipway.host.namespace import Namespace
from slipway.spec.given import require_accepted
from slipway.spec.library import Appliance

__all__ = ["Sandbox", "Wanted", "forwarding", "require_startable", "sandbox"]

_SNAPSHOT = re.compile(r"[a-z0-9][a-z0-9._-]{0,60}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """A running machine.

    Attributes:
        ports: The loopback port that leads to each port, such as ``tcp/22``.
        unreachable: Ranges of ports, and ports of other interfaces than the first: not forwarded.
        snapshot: The snapshot that it starts from or is kept as, in words; empty if none.
        ssh_key: The public key that may log in as root.
        ssh_listed: True if SSH is among the ports of the first interface.
    """

    guest: Running
    emulator: Emulator
    console: Path
    ports: Mapping[str, int]
    unreachable: tuple[str, ...]
    snapshot: str
    ssh_key: Path | None = None
    ssh_listed: bool = True

    @property
    def listing(self) -> list[str]:
        """The lines for somebody at a terminal: accelerator, QEMU, console, ports and login."""
        runs = self.emulator.accelerator
        lines = [
            f"running on {runs.name} ({runs.reason}); Ctrl-C stops it",
            f"QEMU: {self.emulator.summary}",
            f"console: {self.console}",
        ]
        lines += [f"{name:<10} 127.0.0.1:{port}" for name, port in self.ports.items()]
        lines += [
            f"{name:<10} not forwarded: only single ports of the first interface are"
            for name in self.unreachable
        ]
        if self.ssh_key:
            lines.append(f"log in: {self.login}")
            if not self.ssh_listed:
                lines.append("  (its first interface has no SSH, unless a parameter opens it)")
        return [*lines, f"state {self.snapshot}"] if self.snapshot else lines

    @property
    def login(self) -> str:
        """The command to log in as root, to paste; every machine has a new host key."""
        words = ["ssh", "-p", str(self.ports["tcp/22"])]
        if self.ssh_key and self.ssh_key.suffix == ".pub":
            words += ["-i", str(self.ssh_key.with_suffix(""))]
        words += [
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
            "root@127.0.0.1",
        ]
        return shlex.join(words)


def require_startable(appliance: Appliance, given: Mapping[str, str], keep: str = "") -> None:
    """Refuse unknown parameters, values they do not accept, and a bad name for a snapshot.

    Raises:
        UsageError: A parameter is unknown, its value is not accepted, or the snapshot's name is
            bad.
    """
    if keep and not _SNAPSHOT.fullmatch(keep):
        raise UsageError(
            f'"{keep}" is not a name for a snapshot',
            hint="lower-case letters, digits, dots and hyphens",
        )
    require_accepted(appliance.name, appliance.spec.parameters, given)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The options to start a machine with.

    Attributes:
        parameters: Values for first boot; others take their defaults.
        keep: The name of a snapshot.
        folder: The folder of snapshots.
        ssh_key: A public key that may log in as root.
        internet: Let the machine reach this host and whatever this host reaches.
    """

    parameters: Mapping[str, str]
    keep: str = ""
    folder: Path
    ssh_key: Path | None = None
    internet: bool = False


@contextlib.contextmanager
def sandbox(
    appliance: Appliance,
    architecture: str,
    image: Path,
    work: Path,
    *,
    emulator: Emulator,
    wanted: Wanted,
) -> Iterator[Sandbox]:
    """Run an image for the block.

    Args:
        work: A directory for temporary files.
        emulator: The QEMU to run the machine.

    Raises:
        HostError: QEMU did not start, or the guest did not switch itself off when its state was to
            be kept.
        UsageError: A parameter or the snapshot's name is not accepted.
    """
    folder, keep = wanted.folder, wanted.keep
    require_startable(appliance, wanted.parameters, keep)
    spec = appliance.spec
    snapshot = folder / f"{keep}.qcow2"
    saving = bool(keep) and not snapshot.exists()
    overlay = work / "overlay.qcow2"
    if saving:
        folder.mkdir(parents=True, exist_ok=True)
        # A snapshot must outlive the cache entry below it.
        base = folder / f"{keep}.base.qcow2"
        base.unlink(missing_ok=True)
        place(image, base)
        image = base
    make_overlay(
        snapshot if keep and not saving else image, overlay, size_gib=spec.resources.disk_gib
    )
    running_machine = _running(appliance, architecture, overlay, emulator, wanted)
    ended: KeyboardInterrupt | None = None
    with running_machine as (guest, machine, ports, unreachable):
        try:
            yield Sandbox(
                guest=guest,
                emulator=emulator,
                console=machine.console,
                ports=ports,
                unreachable=unreachable,
                snapshot=f"made from {keep}"
                if keep and not saving
                else f"kept as {keep}"
                if keep
                else "",
                ssh_key=wanted.ssh_key,
                ssh_listed=any(
                    (port.interface, port.protocol, port.port)
                    == (spec.interfaces[0].name, "tcp", 22)
                    for port in spec.ports
                ),
            )
        except KeyboardInterrupt as error:  # SIGTERM, which ends the task: the state is kept first
            ended = error
        if saving and not guest.power_off(30 if machine.accelerator.name == "kvm" else 120):
            raise HostError(
                "the guest did not switch itself off, so its state is not kept",
                hint="start it again, and give it time to start",
            )
    if saving:
        _keep(overlay, snapshot)
    if ended:
        raise ended


def _keep(overlay: Path, snapshot: Path) -> None:
    """Give a machine's state its name once it is whole.

    The temporary name is random: processes of two containers can have the same number.
    """
    whole = snapshot.with_name(f".{secrets.token_hex(8)}.qcow2")
    try:
        place(overlay, whole)
        whole.rename(snapshot)
    finally:
        whole.unlink(missing_ok=True)


@contextlib.contextmanager
def _running(
    appliance: Appliance,
    architecture: str,
    disk: Path,
    emulator: Emulator,
    wanted: Wanted,
) -> Iterator[tuple[Running, Machine, dict[str, int], tuple[str, ...]]]:
    """Run the machine for the block, and yield it with its ports and the unreachable ones."""
    spec = appliance.spec
    first, *others = [interface.name for interface in spec.interfaces]
    single = [port for port in spec.ports if port.interface == first and port.last is None]
    led = dict.fromkeys(["tcp/22", *(f"{port.protocol}/{port.port}" for port in single)])
    ports = {name: _free_port(name.partition("/")[0]) for name in led}
    work = disk.parent
    values = parameter_values(spec.parameters, wanted.parameters)
    credentials = parameter_credentials(spec.parameters, values)
    if wanted.ssh_key:
        credentials["ssh.authorized_keys.root"] = wanted.ssh_key.read_bytes()
    accelerator = emulator.accelerator
    machine = Machine.for_base(
        appliance.base,
        architecture,
        cpus=max(spec.resources.cpus, 1 if accelerator.name == "kvm" else 2),
        memory_mib=spec.resources.memory_mib,
        disk=disk,
        firmware="bios" if appliance.base.architectures[architecture].bios else "uefi",
        accelerator=accelerator,
        console=work / "console.log",
        networks=(
            forwarding(ports, internet=wanted.internet),
            *("user,restrict=on" for _ in others),
        ),
        credentials=credentials,
        variables=None
        if appliance.base.architectures[architecture].bios
        else work / "variables.fd",
    )
    unreachable = tuple(
        f"{port.protocol}/{port.numbers} ({port.interface})"
        for port in spec.ports
        if port not in single
    )
    with contextlib.ExitStack() as stack:
        namespace = stack.enter_context(Namespace(memory_mib=16))
        if emulator.tree:
            machine = replace(
                machine, program=open_tree(emulator.tree, machine.system, namespace.enter)
            )
        guest = stack.enter_context(running(machine, enter=namespace.enter, log=work / "qemu.log"))
        if guest.ended is not None:
            raise HostError(
                f"QEMU did not start: {(work / 'qemu.log').read_text(errors='replace').strip()}"
            )
        # A reboot restarts the machine, unlike in a boot for checks.
        guest.ask("set-action", reboot="reset")
        yield guest, machine, ports, unreachable


def forwarding(ports: Mapping[str, int], *, internet: bool) -> str:
    """Return QEMU's option for a network behind loopback ports; it leads out only with
    ``internet``.
    """
    forwards = [
        f"hostfwd={name.partition('/')[0]}:127.0.0.1:{port}-:{name.partition('/')[2]}"
        for name, port in ports.items()
    ]
    return ",".join(["user", f"restrict={'off' if internet else 'on'}", *forwards])


def _free_port(protocol: str) -> int:
    """Return a free loopback port."""
    with socket.socket(
        socket.AF_INET, socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    ) as probe_socket:
        probe_socket.bind(("127.0.0.1", 0))
        return int(probe_socket.getsockname()[1])
