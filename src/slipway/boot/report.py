"""What became of a boot: which checks ran, how each went, and on what kind of machine.

A report is plain data that goes into the cache and, without what checks wrote, into the manifest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Attempt", "BootReport", "CheckResult"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """One check: where it ran ("guest" or an interface's name), how it ended ("passed", "failed" or
    "timed out"), and the last lines that it wrote. Times are in seconds; it was tried ``attempts``
    times. ``first`` is what the first try wrote, where a later one failed too.
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
        """Whether it passed."""
        return self.outcome == "passed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One start of the machine; ``problem`` is what kept the guest from running the checks, None if
    nothing did.
    """

    started_s: float
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BootReport:
    """All starts and all checks of one image.

    ``accelerator`` is kvm or tcg, ``firmware`` bios, uefi or secureboot. ``expected`` names the
    checks that the image has to pass, as place/name. ``memory_mib`` is what the guest used once its
    services ran, None if it did not say. ``qemu`` is the version of the QEMU that ran it, empty if
    unknown.
    """

    accelerator: str
    firmware: str
    attempts: tuple[Attempt, ...]
    checks: tuple[CheckResult, ...]
    expected: tuple[str, ...]
    memory_mib: int | None = None
    qemu: str = ""

    @property
    def passed(self) -> bool:
        """Return True if every expected check is here once, nothing else is, and all passed."""
        names = sorted(f"{check.place}/{check.name}" for check in self.checks)
        return (
            bool(names)
            and names == sorted(self.expected)
            and all(check.passed for check in self.checks)
        )

    @property
    def summary(self) -> str:
        """One line for people, with what the first start ended by if there was a second."""
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
        """Plain data."""
        return {**asdict(self), "passed": self.passed}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> BootReport:
        """What :meth:`to_json` gave."""
        return cls(
            accelerator=data["accelerator"],
            firmware=data["firmware"],
            attempts=tuple(Attempt(**attempt) for attempt in data["attempts"]),
            checks=tuple(CheckResult(**check) for check in data["checks"]),
            expected=tuple(data["expected"]),
            memory_mib=data.get("memory_mib"),
            qemu=data.get("qemu", ""),
        )
