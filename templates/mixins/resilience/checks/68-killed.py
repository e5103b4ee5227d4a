#!/usr/bin/env python3
# timeout: 160
"""Each daemon is killed (kill -9): it starts again by itself, and listens where it did."""

import pathlib
import re
import subprocess
import time

from slipway_check import PATIENCE

#: For the slowest, of which one run of this check may wait for several.
PATIENCE_S = 150 * PATIENCE


def told(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60).stdout


def show(unit: str, name: str) -> str:
    return told("systemctl", "show", "--property", name, "--value", unit).strip()


def unit_of(process: str) -> str:
    """The service that a process belongs to, by its control group; empty if it is none, or gone."""
    try:
        group = pathlib.Path(f"/proc/{process}/cgroup").read_text()
    except OSError:
        return ""
    found = re.findall(r"/system\.slice/(?:\S*/)?([^/\s]+\.service)", group)
    return found[0] if found else ""


def listening() -> dict[str, set[str]]:
    """By service, where it listens for TCP."""
    found: dict[str, set[str]] = {}
    for line in told("ss", "-Hltnp").splitlines():
        for unit in {unit_of(process) for process in re.findall(r"pid=(\d+)", line)} - {""}:
            if not unit.startswith("systemd-"):
                found.setdefault(unit, set()).add(line.split()[3])
    return found


def services() -> list[str]:
    """The services that the spec enables, and those that listen.

    Without what does its work once, or has none here.
    """
    enabled = {
        path.parent.name.removesuffix(".d")
        for path in pathlib.Path("/etc/systemd/system").glob("*.service.d/10-slipway.conf")
    }
    found = sorted(enabled | set(listening()))
    assert enabled, "this appliance has no service of its own"
    failed = [unit for unit in found if show(unit, "ActiveState") == "failed"]
    assert not failed, f"killed before, and still down: {failed}"
    return [
        unit
        for unit in found
        if show(unit, "ActiveState") != "inactive" and show(unit, "Type") != "oneshot"
    ]


def kill(unit: str) -> float:
    """Kill a service's main process; return how many seconds pass until it is there again."""
    before, instance = listening().get(unit, set()), show(unit, "InvocationID")
    whom = "all" if show(unit, "MainPID") == "0" else "main"
    begun = time.monotonic()
    told("systemctl", "kill", f"--kill-whom={whom}", "--signal=KILL", unit)
    while True:
        state, missing = show(unit, "ActiveState"), before - listening().get(unit, set())
        if state == "active" and show(unit, "InvocationID") != instance and not missing:
            return time.monotonic() - begun
        problem = f"{unit} was killed, and is {state}; it does not listen at {sorted(missing)}"
        assert state != "failed" and time.monotonic() - begun < PATIENCE_S, problem
        time.sleep(0.5)


killed = services()
print(", ".join(f"{unit}: back after {kill(unit):.1f} s" for unit in killed))
assert killed
