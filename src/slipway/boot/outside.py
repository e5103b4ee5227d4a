"""Run checks on this host as a client of each network around a machine, and start further
instances.

A check is tried again until it passes or its time is up. Checks on this host wait themselves for
the things they need, so a minute of retries is enough. A check runs in the network's room: it is
nobody on this host and sees none of its files. Its environment holds addresses, an SSH command and
parameters (docs/reference/spec.md).
"""

from __future__ import annotations

import contextlib
import math
import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from slipway.boot.attempt import KIT, PYTHON, attempt
from slipway.boot.delivery import SEED, make_seed, parameter_credentials, parameter_values
from slipway.boot.lab import Lab, address, agent_socket
from slipway.boot.machine import Machine, Running, make_overlay, running
from slipway.boot.report import CheckResult
from slipway.boot.results import Died, ending, require_short
from slipway.boot.room import HOME
from slipway.boot.scan import PATIENCE_S
from slipway.boot.tools import TREE
from slipway.boot.trial import SCAN, Trial
from slipway.cache import sha256_of
from slipway.spec.checks import Check
from slipway.spec.library import Appliance
from slipway.spec.model import Instance

__all__ = ["Client", "Instances", "furnish", "outside_checks", "run_outside"]

#: The time to retry a failing check, the extra time if it needs a further instance, and the time
#: for a machine to stop before it starts again; in seconds.
_RETRY_S = 60
_INSTANCE_S = 30
_RESTART_S = 120
#: The time limit for a machine's answer to a client of SSH on an idle host, in seconds.
_CONNECT_S = 20
#: The time limit for a port of the spec to open after the guest's own checks have passed, in
#: seconds.
_LATE_S = 20
#: The paths of a check's key, and of the checks.
_KEY = HOME / ".ssh/key"
_CHECKS = Path("/checks")
_SCANNER = Path(__file__).with_name("scan.py")


def outside_checks(appliance: Appliance) -> list[Check]:
    """Return the checks that run on this host, the scan first."""
    interfaces = [interface.name for interface in appliance.spec.interfaces]
    scan = Check(name=SCAN, path=_SCANNER, place=interfaces[0], sha256=sha256_of(_SCANNER))
    return [check for check in (scan, *appliance.checks) if check.place in interfaces]


def furnish(network: Lab, appliance: Appliance, key: Path) -> None:
    """Write the checks, their module and root's login key into the network's room, before any check
    runs.
    """
    network.namespace.write(_KEY, key.read_bytes())
    for check in outside_checks(appliance):
        network.namespace.write(_CHECKS / check.place / check.name, check.read(), mode=0o755)
        network.namespace.write(_CHECKS / check.place / KIT.name, KIT.read_bytes())


@dataclass(slots=True, kw_only=True)
class Instances:
    """The running further instances of the spec, and the means to start another."""

    trial: Trial
    like: Machine
    network: Lab
    stack: contextlib.ExitStack
    started: dict[str, Mapping[str, str]] = field(default_factory=dict)

    def start_early(self) -> None:
        """Start every instance that a check asks for, alongside the checks of one machine alone."""
        if self.trial.enough:
            return
        wanted = {name for check in self.trial.appliance.checks for name in check.instances}
        for instance in self.trial.appliance.spec.instances:
            if instance.name in wanted:
                self.start(instance.name)

    def start(self, name: str) -> Mapping[str, str]:
        """Start an instance, unless it runs.

        Returns:
            The values of its parameters, as far as they are known.
        """
        if name not in self.started:
            spec = self.trial.appliance.spec
            instance = next(instance for instance in spec.instances if instance.name == name)
            values = parameter_values(spec.parameters, instance.parameters)
            overlay = self.trial.work / f"overlay-{name}.qcow2"
            overlay.unlink(missing_ok=True)
            make_overlay(self.trial.image, overlay, size_gib=spec.resources.disk_gib)
            number = spec.instances.index(instance) + 1
            credentials, drives = self._given(instance, values)
            machine = replace(
                self.like,
                instance=number,
                disk=overlay,
                networks=self.network.networks(number),
                console=self.trial.logs / f"console-{name}.log",
                credentials=credentials,
                drives=drives,
                ports={},
                agent=agent_socket(number),
                screen=None,
                variables=self.trial.work / f"variables-{name}.fd" if self.like.variables else None,
            )
            self.stack.enter_context(
                running(machine, enter=self.network.enter, log=self.trial.logs / "qemu.log")
            )
            self.started[name] = values
        return self.started[name]

    def _given(
        self, instance: Instance, values: Mapping[str, str]
    ) -> tuple[dict[str, bytes], dict[str, Path]]:
        """Return the credentials and the disks of an instance.

        They carry its parameters and the login key: as system credentials, or as a disk for
        cloud-init.
        """
        given = parameter_credentials(self.trial.appliance.spec.parameters, values)
        key = "ssh.authorized_keys.root"
        if not instance.cloud_init:
            return {**given, key: self.like.credentials[key]}, {}
        folder = self.trial.work / f"seed-{instance.name}"
        folder.mkdir(exist_ok=True)
        parameters = {name.partition(".")[2]: value.decode() for name, value in given.items()}
        keys = [self.like.credentials[key].decode().strip()]
        return {}, {
            SEED: make_seed(
                folder, {"ssh_authorized_keys": keys, "slipway": {"parameters": parameters}}
            )
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """The means of a check from outside: the network, the machines and the parameters.

    The key to log in as root is in the network's room.
    """

    network: Lab
    guest: Running
    values: Mapping[str, str]
    others: Instances

    def environment(self, check: Check) -> dict[str, str]:
        """Return a check's environment in an interface's network, after starting the instances it
        needs.
        """
        told = {
            **self.network.environment(check.place),
            **self._about("SLIPWAY_", 0, self.values, "root"),
            "SLIPWAY_PATIENCE": str(self.others.trial.factor),
        }
        told |= {"SLIPWAY_TOOLS": str(TREE)} if self.others.trial.tools else {}
        for number, instance in enumerate(self.others.trial.appliance.spec.instances, 1):
            if instance.name in check.instances:
                prefix = f"SLIPWAY_INSTANCE_{instance.name.upper()}_"
                # cloud-init's default user has the distribution's name.
                user = (
                    self.others.trial.appliance.base.distribution if instance.cloud_init else "root"
                )
                told |= self._about(prefix, number, self.others.start(instance.name), user)
        return told

    def _about(
        self, prefix: str, number: int, values: Mapping[str, str], user: str
    ) -> dict[str, str]:
        options = [
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
            "BatchMode=yes",
        ]
        options.append(f"ConnectTimeout={math.ceil(_CONNECT_S * self.others.trial.slowdown)}")
        ssh = [
            "ssh",
            "-F",
            "none",
            "-i",
            str(_KEY),
            *(f"-o{option}" for option in options),
            f"{user}@{address(number)}",
        ]
        parameters = {f"{prefix}PARAMETER_{name.upper()}": value for name, value in values.items()}
        about = {
            "ADDRESS": address(number),
            "AGENT": f"@{agent_socket(number)}",
            "SSH": shlex.join(ssh),
        }
        return {**{f"{prefix}{name}": value for name, value in about.items()}, **parameters}


def run_outside(trial: Trial, client: Client, check: Check) -> None:
    """Run a check on this host in an interface's network, until it passes or its time is up.

    Raises:
        Died: The machine is gone, so the check says nothing.
        Misreported: The guest writes without end.
    """
    trial.show(f"{check.place}/{check.name}")
    environment = client.environment(check)
    begun = time.monotonic()
    try:
        prepared = _prepared(client.guest, check, _RESTART_S * trial.factor)
    except OSError as error:
        raise Died(f"{error}, before {check.place}/{check.name}") from error
    if prepared:
        tried = _tried(trial, client, check, environment)
    else:
        tried = _Tried("failed", 0, "the machine did not start again")
    if tried.outcome != "passed" and client.guest.ended is not None:
        raise Died(f"{ending(client.guest.ended)}, during {check.place}/{check.name}")
    require_short(trial.port, trial.console)
    duration = round(time.monotonic() - begun, 2)
    trial.results.append(
        CheckResult(
            name=check.name,
            place=check.place,
            outcome=tried.outcome,
            duration_s=duration,
            attempts=tried.attempts,
            output=tried.output,
            first=tried.first if tried.outcome == "failed" and tried.attempts > 1 else "",
        )
    )
    trial.tell(trial.results[-1])


@dataclass(frozen=True, slots=True)
class _Tried:
    """The outcome of a check, the number of tries, and the output of the last and of the first."""

    outcome: str
    attempts: int
    output: str
    first: str = ""


def _tried(trial: Trial, client: Client, check: Check, environment: Mapping[str, str]) -> _Tried:
    """Try a check until it passes or its time is up.

    The log is the last whole try's. A try cut off by the limit counts only if it was the only one.
    """
    interpreter = PYTHON if check.path.suffix == ".py" else ("sh", "-x")
    words = []
    if check.name == SCAN:
        words = [
            address(0),
            f"--patience={PATIENCE_S * trial.slowdown:.1f}",
            f"--wait={_LATE_S * trial.factor}",
        ]
        words += _allowed(trial.appliance, check.place)
    argv: list[str | Path] = [
        *client.network.client(check.place),
        *interpreter,
        _CHECKS / check.place / check.name,
        *words,
    ]
    log = trial.log(check.place, check.name)
    latest = log.with_name(f"{log.name}.part")
    # A further instance has just been started.
    retry_s = _RETRY_S + (_INSTANCE_S if check.instances else 0)
    outcome, output, first, attempts, begun = "", "", "", 0, time.monotonic()
    gone_s = 0.0

    def left_s() -> float:
        return max(1.0, check.timeout_s * trial.factor - gone_s)

    while True:
        attempts += 1
        latest.unlink(missing_ok=True)
        gone_s = time.monotonic() - begun
        status = attempt(argv, environment, latest, limit_s=left_s)
        cut_off = status is None
        if not outcome or not cut_off:
            outcome = "timed out" if cut_off else "failed" if status else "passed"
            output = _end_of(latest)
            first = first or output
            latest.replace(log)
        final = cut_off or status == 0 or check.name == SCAN
        if final or time.monotonic() - begun >= min(check.timeout_s, retry_s) * trial.factor:
            latest.unlink(missing_ok=True)
            return _Tried(outcome, attempts, output, first)
        time.sleep(1)


def _end_of(log: Path) -> str:
    """Return the last 2,000 characters of a log.

    Only the end is read: a check may have written without end.
    """
    with log.open("rb") as said:
        said.seek(max(0, said.seek(0, 2) - 8000))
        return said.read(8000).decode(errors="replace")[-2000:]


def _prepared(guest: Running, check: Check, timeout_s: float) -> bool:
    """Reset or reboot the machine if the check asks for it; return True unless a reboot fails."""
    if check.before == "reset":
        guest.reset()
    return check.before != "reboot" or guest.reboot(timeout_s)


def _allowed(appliance: Appliance, interface: str) -> list[str]:
    """Return the spec's ports of an interface, in the notation of scan.py."""
    ports = [port for port in appliance.spec.ports if port.interface == interface]
    return [f"{'udp/' if port.protocol == 'udp' else ''}{port.numbers}" for port in ports]
