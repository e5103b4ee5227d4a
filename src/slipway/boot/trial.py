"""One image under test: what is tested, where, and what was found so far; and the names of the
checks that it has to pass.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from slipway.accelerator import Accelerator
from slipway.boot.emulator import Emulator
from slipway.boot.machine import Running, host_slowdown
from slipway.boot.report import Attempt, CheckResult
from slipway.builders import Source
from slipway.cache import Entry
from slipway.packages.lock import Lock
from slipway.progress import Step
from slipway.spec.library import Appliance

__all__ = ["FACTOR", "SCAN", "Trial", "expected_checks", "expected_in_guest", "standard_checks"]

#: How much longer everything may take without KVM.
FACTOR = {"kvm": 1, "tcg": 4}
#: The check that every appliance has from outside: the TCP ports that its spec names are open, and
#: no others.
SCAN = "ports-closed"


@dataclass(kw_only=True)
class Trial:
    """One image under test.

    Attributes:
        tools: The tree of programs that checks use.
        image: A qcow2 file; it is not written to.
        work: A directory for the overlay and the like.
        logs: Where the console and the output of checks are kept.
        step: Shown while it runs; its detail says what is happening.
        firmware: bios, uefi or secureboot.
        emulator: What runs the machines.
        first_failure: Stop at the first check that fails, without switching the machine off in
            peace.
    """

    source: Source
    tools: Entry | None
    image: Path
    work: Path
    logs: Path
    step: Step
    firmware: str
    emulator: Emulator
    first_failure: bool
    results: list[CheckResult] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    memory_mib: int | None = None
    #: The machine, while it runs.
    guest: Running | None = None

    @property
    def appliance(self) -> Appliance:
        return self.source.appliance

    @property
    def accelerator(self) -> Accelerator:
        return self.emulator.accelerator

    @property
    def lock(self) -> Lock:
        return self.source.lock

    @property
    def factor(self) -> int:
        """Return what every time limit is multiplied by now: without KVM, and on a host with other
        work, all is slower.
        """
        return math.ceil(FACTOR[self.accelerator.name] * self.slowdown)

    @property
    def slowdown(self) -> float:
        """Return how many times longer than on an idle host all takes now."""
        return self.guest.slowdown if self.guest else host_slowdown()

    @property
    def port(self) -> Path:
        """Return the file behind the guest's virtio-serial port."""
        return self.work / "results"

    @property
    def console(self) -> Path:
        """Return the file behind the guest's console."""
        return self.logs / "console.log"

    def log(self, place: str, name: str) -> Path:
        """Return the file that keeps the output of a check."""
        return self.logs / f"{place}-{name}.log"

    @property
    def failed(self) -> list[CheckResult]:
        """Return the checks that did not pass."""
        return [check for check in self.results if not check.passed]

    @property
    def enough(self) -> bool:
        """Whether nobody wants to know more: a check failed, and the first failure was asked
        for.
        """
        return self.first_failure and bool(self.results) and not self.results[-1].passed


def expected_checks(appliance: Appliance) -> tuple[str, ...]:
    """Return all checks that an image has to pass, as place/name: the standard ones and its own."""
    return (
        *standard_checks(appliance),
        *(f"{check.place}/{check.name}" for check in appliance.checks),
    )


def expected_in_guest(appliance: Appliance) -> tuple[str, ...]:
    """Return the names of the checks that the guest has to report."""
    names = expected_checks(appliance)
    return tuple(name.removeprefix("guest/") for name in names if name.startswith("guest/"))


def standard_checks(appliance: Appliance) -> tuple[str, ...]:
    """The checks that every appliance has, as place/name, in their order: runner.sh's, then the one
    from outside.
    """
    guest = ("system-started", "root-grown", "services-active", "ports-listening")
    return (*(f"guest/{name}" for name in guest), f"{appliance.spec.interfaces[0].name}/{SCAN}")
