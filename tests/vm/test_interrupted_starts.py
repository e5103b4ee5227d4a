"""Starts that are cut off or find damage: no power cut and no broken directory may lock people out
for good.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from once_more import once_more
from slipway import pipeline
from slipway.boot.delivery import parameter_credentials, parameter_values
from slipway.boot.lab import lab
from slipway.boot.machine import Machine, Running, make_overlay, running
from slipway.boot.results import Died
from slipway.host import process
from slipway.host.accelerator import probe
from slipway.job import Job, Workshop, prepare
from slipway.terminal.progress import Progress

pytestmark = [pytest.mark.vm, pytest.mark.nightly]

ROOT = Path(__file__).parents[2]
SHOP = Workshop(root=ROOT, progress=Progress(quiet=True))
#: What first boot says on the console: of its first script, and at its end.
BEGUN, ENDED, FAILED = (
    "first boot: 10-",
    "first boot: this appliance is set up",
    "FIRST BOOT FAILED",
)
#: How long a start may take, in seconds.
PATIENCE_S = 900
#: Seconds after the beginning of first boot's own script, by a machine of full speed.
MOMENTS_S = (0.1, 0.5, 1.2, 2.5)


def built(name: str) -> tuple[Job, Path]:
    """An appliance of this checkout and its disk."""
    job = prepare(
        SHOP, SHOP.library.load(name), builder="mmdebstrap", architecture="amd64", formats=["qcow2"]
    )
    pipeline.build(SHOP, job, boot=False)
    return job, pipeline.built_image(SHOP, job)


@contextlib.contextmanager
def started(job: Job, disk: Path, folder: Path) -> Iterator[tuple[Running, Path]]:
    """The machine on its own disk, and its console's log."""
    spec = job.source.appliance.spec
    console = folder / "console.log"
    console.write_bytes(b"")
    with lab(
        [interface.name for interface in spec.interfaces], log=folder / "network.log"
    ) as network:
        machine = Machine.for_base(
            job.source.appliance.base,
            job.architecture,
            cpus=2,
            memory_mib=spec.resources.memory_mib,
            disk=disk,
            firmware="bios",
            accelerator=probe(job.architecture),
            console=console,
            networks=network.networks(),
            credentials=parameter_credentials(spec.parameters, parameter_values(spec.parameters)),
        )
        with running(machine, enter=network.enter, log=folder / "qemu.log") as guest:
            yield guest, console


def heard(guest: Running, console: Path, since: int, *words: str) -> str:
    """The first of some words that the console says after an offset.

    Raises:
        Died: QEMU ended, or nothing of it was said.
    """
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until and guest.ended is None:
        said = console.read_bytes()[since:].decode(errors="replace")
        found = [word for word in words if word in said]
        if found:
            return found[0]
        time.sleep(0.05)
    ended = (
        f"not heard for {PATIENCE_S} s"
        if guest.ended is None
        else f"QEMU ended with status {guest.ended}"
    )
    raise Died(f"{' or '.join(words)}: {ended}\n{process.tail(console, 40)}")


@pytest.mark.timeout(3000)
@pytest.mark.parametrize("name", SHOP.library.names())
def test_first_boot_ends_well_after_power_cuts_at_four_of_its_moments(
    name: str, tmp_path: Path
) -> None:
    job, image = built(name)
    if not job.source.appliance.firstboot:
        pytest.skip("it has no first boot of its own")
    disk = tmp_path / "disk.qcow2"
    factor = 1 if probe(job.architecture).name == "kvm" else 4

    def cut_and_end() -> tuple[int, str]:
        make_overlay(image, disk, size_gib=job.source.appliance.spec.resources.disk_gib)
        cuts = 0
        with started(job, disk, tmp_path) as (guest, console):
            since = 0
            for moment in MOMENTS_S:
                if heard(guest, console, since, BEGUN, ENDED, FAILED) == ENDED:
                    break
                time.sleep(moment * factor)
                guest.reset()
                cuts += ENDED not in console.read_text(errors="replace")[since:]
                since = console.stat().st_size
            return cuts, heard(guest, console, since, FAILED, ENDED) + process.tail(console, 30)

    cuts, said = once_more(cut_and_end)
    assert said.startswith(ENDED), said
    assert cuts, "no power cut came before first boot had ended"


@pytest.mark.timeout(1800)
def test_a_root_with_errors_is_repaired_and_starts(tmp_path: Path) -> None:
    """Directory entries that are lost and the file system's error flag: what `e2fsck -p` does not
    mend by itself.
    """
    job, image = built(SHOP.library.names()[0])
    disk = tmp_path / "disk.raw"
    process.run(["qemu-img", "convert", "-O", "raw", image, disk])
    table = process.run(["sfdisk", "--dump", disk], stdout=subprocess.PIPE).stdout.decode()
    starts = [
        int(line.partition("start=")[2].split(",")[0]) * 512
        for line in table.splitlines()
        if "start=" in line
    ]
    root = f"{disk}?offset={max(starts)}"
    for request in ("unlink /usr/bin/apt", "unlink /usr/share/keyrings", "set_super_value state 2"):
        process.run(["debugfs", "-w", "-R", request, root])
    copy = tmp_path / "copy.raw"
    shutil.copyfile(disk, copy)
    tried = subprocess.run(
        ["e2fsck", "-p", f"{copy}?offset={max(starts)}"],
        capture_output=True,
        check=False,
        timeout=300,
    )
    assert tried.returncode & 4, tried.stdout
    copy.unlink()
    overlay, damaged = tmp_path / "disk.qcow2", tmp_path / "damaged.qcow2"
    process.run(["qemu-img", "convert", "-O", "qcow2", disk, damaged])

    def start() -> str:
        make_overlay(damaged, overlay, size_gib=job.source.appliance.spec.resources.disk_gib)
        with started(job, overlay, tmp_path) as (guest, console):
            # systemd starts a system again whose root was repaired
            guest.ask("set-action", reboot="reset")
            return heard(guest, console, 0, "emergency mode", "Emergency Mode", ENDED)

    assert once_more(start) == ENDED
