"""The newest builds of appliances -> docs/appliances.md: purpose, size, needs and ports of each, as
measured by its own build.

Sizes are those of the built image. Memory and time to start are from the report of its boot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway.errors import BuildError
from slipway.formats import smallest
from slipway.job import BOOTED, Job, Workshop
from slipway.outputs import finished
from slipway.terminal.progress import size
from slipway.workflows.inspection import raw_disk

if TYPE_CHECKING:
    from slipway.records.manifest import Manifest

__all__ = ["Row", "overview", "page"]

_HEAD = """\
# Appliances

What `./run build --all` made and `./run appliances` wrote. Download: the smallest disk \
image. Installed: what its files take.
Memory: in use when all services run and nobody asks anything; start: until checks could run; \
both {machine}.

| appliance | version | packages | download | installed | memory | start | ports |
|-|-|-|-|-|-|-|-|
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One appliance.

    Sizes are in bytes, ``start_s`` is in seconds; memory and start are None if they were not
    measured.
    """

    name: str
    summary: str
    version: str
    packages: int
    download: int
    installed: int
    memory_mib: int | None
    start_s: float | None
    accelerator: str
    ports: tuple[str, ...]


def overview(shop: Workshop, jobs: Sequence[Job]) -> list[Row]:
    """Return a row for each appliance.

    Raises:
        BuildError: Some have no up-to-date build with passed checks; all of them are named.
    """
    from slipway.records.release import read_release

    folders = {job.name: finished(job, boot=True) for job in jobs}
    missing = [name for name, folder in folders.items() if folder is None]
    if missing:
        raise BuildError(
            f"not up to date: {', '.join(missing)}",
            hint=f"run: invoke build {' '.join(missing)}",
        )
    return [
        _row(shop, job, read_release(folder).manifest, folder)
        for job in jobs
        if (folder := folders[job.name])
    ]


def _row(shop: Workshop, job: Job, manifest: Manifest, folder: Path) -> Row:
    images = {artifact.format: artifact for artifact in manifest.artifacts}
    with raw_disk(shop, folder / images[BOOTED].file) as raw:
        installed = raw.stat().st_blocks * 512
    boot = manifest.boot or {}
    return Row(
        name=job.name,
        summary=manifest.summary,
        version=manifest.version,
        packages=len(job.source.lock.all_packages),
        download=smallest(manifest.artifacts),
        installed=installed,
        memory_mib=boot.get("memory_mib"),
        start_s=boot["attempts"][-1]["started_s"] if boot.get("attempts") else None,
        accelerator=str(boot.get("accelerator", "")),
        ports=tuple(_port(port) for port in manifest.ports),
    )


def _port(port: Mapping[str, Any]) -> str:
    """Return a port, or a range of them, with its protocol."""
    numbers = [str(port[key]) for key in ("port", "last") if key in port]
    return f"{'-'.join(numbers)}/{port['protocol']}"


def page(rows: Sequence[Row]) -> str:
    """Return the page; it ends with a newline."""
    machines = {
        "kvm": "on a machine with KVM",
        "tcg": "on a machine without KVM, emulated, which takes several times as long",
    }
    machine = " and ".join(sorted({machines.get(row.accelerator, "unknown") for row in rows}))
    lines = [
        f"| [{row.name}](../appliances/{row.name}/README.md): {row.summary} | {row.version} | "
        f"{row.packages} | {size(row.download)} | {size(row.installed)} | "
        f"{'-' if row.memory_mib is None else f'{row.memory_mib} MiB'} | "
        f"{'-' if row.start_s is None else f'{row.start_s:.0f} s'} | {', '.join(row.ports)} |\n"
        for row in rows
    ]
    return _HEAD.format(machine=machine) + "".join(lines)
