"""An image -> a machine that runs it, checked from inside and from every network around it -> a report.

The machine boots a throwaway overlay of the very file that is published, in a :mod:`~slipway.boot.lab` of its own.
Checks of the guest run there (:mod:`~slipway.boot.delivery`), those below ``checks/<interface>/`` on this host, as a
client of that interface's network. Each is tried again until it passes or its time is up; those on this host, which
wait for what they need themselves, for a minute at most. A further instance of the spec is started when the first check
asks for it, and runs until the last one has ended.

A machine that dies is started once more, because emulators do crash (docs/adr); both starts are in the report. A check
that fails is never tried on a second machine. A guest's report counts only as a whole: every check that is expected, by
its name and once (:mod:`~slipway.boot.results`).
"""

from __future__ import annotations

import contextlib
import re
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from slipway import process
from slipway.accelerator import Accelerator, probe
from slipway.boot.delivery import PORT, SEED, deliver, make_seed, parameter_credentials, parameter_values
from slipway.boot.lab import Lab, address, lab
from slipway.boot.machine import Machine, Running, make_overlay, running
from slipway.boot.report import Attempt, BootReport, CheckResult
from slipway.boot.results import Died, Misreported, Reported, follow, require_short
from slipway.boot.scan import NOT_YET
from slipway.boot.tools import TREE, memory_mib, open_tools
from slipway.builders import Source
from slipway.cache import Entry
from slipway.errors import BuildError
from slipway.packages.lock import Lock
from slipway.progress import Step
from slipway.spec.folder import Check
from slipway.spec.library import Appliance
from slipway.spec.model import Instance
from slipway.sshkey import make_key

__all__ = ["ChecksFailed", "boot_and_check", "expected_checks", "expected_in_guest", "standard_checks", "systemd_version"]

#: How long a guest may take until its checks start, and how much longer everything may take without KVM.
_START_S = {"kvm": 120, "tcg": 420}
_FACTOR = {"kvm": 1, "tcg": 4}
#: For how long a check on this host that fails is tried again.
_RETRY_S = 60
#: How long a machine may take to stop before it starts again.
_RESTART_S = 120
#: The check that every appliance has from outside: the TCP ports that its spec names are open, and no others.
SCAN, _SCANNER = "ports-closed", Path(__file__).with_name("scan.py")


class ChecksFailed(BuildError):
    """Checks failed on a machine that did start; the report says which, and why."""

    def __init__(self, error: BuildError, report: BootReport) -> None:
        super().__init__(error.message, hint=error.hint)
        self.report = report


@dataclass(kw_only=True)
class _Bench:
    """One image under test."""

    source: Source
    tools: Entry | None
    image: Path
    work: Path
    logs: Path
    step: Step
    firmware: str
    accelerator: Accelerator
    first_failure: bool
    results: list[CheckResult] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    memory_mib: int | None = None
    #: How much the console had said when the checks had ended, in bytes: how it was switched off explains nothing.
    said: int | None = None

    @property
    def appliance(self) -> Appliance:
        return self.source.appliance

    @property
    def lock(self) -> Lock:
        return self.source.lock

    @property
    def factor(self) -> int:
        return _FACTOR[self.accelerator.name]

    @property
    def port(self) -> Path:
        """Return the file behind the guest's virtio-serial port."""
        return self.work / "results"

    @property
    def console(self) -> Path:
        """Return the file behind the guest's console."""
        return self.logs / "console.log"

    @property
    def failed(self) -> list[CheckResult]:
        """Return the checks that did not pass."""
        return [check for check in self.results if not check.passed]

    @property
    def enough(self) -> bool:
        """Whether nobody wants to know more: a check failed, and the first failure was asked for."""
        return self.first_failure and bool(self.results) and not self.results[-1].passed


def expected_checks(appliance: Appliance) -> tuple[str, ...]:
    """Return all checks that an image has to pass, as place/name: the standard ones and its own."""
    return (*standard_checks(appliance), *(f"{check.place}/{check.name}" for check in appliance.checks))


def expected_in_guest(appliance: Appliance) -> tuple[str, ...]:
    """Return the names of the checks that the guest has to report."""
    names = expected_checks(appliance)
    return tuple(name.removeprefix("guest/") for name in names if name.startswith("guest/"))


def standard_checks(appliance: Appliance) -> tuple[str, ...]:
    """The checks that every appliance has, as place/name, in their order: runner.sh's, then the one from outside."""
    guest = ("system-started", "root-grown", "services-active", "ports-listening")
    return (*(f"guest/{name}" for name in guest), f"{appliance.spec.interfaces[0].name}/{SCAN}")


def systemd_version(lock: Lock) -> int:
    """The version of the systemd that a lock installs; 0 if there is none."""
    version = next((package.version for package in lock.all_packages if package.name == "systemd"), "0")
    found = re.match(r"(?:\d+:)?(\d+)", version)
    return int(found[1]) if found else 0


def boot_and_check(
    source: Source,
    image: Path,
    work: Path,
    logs: Path,
    step: Step,
    *,
    firmware: str = "bios",
    tools: Entry | None = None,
    first_failure: bool = False,
) -> BootReport:
    """Boot an image and run its checks.

    Args:
        image: A qcow2 file; it is not written to.
        work: A directory for the overlay and the like.
        logs: Where the console and the output of checks are kept.
        step: Shown while it runs; its detail says what is happening.
        firmware: bios, uefi or secureboot.
        tools: The tree of programs that checks use.
        first_failure: Stop at the first check that fails, without switching the machine off in peace.

    Raises:
        ChecksFailed: A check failed; with the console's last lines and what had passed.
        BuildError: The guest did not start.
        HostError: This host lacks something.
    """
    bench = _Bench(
        source=source,
        tools=tools,
        image=image,
        work=work,
        logs=logs,
        step=step,
        firmware=firmware,
        accelerator=probe(source.lock.architecture),
        first_failure=first_failure,
    )
    logs.mkdir(parents=True, exist_ok=True)
    for last in (False, True):
        bench.results.clear()
        bench.said = None
        started = time.monotonic()
        try:
            _once(bench)
        except Died as died:
            bench.attempts.append(Attempt(started_s=round(time.monotonic() - started, 1), problem=str(died)))
            if last or bench.failed:
                did_not = "end its checks" if bench.results else "start"
                raise _failure(bench, f"{bench.appliance.name} did not {did_not}: {died}{_said(bench.failed)}") from None
            continue
        except Misreported as problem:
            raise _failure(bench, f"the report of {bench.appliance.name} does not count: {problem}{_said(bench.failed)}") from None
        break
    report = BootReport(
        accelerator=bench.accelerator.name,
        firmware=firmware,
        attempts=tuple(bench.attempts),
        checks=tuple(bench.results),
        expected=expected_checks(bench.appliance),
        memory_mib=bench.memory_mib,
    )
    if bench.failed:
        count = f"{len(bench.failed)} of {len(report.checks)}"
        raise ChecksFailed(_failure(bench, f"{count} checks of {bench.appliance.name} failed{_said(bench.failed)}"), report)
    if not report.passed:
        ran = {f"{check.place}/{check.name}" for check in report.checks}
        missing = ", ".join(name for name in report.expected if name not in ran)
        raise _failure(bench, f"checks of {bench.appliance.name} did not run: {missing}")
    return report


def _once(bench: _Bench) -> None:
    """One start of the machine, with all checks; their results are added to the bench."""
    spec, base = bench.appliance.spec, bench.appliance.base
    interfaces = [interface.name for interface in spec.interfaces]
    values = parameter_values(spec.parameters)
    overlay, results, console = bench.work / "overlay.qcow2", bench.port, bench.console
    for file in (overlay, results, console):
        file.unlink(missing_ok=True)
    results.touch()
    make_overlay(bench.image, overlay, size_gib=spec.resources.disk_gib)
    key = bench.work / "ssh-key"
    public_key = make_key(key, "checks")
    delivery = deliver(bench.appliance, systemd_version(bench.lock), values, bench.factor, bench.work)
    instances = [instance.name for instance in spec.instances]
    memory = 64 + (memory_mib(bench.source) if bench.tools else 0)
    with lab(interfaces, log=bench.logs / "network.log", instances=instances, memory_mib=memory) as network:
        if bench.tools:
            open_tools(bench.tools, network.namespace)
        machine = Machine.for_base(
            base,
            bench.lock.architecture,
            cpus=max(spec.resources.cpus, 1 if bench.accelerator.name == "kvm" else 2),
            memory_mib=spec.resources.memory_mib,
            disk=overlay,
            firmware=bench.firmware,
            accelerator=bench.accelerator,
            console=console,
            networks=network.networks(),
            credentials={**delivery.credentials, "ssh.authorized_keys.root": public_key.encode()},
            drives=delivery.drives,
            ports={PORT: results},
            variables=bench.work / "variables.fd" if bench.firmware != "bios" else None,
        )
        with running(machine, enter=network.enter, log=bench.logs / "qemu.log") as guest, contextlib.ExitStack() as stack:
            _inside(bench, guest)
            others = _Instances(bench=bench, like=machine, network=network, stack=stack)
            others.start_early()
            client = _Client(network=network, guest=guest, key=key, values=values, others=others)
            for check in (Check(name=SCAN, path=_SCANNER, place=interfaces[0], sha256=""), *bench.appliance.checks):
                if check.place in interfaces and not bench.enough:
                    _outside(bench, client, check)
            if bench.enough:
                return
            bench.step.detail = "switching off"
            bench.said = console.stat().st_size
            guest.power_off(30 * bench.factor)


def _inside(bench: _Bench, guest: Running) -> None:
    """Follow what the guest reports until it says that it is done.

    Raises:
        Died: It is gone, or is silent for too long.
        Misreported: Its report cannot be true.
    """
    begun = time.monotonic()
    expected = expected_checks(bench.appliance)
    reported = Reported(expected=expected_in_guest(bench.appliance))
    longest = max([60, *(check.timeout_s for check in bench.appliance.checks if check.place == "guest")])
    bench.step.detail = "starting"
    limits = {"start_s": _START_S[bench.accelerator.name], "check_s": (longest + 60) * bench.factor}
    for result in follow(guest, bench.port, bench.console, reported, **limits):
        if not bench.results:
            bench.attempts.append(Attempt(started_s=round(time.monotonic() - begun - result.duration_s, 1)))
        bench.results.append(result)
        bench.step.detail = f"{len(bench.results)} of {len(expected)} checks"
        if bench.enough:
            return
    bench.memory_mib = None if reported.memory_kib is None else reported.memory_kib // 1024


@dataclass(slots=True, kw_only=True)
class _Instances:
    """The further instances of the spec: those that run, and all that is needed to start another."""

    bench: _Bench
    like: Machine
    network: Lab
    stack: contextlib.ExitStack
    started: dict[str, Mapping[str, str]] = field(default_factory=dict)

    def start_early(self) -> None:
        """Start what any check will ask for, beside the checks that need only one machine."""
        if self.bench.enough:
            return
        wanted = {name for check in self.bench.appliance.checks for name in check.instances}
        for instance in self.bench.appliance.spec.instances:
            if instance.name in wanted:
                self.start(instance.name)

    def start(self, name: str) -> Mapping[str, str]:
        """Start an instance, unless it runs; the values of its parameters, as far as they are known."""
        if name not in self.started:
            spec = self.bench.appliance.spec
            instance = next(instance for instance in spec.instances if instance.name == name)
            values = parameter_values(spec.parameters, instance.parameters)
            overlay = self.bench.work / f"overlay-{name}.qcow2"
            overlay.unlink(missing_ok=True)
            make_overlay(self.bench.image, overlay, size_gib=spec.resources.disk_gib)
            number = spec.instances.index(instance) + 1
            credentials, drives = self._given(instance, values)
            machine = replace(
                self.like,
                instance=number,
                disk=overlay,
                networks=self.network.networks(number),
                console=self.bench.logs / f"console-{name}.log",
                credentials=credentials,
                drives=drives,
                ports={},
                variables=self.bench.work / f"variables-{name}.fd" if self.like.variables else None,
            )
            self.stack.enter_context(running(machine, enter=self.network.enter, log=self.bench.logs / "qemu.log"))
            self.started[name] = values
        return self.started[name]

    def _given(self, instance: Instance, values: Mapping[str, str]) -> tuple[dict[str, bytes], dict[str, Path]]:
        """What brings an instance its parameters and the key to log in with: system credentials, or a disk for cloud-init."""
        given = parameter_credentials(self.bench.appliance.spec.parameters, values)
        key = "ssh.authorized_keys.root"
        if not instance.cloud_init:
            return {**given, key: self.like.credentials[key]}, {}
        folder = self.bench.work / f"seed-{instance.name}"
        folder.mkdir(exist_ok=True)
        parameters = {name.partition(".")[2]: value.decode() for name, value in given.items()}
        keys = [self.like.credentials[key].decode().strip()]
        return {}, {SEED: make_seed(folder, {"ssh_authorized_keys": keys, "slipway": {"parameters": parameters}})}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Client:
    """What checks from outside work with: the network, the machines, a key that root may log in with, parameters."""

    network: Lab
    guest: Running
    key: Path
    values: Mapping[str, str]
    others: _Instances

    def environment(self, check: Check) -> dict[str, str]:
        """What a check in an interface's network is told; the instances that it needs run."""
        told = {**self.network.environment(check.place), **self._about("SLIPWAY_", 0, self.values, "root")}
        told |= {"SLIPWAY_TOOLS": str(TREE)} if self.others.bench.tools else {}
        for number, instance in enumerate(self.others.bench.appliance.spec.instances, 1):
            if instance.name in check.instances:
                prefix = f"SLIPWAY_INSTANCE_{instance.name.upper()}_"
                # cloud-init's default user has the distribution's name.
                user = self.others.bench.appliance.base.distribution if instance.cloud_init else "root"
                told |= self._about(prefix, number, self.others.start(instance.name), user)
        return told

    def _about(self, prefix: str, number: int, values: Mapping[str, str], user: str) -> dict[str, str]:
        options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "ConnectTimeout=20", "BatchMode=yes"]
        ssh = ["ssh", "-F", "none", "-i", str(self.key), *(f"-o{option}" for option in options), f"{user}@{address(number)}"]
        parameters = {f"{prefix}PARAMETER_{name.upper()}": value for name, value in values.items()}
        return {f"{prefix}ADDRESS": address(number), f"{prefix}SSH": shlex.join(ssh), **parameters}


def _outside(bench: _Bench, client: _Client, check: Check) -> None:
    """Run a check on this host, in an interface's network, until it passes or goes on failing.

    Raises:
        Died: The machine is gone, so the check says nothing.
        Misreported: The guest writes without end.
    """
    bench.step.detail = f"{check.place}/{check.name}"
    environment = client.environment(check)
    begun = time.monotonic()
    try:
        prepared = _prepared(client.guest, check, _RESTART_S * bench.factor)
    except OSError as error:
        raise Died(f"{error}, before {check.place}/{check.name}") from error
    if prepared:
        outcome, output, attempts = _tried(bench, client, check, environment)
    else:
        outcome, output, attempts = "failed", "the machine did not start again", 0
    if outcome != "passed" and client.guest.ended is not None:
        raise Died(f"QEMU ended with status {client.guest.ended} during {check.place}/{check.name}")
    require_short(bench.port, bench.console)
    duration = round(time.monotonic() - begun, 2)
    bench.results.append(
        CheckResult(name=check.name, place=check.place, outcome=outcome, duration_s=duration, attempts=attempts, output=output)
    )


def _tried(bench: _Bench, client: _Client, check: Check, environment: Mapping[str, str]) -> tuple[str, str, int]:
    """How a check ended, what it said at last, and how often it was tried. A try that the limit cuts off has nothing to say,
    unless it was the only one."""
    interpreter = [sys.executable, "-I"] if check.path.suffix == ".py" else ["sh", "-x"]
    words = [address(0), *_allowed(bench.appliance, check.place)] if check.name == SCAN else []
    argv: list[str | Path] = [*client.network.client(check.place), *interpreter, check.path, *words]
    log = bench.logs / f"{check.place}-{check.name}.log"
    limit = check.timeout_s * bench.factor
    outcome, output, attempts, begun = "", "", 0, time.monotonic()
    while True:
        attempts += 1
        log.unlink(missing_ok=True)
        left = max(1.0, limit - (time.monotonic() - begun))
        done = process.run(argv, env=environment, log=log, timeout_s=left, check=False)
        status, cut_off = done.returncode, done.returncode < 0 and done.duration_s >= left
        if not outcome or not cut_off:
            outcome = "timed out" if cut_off else "failed" if status else "passed"
            output = log.read_text(errors="replace")[-2000:]
        final = cut_off or status == 0 or (check.name == SCAN and status != NOT_YET)
        if final or time.monotonic() - begun >= min(limit, _RETRY_S * bench.factor):
            return outcome, output, attempts
        time.sleep(1)


def _prepared(guest: Running, check: Check, timeout_s: float) -> bool:
    """Do to the machine what a check wants to be done before it; whether that worked."""
    if check.before == "reset":
        guest.reset()
    return check.before != "reboot" or guest.reboot(timeout_s)


def _allowed(appliance: Appliance, interface: str) -> list[str]:
    """The ports that the spec names for an interface, as scan.py takes them."""
    ports = [port for port in appliance.spec.ports if port.interface == interface]
    return [f"{'udp/' if port.protocol == 'udp' else ''}{port.numbers}" for port in ports]


def _said(failed: Sequence[CheckResult]) -> str:
    """Return what failed checks wrote, for an error."""
    return "".join(f"\n  {check.place}/{check.name} {check.outcome}:\n{_indent(check.output)}" for check in failed)


def _indent(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines()[-15:])


def _failure(bench: _Bench, message: str) -> BuildError:
    """An error with what is known: what passed, and the end of the console."""
    passed = ", ".join(f"{check.place}/{check.name}" for check in bench.results if check.passed) or "none"
    last = process.tail(bench.console, 25, end=bench.said)
    return BuildError(
        f"{message}\n  passed: {passed}\n  the console's last lines:\n{last or '    (none)'}",
        hint=f"the whole console is {bench.console}",
    )
