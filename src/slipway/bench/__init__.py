"""Slipway's speed, measured on this machine beside a control: the rows of docs/performance.md.

What goes in: a checkout. What comes out: a :class:`Report`. Each time is the median of several
runs, in turn with the control's. Times of builds are those of whole processes, including their
children's processor time.
"""

from __future__ import annotations

import os
import platform
import resource
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from slipway.host import process
from slipway.host.namespace import available_memory_mib

__all__ = ["Report", "Row", "Usage", "machine", "measured", "middle"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """A command's cost in seconds.

    ``cpu_s`` is user and system time, including every process it waited for.
    """

    wall_s: float
    cpu_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table: a measured value, and its upper goal; ``detail`` says more."""

    name: str
    value: float
    unit: str
    goal: float | None = None
    detail: str = ""

    @property
    def reached(self) -> bool | None:
        """Whether the value meets its goal; None without a goal."""
        return None if self.goal is None else self.value <= self.goal

    def record(self) -> dict[str, Any]:
        """Return the row for the table and for JSON."""
        outcome = {None: "", True: "reached", False: "not reached"}[self.reached]
        return {**asdict(self), "value": round(self.value, 3), "outcome": outcome}


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All measurements: the machine, the rows, and by row the seconds of each step."""

    machine: Mapping[str, Any]
    rows: Sequence[Row]
    profiles: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """Return the report for JSON."""
        return {
            "machine": dict(self.machine),
            "rows": [row.record() for row in self.rows],
            "profiles": self.profiles,
        }


def measured(
    argv: Sequence[str | Path],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Usage:
    """Run a command to its end and return its cost.

    Raises:
        BuildError: The command failed.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    process.run(argv, env=env, cwd=cwd, log=log)
    wall_s = time.monotonic() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Usage(
        wall_s=wall_s, cpu_s=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    )


def middle(usages: Sequence[Usage]) -> Usage:
    """Return the medians of several."""
    return Usage(
        wall_s=median(usage.wall_s for usage in usages),
        cpu_s=median(usage.cpu_s for usage in usages),
    )


def machine() -> dict[str, Any]:
    """Return the properties of this machine."""
    cpus = Path("/proc/cpuinfo").read_text().splitlines()
    model = next(
        (line.partition(":")[2].strip() for line in cpus if line.startswith("model name")),
        platform.machine(),
    )
    release = platform.freedesktop_os_release().get("PRETTY_NAME", "")
    return {
        "cpu": model,
        "cpus": len(os.sched_getaffinity(0)),
        "memory_mib_free": available_memory_mib(),
        "load": round(os.getloadavg()[0], 1),
        "system": release,
        "kernel": platform.release(),
        "python": platform.python_version(),
    }
