"""Choose the QEMU for a machine: this host's, or a newer one (:mod:`~slipway.boot.qemu_tree`).

What goes in: the setting, the accelerator, the version line of the host's QEMU, and the tree's
lock. What comes out: an :class:`Emulator`, with the reason for the choice. Nothing is started or
made here.

Under emulation, QEMU 10 takes 0.7 times the time of 7.2. With KVM there is no such difference.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from slipway.cache import Entry
from slipway.errors import UsageError
from slipway.host.accelerator import Accelerator
from slipway.packages.locked import Lock

__all__ = ["NEW_ENOUGH", "Emulator", "choose", "host_version", "tree_version", "wants_tree"]

#: The first major version with fast emulation.
NEW_ENOUGH: Final = 9
_VERSION: Final = re.compile(r"QEMU emulator version ([0-9]+(?:\.[0-9]+)*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Emulator:
    """A QEMU, the ``host``'s or the ``tree``'s, with its version and the reason for the choice.

    ``tree`` is the archive to unpack, once it is made.
    """

    name: str
    version: str
    reason: str
    accelerator: Accelerator
    tree: Entry | None = None

    @property
    def summary(self) -> str:
        """The version, its origin and the reason, as one line for people."""
        whose = "this host's own" if self.name == "host" else "from a tree of its own"
        return f"{self.version or 'unknown version'}, {whose}: {self.reason}"


def host_version(said: str) -> str:
    """Return the version in the first line of ``qemu-system-... --version``; empty if there is
    none.
    """
    found = _VERSION.match(said)
    return found[1] if found else ""


def tree_version(lock: Lock) -> str:
    """Return QEMU's version from its package's, without epoch, repacking and revision
    (deb-version(7)).
    """
    package = next(package for package in lock.packages if package.name in lock.requested)
    return re.split(r"[+~-]", package.version.partition(":")[2] or package.version)[0]


def _old(version: str) -> bool:
    return bool(version) and int(version.partition(".")[0]) < NEW_ENOUGH


def wants_tree(setting: str, said: str) -> bool:
    """Return True if a tree is an option on this host, with KVM or without."""
    return setting == "tree" or (setting == "auto" and _old(host_version(said)))


def choose(setting: str, accelerator: Accelerator, said: str, lock: Lock | None) -> Emulator:
    """Choose the QEMU for a machine.

    Args:
        setting: auto, host or tree.
        said: The first line of ``--version`` of the host's QEMU.
        lock: The lock of the tree's packages; None if there is none for this host and machine.

    Raises:
        UsageError: The setting is tree, and there is no lock for one.
    """
    own = host_version(said)
    tree = tree_version(lock) if lock else ""
    older = f"it is older than {NEW_ENOUGH}"
    if setting == "tree" and not tree:
        raise UsageError(
            "Slipway has no QEMU of its own for this machine and host",
            hint="export SLIPWAY_QEMU=host",
        )
    if setting != "auto":
        name, reason = setting, f"the setting qemu is {setting}"
    elif accelerator.name == "kvm":
        name, reason = "host", "KVM runs the machines"
    elif not own:
        name, reason = "host", "it does not say its version"
    elif not _old(own):
        name, reason = "host", "it is new enough to emulate fast"
    elif not tree:
        name, reason = "host", f"{older}, but there is no lock of a newer one"
    else:
        name, reason = "tree", f"there is no KVM, and this host's {own} is older than {NEW_ENOUGH}"
    return Emulator(
        name=name, version=tree if name == "tree" else own, reason=reason, accelerator=accelerator
    )
