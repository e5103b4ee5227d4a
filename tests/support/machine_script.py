"""An appliance's machine that runs a script of a test, as the pipeline runs an acceptance check."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from once_more import once_more
from slipway.boot.checks import systemd_version
from slipway.boot.delivery import PORT, Delivery, deliver
from slipway.boot.lab import GATEWAY, lab
from slipway.boot.machine import Machine, running
from slipway.boot.report import CheckResult
from slipway.boot.results import Reported, follow
from slipway.boot.trial import expected_in_guest
from slipway.cache import sha256_of
from slipway.host import process
from slipway.host.accelerator import probe
from slipway.job import Job
from slipway.spec.checks import Check

__all__ = ["run_once"]


def run_once(job: Job, disk: Path, work: Path, script: str, serve: Path | None = None) -> None:
    """Start the machine on its disk, and have one script pass in it, once; ``serve`` is a folder
    for a web server beside it.

    A machine that dies is started once more, from the disk as it was before.
    """
    appliance, lock = job.source.appliance, job.source.lock
    check = work / "10-script.sh"
    check.write_text(script)
    checked = replace(
        appliance,
        checks=(
            Check(
                name=check.name, path=check, place="guest", timeout_s=300, sha256=sha256_of(check)
            ),
        ),
    )
    delivery = deliver(checked, systemd_version(lock), {}, 1 if probe().name == "kvm" else 4, work)
    before = disk.with_suffix(".before")
    shutil.copyfile(disk, before)

    def start() -> list[CheckResult]:
        shutil.copyfile(before, disk)
        return _results(job, disk, work, delivery, expected_in_guest(checked), serve)

    failed = [f"{each.name}: {each.output}" for each in once_more(start) if not each.passed]
    assert not failed, "\n".join(failed) + process.tail(work / "console.log")


def _results(
    job: Job,
    disk: Path,
    work: Path,
    delivery: Delivery,
    expected: Sequence[str],
    serve: Path | None,
) -> list[CheckResult]:
    """Start the machine, and switch it off when its checks have ended.

    Raises:
        Died: It died before they had.
    """
    results, console = work / "results", work / "console.log"
    results.write_bytes(b"")
    with lab(["outside"], log=work / "network.log") as network, contextlib.ExitStack() as stack:
        if serve:
            server: list[str | Path] = [
                sys.executable,
                "-m",
                "http.server",
                "8000",
                "--bind",
                GATEWAY,
                "--directory",
                serve,
            ]
            stack.enter_context(process.spawn([*network.enter, *server]))
        machine = Machine.for_base(
            job.source.appliance.base,
            job.source.lock.architecture,
            cpus=2,
            memory_mib=1024,
            disk=disk,
            firmware="bios",
            accelerator=probe(),
            console=console,
            networks=network.networks(),
            credentials=delivery.credentials,
            drives=delivery.drives,
            ports={PORT: results},
        )
        with running(machine, enter=network.enter, log=work / "qemu.log") as guest:
            reported = Reported(expected=expected)
            found = list(follow(guest, results, console, reported, start_s=420, check_s=1300))
            assert guest.power_off(120)
    return found
