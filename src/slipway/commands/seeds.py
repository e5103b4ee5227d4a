"""A download with values of its own: the seed of ``fetch``, and the files of ``verify``.

What goes in: words of a command line, manifests, and a session. What comes out: a seed beside its
image, lines about both, and records. No line shows a value.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from slipway.commands.channel_shapes import VerifiedFile
from slipway.commands.records import seed_record

if TYPE_CHECKING:
    from slipway.channels.session import Session
    from slipway.seeds.seed import Seed
    from slipway.terminal.progress import Progress

__all__ = ["about_seed", "attaching", "is_file_word", "verify_files"]

_PROXMOX: Final = (
    "Proxmox VE: cp {seed} /var/lib/vz/template/iso/; qm set ID --ide2 local:iso/{name},media=cdrom"
)
#: How the platforms of a format attach a CD, by format; ``{seed}`` is the file.
_ATTACHING: Final[Mapping[str, Sequence[str]]] = {
    "qcow2": (
        "virt-install: --disk {seed},device=cdrom",
        "QEMU: -drive file={seed},media=cdrom,format=raw,readonly=on",
        _PROXMOX,
    ),
    "proxmox": (_PROXMOX,),
    "raw": ("QEMU: -drive file={seed},media=cdrom,format=raw,readonly=on",),
    "libvirt": (
        "libvirt: virsh attach-disk NAME {seed} sdz --type cdrom --mode readonly --config",
    ),
    "ova": (
        "VirtualBox: VBoxManage storageattach NAME --storagectl CONTROLLER --port 1 --device 0 "
        "--type dvddrive --medium {seed}",
        "VMware: upload it to a datastore, and connect it as the machine's CD/DVD drive",
    ),
    "vmdk": ("VMware: upload it to a datastore, and connect it as the machine's CD/DVD drive",),
    "vhdx": ("Hyper-V: Add-VMDvdDrive -VMName NAME -Path {seed}",),
}
_ELSEWHERE: Final = ("attach it as a CD: {seed}",)


def about_seed(seed: Seed) -> str:
    """Return a line with a seed's release and the names of its parameters."""
    names = [f"{name} (secret)" if name in seed.secrets else name for name in seed.names]
    return f"seed {seed.id} for {seed.appliance} {seed.release} sets: {', '.join(names)}"


def attaching(form: str, path: Path) -> list[str]:
    """Say how to give a machine a seed at its first start."""
    lines = _ATTACHING.get(form, _ELSEWHERE)
    return [line.format(seed=shlex.quote(str(path)), name=shlex.quote(path.name)) for line in lines]


def is_file_word(word: str) -> bool:
    """Return True if a word of ``verify`` is a file: no channel's name has these characters."""
    return "/" in word or "." in word


def verify_files(
    session: Session, paths: Sequence[Path], progress: Progress
) -> tuple[list[VerifiedFile], list[str], list[str]]:
    """Compare files with the channels' lists.

    Returns:
        The right files, a line for each finding, and the problems.

    Raises:
        UsageError: A file does not exist.
        HostError: No channel is trusted here.
    """
    from slipway.errors import VerificationError
    from slipway.workflows.downloads import known_releases, look_at, require_files

    require_files(paths)
    right: list[VerifiedFile] = []
    lines: list[str] = []
    problems: list[str] = []
    known = known_releases(session)
    for path in paths:
        try:
            with progress.step("verify") as step:
                step.detail = path.name
                found = look_at(session, known, path)
        except VerificationError as error:
            problems.append(error.message)
            continue
        record = seed_record(found.seed_path, found.seed) if found.seed else None
        right.append(
            VerifiedFile(
                path=str(path),
                appliance=found.appliance,
                release=found.release,
                channels=found.channels,
                seed=record,
            )
        )
        listed = f"release {found.release} of {found.appliance} ({', '.join(found.channels)})"
        if path != found.seed_path:
            lines.append(f"{path}: {listed}, {'seed changed' if found.seed else 'no seed'}")
        if found.seed:
            lines.append(f"{found.seed_path}: {about_seed(found.seed)}")
    return right, lines, problems
