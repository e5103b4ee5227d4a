"""Slipway's needs of this host -> findings, each with a command to fix it.

What goes in: the workshop of a command. What comes out: findings, in the order to fix them. Nothing
is changed, and each need is tried rather than guessed.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from slipway.boot.emulator import choose
from slipway.boot.machine import firmware_files
from slipway.errors import HostError, SpecErrors, UserError
from slipway.host.accelerator import Accelerator, probe
from slipway.host.namespace import MOUNT, Namespace, available_memory_mib
from slipway.host.process import find_tool
from slipway.host.programs import programs
from slipway.job import Workshop, host_qemu, tree_of_qemu
from slipway.terminal.progress import size
from slipway.tools import tool_version

__all__ = ["Finding", "examine"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One result.

    ``state`` is ok, missing (a build fails) or limited (something else fails or is slower).
    """

    name: str
    state: str
    detail: str
    hint: str = ""

    @property
    def line(self) -> str:
        """The text for people."""
        mark = {"ok": "ok     ", "missing": "MISSING", "limited": "limited"}[self.state]
        return f"{mark}  {self.name:<18} {self.detail}" + (
            f"\n{'':<28}-> {self.hint}" if self.hint else ""
        )

    @property
    def record(self) -> dict[str, Any]:
        """The fields for programs."""
        return asdict(self)


def examine(shop: Workshop) -> tuple[Finding, ...]:
    """Examine everything."""
    return tuple(_findings(shop))


def _findings(shop: Workshop) -> Iterator[Finding]:
    yield Finding(name="python", state="ok", detail=platform.python_version())
    for program in programs("build"):
        yield _try(program.name, partial(_program, program.name))
    yield _try("packer", _packer, state="limited")
    yield _try("namespaces", _namespaces)
    yield _try("network", _tun, state="limited")
    for firmware in ("uefi", "secureboot"):
        yield _try(f"firmware {firmware}", partial(_firmware, firmware), state="limited")
    accelerator = probe()
    slow = "" if accelerator.name == "kvm" else "checks take several times as long as with KVM"
    yield Finding(
        name="accelerator",
        state="ok" if not slow else "limited",
        detail=f"{accelerator.name}: {accelerator.reason}",
        hint=slow,
    )
    yield _try("qemu", partial(_qemu, shop, accelerator), state="limited")
    memory = available_memory_mib()
    low = "builds work on disk instead, which is slower" if memory < 3072 else ""
    yield Finding(
        name="memory",
        state="limited" if low else "ok",
        detail=f"{size(memory * 2**20)} available",
        hint=low,
    )
    settings = _try("slipway.toml", lambda: _settings(shop))
    if settings.state != "ok":
        yield settings
        return
    yield _try("disk", lambda: _space(shop.settings.cache))
    yield _try("mirrors", lambda: _listed(shop.mirrors))
    public = "the public ones that Debian's cloud-init names"
    yield Finding(
        name="image mirrors", state="ok", detail=_listed(shop.settings.image_mirror) or public
    )
    yield _try("store", lambda: _store(shop.store), state="limited")


def _settings(shop: Workshop) -> str:
    """Read slipway.toml and the variables; later findings depend on them.

    Raises:
        HostError: A setting is wrong.
    """
    try:
        return str(shop.settings.cache)
    except SpecErrors as error:
        raise HostError(
            f"{error.message}: the lines below", hint="do so, and run doctor again"
        ) from error


def _listed(mirrors: Mapping[str, str]) -> str:
    return ", ".join(f"{archive}: {uri}" for archive, uri in mirrors.items())


def _try(name: str, look: Callable[[], str], *, state: str = "missing") -> Finding:
    """Return the result of a look, or its error as a finding."""
    try:
        return Finding(name=name, state="ok", detail=look())
    except UserError as error:
        return Finding(name=name, state=state, detail=error.message, hint=error.hint or "")


def _program(name: str) -> str:
    """Return a program's version line, or its path if it has none."""
    said = tool_version(name)
    return find_tool(name) if said.startswith("sha256 ") else said


def _qemu(shop: Workshop, accelerator: Accelerator) -> str:
    """Return the QEMU for machines, and the reason."""
    tree = tree_of_qemu(shop, "x86_64")
    chosen = choose(
        shop.settings.qemu, accelerator, host_qemu(shop, "x86_64"), tree[0] if tree else None
    )
    made = chosen.name == "host" or tree is None or shop.cache.find(tree[1].id)
    return chosen.summary if made else f"{chosen.summary} (the first check makes it)"


def _firmware(firmware: str) -> str:
    return str(firmware_files("amd64", firmware)[0])


def _namespaces() -> str:
    """Make a namespace with an overlay in it, as a build does."""
    with Namespace(network=True, memory_mib=16) as namespace:
        point = namespace.path(MOUNT)
        for folder in ("lower", "upper", "work", "point"):
            (point / folder).mkdir()
        option = ",userxattr" if os.geteuid() else ""
        namespace.run(
            [
                "mount",
                "-t",
                "overlay",
                "try",
                "/mnt/point",
                "-o",
                f"lowerdir=/mnt/lower,upperdir=/mnt/upper,workdir=/mnt/work{option}",
            ],
            what="mounting an overlay",
        )
    return "as root" if os.geteuid() == 0 else "without root, in a user namespace"


def _packer() -> str:
    from slipway.builders.packer import require_packer

    return f"Packer {'.'.join(map(str, require_packer()))}, for builds with --builder packer"


def _tun() -> str:
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        raise HostError(
            "/dev/net/tun cannot be opened: images cannot be checked",
            hint="sudo modprobe tun; sudo chmod 666 /dev/net/tun",
        )
    return "/dev/net/tun"


def _space(cache: Path) -> str:
    """Return the free space at the place of the cache, existing or not.

    Raises:
        HostError: Less than 4 GiB are free.
    """
    place = next(folder for folder in (cache, *cache.parents) if folder.exists())
    free = shutil.disk_usage(place).free
    if free < 4 * 2**30:
        raise HostError(
            f"{size(free)} free in {place}",
            hint="free some space, or set SLIPWAY_CACHE to another directory",
        )
    return f"{size(free)} free in {place}"


def _store(url: str) -> str:
    from slipway.stores import open_store

    open_store(url)
    return url
