"""Record a boot: the checks that ran, how each went, and the type of machine.

A report is plain data. It goes into the cache and, without the output of checks, into the manifest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Attempt", "BootReport", "CheckResult"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """The result of one check.

    Attributes:
        place: "guest" or an interface's name.
        outcome: "passed", "failed" or "timed out".
        duration_s: The time it took, in seconds.
        attempts: The number of tries.
        output: The last lines of its output.
        first: The output of the first try, if a later one failed too.
    """

    name: str
    place: str
    outcome: str
    duration_s: float
    attempts: int
    output: str = ""
    first: str = ""

    @property
    def passed(self) -> bool:
        """True if the check passed."""
        return self.outcome == "passed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One start of the machine.

    Attributes:
        started_s: The time until the first check started or the machine died, in seconds.
        problem: The reason why the guest did not finish its checks; None if it did.
    """

    started_s: float
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BootReport:
    """All starts and all checks of one image.

    Attributes:
        accelerator: kvm or tcg.
        firmware: bios, uefi or secureboot.
        expected: The checks that the image has to pass, as place/name.
        memory_mib: The guest's use of memory once its services ran, in MiB; None if unknown.
        qemu: The version of QEMU, empty if unknown.
        picture: The screen after the guest's own checks (:mod:`~slipway.boot.screen`); None if
            there is no picture.
    """

    accelerator: str
    firmware: str
    attempts: tuple[Attempt, ...]
    checks: tuple[CheckResult, ...]
    expected: tuple[str, ...]
    memory_mib: int | None = None
    qemu: str = ""
    picture: Mapping[str, Any] | None = None

    @property
    def passed(self) -> bool:
        """True if every expected check is here once, nothing else is, and all passed."""
        names = sorted(f"{check.place}/{check.name}" for check in self.checks)
        return (
            bool(names)
            and names == sorted(self.expected)
            and all(check.passed for check in self.checks)
        )

    @property
    def summary(self) -> str:
        """One line for people, with the problem of the first start if there was a second."""
        good = sum(check.passed for check in self.checks)
        again = "".join(
            f"; started again after: {attempt.problem}"
            for attempt in self.attempts
            if attempt.problem
        )
        return (
            f"{good} of {len(self.checks)} checks passed ({self.accelerator}, "
            f"{self.firmware}){again}"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain data."""
        return {**asdict(self), "passed": self.passed}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> BootReport:
        """Read the data of :meth:`to_json`."""
        return cls(
            accelerator=data["accelerator"],
            firmware=data["firmware"],
            attempts=tuple(Attempt(**attempt) for attempt in data["attempts"]),
            checks=tuple(CheckResult(**check) for check in data["checks"]),
            expected=tuple(data["expected"]),
            memory_mib=data.get("memory_mib"),
            qemu=data.get("qemu", ""),
            picture=data.get("picture"),
        )
