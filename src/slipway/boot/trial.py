"""Describe one image under test, its results so far, and the checks it has to pass."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from slipway.boot.emulator import Emulator
from slipway.boot.machine import Running, host_slowdown
from slipway.boot.report import Attempt, CheckResult
from slipway.boot.screen import Picture
from slipway.builders import Source
from slipway.cache import Entry
from slipway.errors import UsageError, suggestion
from slipway.host.accelerator import Accelerator
from slipway.packages.lock import Lock
from slipway.spec.library import Appliance
from slipway.terminal.progress import Step

__all__ = [
    "FACTOR",
    "SCAN",
    "Held",
    "Trial",
    "expected_checks",
    "expected_in_guest",
    "find_checks",
    "standard_checks",
]

#: How much longer everything may take without KVM.
FACTOR = {"kvm": 1, "tcg": 4}
#: The check from outside of every appliance: the TCP ports of its spec are open, and no others.
SCAN = "ports-closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A failed machine that still runs: the reason, and the ways into it.

    ``login`` is the command to log in as root, for a shell of this host's user.
    """

    appliance: str
    why: str
    login: tuple[str, ...]
    console: Path
    guest: Running


@dataclass(kw_only=True)
class Trial:
    """One image under test.

    Attributes:
        tools: The tree of programs for checks.
        image: A qcow2 file; it is not written to.
        work: A directory for the overlay and other temporary files.
        logs: The folder for the console and the output of checks.
        step: Shown while the trial runs; its detail is the current activity.
        firmware: bios, uefi or secureboot.
        emulator: The QEMU to run the machines.
        first_failure: Stop at the first check that fails, without a clean shutdown of the machine.
        only: The requested checks, as place/name, if not all; the guest's checks always run. The
            scan of ports is left out unless it is named.
        on_failure: Gets the running machine when checks have failed or it is silent.
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
    only: Collection[str] = ()
    on_failure: Callable[[Held], None] | None = None
    was_held: bool = False
    results: list[CheckResult] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    memory_mib: int | None = None
    picture: Picture | None = None
    #: The machine, while it runs.
    guest: Running | None = None

    @property
    def appliance(self) -> Appliance:
        return self.source.appliance

    @property
    def expected(self) -> tuple[str, ...]:
        """The checks that have to pass, as place/name."""
        names = expected_checks(self.appliance)
        return tuple(
            name
            for name in names
            if not self.only or name in self.only or name.startswith("guest/")
        )

    @property
    def accelerator(self) -> Accelerator:
        return self.emulator.accelerator

    @property
    def lock(self) -> Lock:
        return self.source.lock

    @property
    def factor(self) -> int:
        """The current multiplier of time limits: everything is slower without KVM or on a busy
        host.
        """
        return math.ceil(FACTOR[self.accelerator.name] * self.slowdown)

    @property
    def slowdown(self) -> float:
        """The current slowdown compared with an idle host."""
        return self.guest.slowdown if self.guest else host_slowdown()

    @property
    def port(self) -> Path:
        """The file behind the guest's virtio-serial port."""
        return self.work / "results"

    @property
    def console(self) -> Path:
        """The file behind the guest's console."""
        return self.logs / "console.log"

    @property
    def journal(self) -> Path:
        """The file for the journal of a machine whose checks failed; see
        :mod:`slipway.boot.journal`.
        """
        return self.logs / "journal.log"

    def show(self, check: str) -> None:
        """Show the current check, and the number of checks."""
        done, count = len(self.results), len(self.expected)
        under_way = f"check {done + 1} of {count}: {check}"
        self.step.detail = under_way if check else f"{done} of {count} checks ended"

    def tell(self, result: CheckResult) -> None:
        """Tell the outcome of a check to users of the verbose output."""
        name = f"{result.place}/{result.name}"
        self.step.tell(f"{name}: {result.outcome}, {result.duration_s:.1f} s")

    def log(self, place: str, name: str) -> Path:
        """Return the file for the output of a check."""
        return self.logs / f"{place}-{name}.log"

    @property
    def failed(self) -> list[CheckResult]:
        """The checks that did not pass."""
        return [check for check in self.results if not check.passed]

    @property
    def enough(self) -> bool:
        """True if a check failed and the trial stops at the first failure."""
        return self.first_failure and bool(self.results) and not self.results[-1].passed


def expected_checks(appliance: Appliance) -> tuple[str, ...]:
    """Return all checks that an image has to pass, as place/name: the standard ones and its own."""
    return (
        *standard_checks(appliance),
        *(f"{check.place}/{check.name}" for check in appliance.checks),
    )


def find_checks(appliance: Appliance, words: Sequence[str]) -> frozenset[str]:
    """Return the checks named by words, as place/name; a name alone means it at every place.

    Raises:
        UsageError: The appliance has no such check.
    """
    known = expected_checks(appliance)
    short = [name.partition("/")[2] for name in known]
    found = set()
    for word in words:
        named = {name for name, alone in zip(known, short, strict=True) if word in (name, alone)}
        if not named:
            hint = suggestion(word, [*short, *known]) or f"choose from: {', '.join(known)}"
            raise UsageError(f'{appliance.name} has no check "{word}"', hint=hint)
        found |= named
    return frozenset(found)


def expected_in_guest(appliance: Appliance) -> tuple[str, ...]:
    """Return the names of the checks that the guest has to report."""
    names = expected_checks(appliance)
    return tuple(name.removeprefix("guest/") for name in names if name.startswith("guest/"))


def standard_checks(appliance: Appliance) -> tuple[str, ...]:
    """Return the checks of every appliance, as place/name, in order: runner.sh's, then the port
    scan.
    """
    guest = ("system-started", "root-grown", "services-active", "ports-listening")
    return (*(f"guest/{name}" for name in guest), f"{appliance.spec.interfaces[0].name}/{SCAN}")
