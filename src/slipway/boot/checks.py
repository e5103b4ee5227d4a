"""Run an image in a machine and check it from inside and from every network around it.

What goes in: a trial. What comes out: a report.

The machine boots a throwaway overlay of the published file itself, in a :mod:`~slipway.boot.lab` of
its own. The guest's checks run inside (:mod:`~slipway.boot.delivery`). Those below
``checks/<interface>/`` run on this host (:mod:`~slipway.boot.outside`). Further instances of the
spec start when the guest's own checks have ended.

A machine that dies is started once more, because emulators do crash (docs/adr). The report holds
both starts. A failed check is never retried on a second machine. A guest's report counts only as a
whole: every expected check, by name, exactly once (:mod:`~slipway.boot.results`).
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from slipway.boot.delivery import PORT, deliver, parameter_values
from slipway.boot.failure import failure
from slipway.boot.journal import keep
from slipway.boot.lab import ADDRESS, agent_socket, lab
from slipway.boot.machine import Machine, Running, make_overlay, running
from slipway.boot.outside import Client, Instances, furnish, outside_checks, run_outside
from slipway.boot.qemu_tree import open_tree
from slipway.boot.report import Attempt, BootReport
from slipway.boot.results import Died, Misreported, Reported, follow
from slipway.boot.screen import take
from slipway.boot.tools import memory_mib, open_tools
from slipway.boot.trial import FACTOR, Held, Trial, expected_in_guest
from slipway.errors import BuildError
from slipway.host.sshkey import make_key
from slipway.packages.lock import Lock

__all__ = ["ChecksFailed", "boot_and_check", "systemd_version"]

#: How long a guest may take until its checks start, in seconds.
_START_S = {"kvm": 120, "tcg": 420}
#: How long a machine may take to send its journal, in seconds.
_JOURNAL_S = 15
#: The command to log in with a key, whose path is the next word. Every machine has a new host key.
_LOGIN = (
    "ssh",
    "-F",
    "none",
    "-oStrictHostKeyChecking=no",
    "-oUserKnownHostsFile=/dev/null",
    "-oLogLevel=ERROR",
    "-oConnectTimeout=15",
    "-i",
)


class ChecksFailed(BuildError):
    """Checks failed on a machine that did start; ``report`` names them and their output."""

    def __init__(self, error: BuildError, report: BootReport) -> None:
        super().__init__(error.message, hint=error.hint)
        self.report = report


def systemd_version(lock: Lock) -> int:
    """Return the systemd version in a lock; 0 if the lock has no systemd."""
    version = next(
        (package.version for package in lock.all_packages if package.name == "systemd"), "0"
    )
    found = re.match(r"(?:\d+:)?(\d+)", version)
    return int(found[1]) if found else 0


def boot_and_check(trial: Trial) -> BootReport:
    """Boot an image and run its checks.

    Raises:
        ChecksFailed: A check failed. The error has its output and its log, and lists the passed
            checks.
        BuildError: The guest died before its checks ended, its report does not count, or checks did
            not run. If it died, the error has the console's last lines.
        HostError: This host lacks something.
    """
    trial.logs.mkdir(parents=True, exist_ok=True)
    for last in (False, True):
        trial.results.clear()
        trial.memory_mib = trial.picture = None
        earlier, started = len(trial.attempts), time.monotonic()
        try:
            _once(trial)
        except Died as died:
            # One entry for each start, even if the guest had come to its checks.
            trial.attempts[earlier:] = [
                Attempt(started_s=round(time.monotonic() - started, 1), problem=str(died))
            ]
            if last or trial.failed or trial.was_held:
                did_not = "end its checks" if trial.results else "start"
                raise failure(
                    trial, f"{trial.appliance.name} did not {did_not}: {died}", console=True
                ) from None
            continue
        except Misreported as problem:
            raise failure(
                trial, f"the report of {trial.appliance.name} does not count: {problem}"
            ) from None
        break
    report = BootReport(
        accelerator=trial.accelerator.name,
        firmware=trial.firmware,
        attempts=tuple(trial.attempts),
        checks=tuple(trial.results),
        expected=trial.expected,
        memory_mib=trial.memory_mib,
        qemu=trial.emulator.version,
        picture=trial.picture,
    )
    if trial.failed:
        count = f"{len(trial.failed)} of {len(report.checks)}"
        raise ChecksFailed(
            failure(trial, f"{count} checks of {trial.appliance.name} failed"), report
        )
    if not report.passed:
        ran = {f"{check.place}/{check.name}" for check in report.checks}
        missing = ", ".join(name for name in report.expected if name not in ran)
        raise failure(trial, f"checks of {trial.appliance.name} did not run: {missing}")
    return report


def _once(trial: Trial) -> None:
    """Start the machine once, run all checks and add their results to the trial."""
    spec, base = trial.appliance.spec, trial.appliance.base
    trial.guest = None
    interfaces = [interface.name for interface in spec.interfaces]
    values = parameter_values(spec.parameters)
    overlay, results, console = trial.work / "overlay.qcow2", trial.port, trial.console
    logs = (trial.log(*name.split("/", 1)) for name in trial.expected)
    for file in (overlay, results, console, trial.journal, *logs):
        file.unlink(missing_ok=True)
    results.touch(mode=0o600)
    make_overlay(trial.image, overlay, size_gib=spec.resources.disk_gib)
    key = trial.work / "ssh-key"
    public_key = make_key(key, "checks")
    delivery = deliver(
        trial.appliance, systemd_version(trial.lock), values, trial.factor, trial.work
    )
    instances = [instance.name for instance in spec.instances]
    memory = 64 + (memory_mib(trial.source) if trial.tools else 0)
    with lab(
        interfaces, log=trial.logs / "network.log", instances=instances, memory_mib=memory
    ) as network:
        furnish(network, trial.appliance, key)
        if trial.tools:
            open_tools(trial.tools, network.namespace)
        machine = Machine.for_base(
            base,
            trial.lock.architecture,
            cpus=max(spec.resources.cpus, 1 if trial.accelerator.name == "kvm" else 2),
            memory_mib=spec.resources.memory_mib,
            disk=overlay,
            firmware=trial.firmware,
            accelerator=trial.accelerator,
            console=console,
            networks=network.networks(),
            credentials={**delivery.credentials, "ssh.authorized_keys.root": public_key.encode()},
            drives=delivery.drives,
            ports={PORT: results},
            agent=agent_socket(0),
            variables=trial.work / "variables.fd" if trial.firmware != "bios" else None,
            screen=trial.work / "screen.ppm",
        )
        tree = trial.emulator.tree
        if tree:
            machine = replace(machine, program=open_tree(tree, machine.system, network.enter))
        with (
            running(machine, enter=network.enter, log=trial.logs / "qemu.log") as guest,
            contextlib.ExitStack() as stack,
        ):
            trial.guest = guest
            with _held(trial, guest, (*network.enter, *_LOGIN, str(key), f"root@{ADDRESS}")):
                _inside(trial, guest)
                trial.picture = take(guest, trial.work / "screen.ppm")
                others = Instances(trial=trial, like=machine, network=network, stack=stack)
                others.start_early()
                client = Client(network=network, guest=guest, values=values, others=others)
                for check in outside_checks(trial.appliance):
                    if not trial.enough and f"{check.place}/{check.name}" in trial.expected:
                        run_outside(trial, client, check)
            if trial.enough:
                return
            trial.step.detail = "switching off"
            guest.power_off(30 * trial.factor)


@contextlib.contextmanager
def _held(trial: Trial, guest: Running, login: tuple[str, ...]) -> Iterator[None]:
    """Keep the machine's journal, and hold the machine for inspection, if checks fail in the block.

    It is held only while it runs, and only if the trial has ``on_failure``.
    """

    def hold(why: str) -> None:
        if guest.ended is None:
            keep(login, trial.journal, limit_s=_JOURNAL_S * trial.factor)
        if trial.on_failure is not None and guest.ended is None:
            trial.was_held = True
            trial.on_failure(
                Held(
                    appliance=trial.appliance.name,
                    why=why,
                    login=login,
                    console=trial.console,
                    guest=guest,
                )
            )

    try:
        yield
    except (Died, Misreported) as problem:
        hold(str(problem))
        raise
    if trial.failed:
        hold(", ".join(f"{check.place}/{check.name} {check.outcome}" for check in trial.failed))


def _after(expected: Sequence[str], names: Collection[str]) -> str:
    """Return the guest's next check to run, as guest/name; empty if none is left.

    Checks run in the order of ``expected``.
    """
    return next((f"guest/{name}" for name in expected if name not in names), "")


def _inside(trial: Trial, guest: Running) -> None:
    """Follow the guest's report until the guest says it has finished.

    Raises:
        Died: The guest is gone, or was silent for too long.
        Misreported: The report cannot be true.
    """
    begun = time.monotonic()
    reported = Reported(expected=expected_in_guest(trial.appliance))
    longest = max(
        [60, *(check.timeout_s for check in trial.appliance.checks if check.place == "guest")]
    )
    trial.step.detail = f"starting, {len(trial.expected)} checks to come"
    limits = {
        "start_s": _START_S[trial.accelerator.name],
        "check_s": (longest + 60) * FACTOR[trial.accelerator.name],
    }
    for result in follow(guest, trial.port, trial.console, reported, **limits):
        if not trial.results:
            trial.attempts.append(
                Attempt(started_s=round(time.monotonic() - begun - result.duration_s, 1))
            )
        trial.results.append(result)
        trial.log(result.place, result.name).write_text(
            result.output, encoding="utf-8", errors="backslashreplace"
        )
        trial.tell(result)
        trial.show(_after(reported.expected, reported.names))
        if trial.enough:
            return
    trial.memory_mib = None if reported.memory_kib is None else reported.memory_kib // 1024
