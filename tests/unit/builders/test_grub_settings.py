"""The first grub.cfg: its kernel, and texts of the tree in which characters mean nothing."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

CHROOT = Path(__file__).parents[3] / "templates/mmdebstrap/chroot.sh"


def written(tmp_path: Path, cmdline: str, kernels: list[str]) -> str:
    """Return the file that is made for a tree with this command line and these kernels."""
    tree = tmp_path / "tree"
    (tree / "boot/grub").mkdir(parents=True)
    (tree / "etc/default").mkdir(parents=True)
    for kernel in kernels:
        (tree / f"boot/vmlinuz-{kernel}").touch()
    (tree / "etc/default/grub").write_text(
        f"GRUB_CMDLINE_LINUX='{cmdline}'\nGRUB_CMDLINE_LINUX_DEFAULT=quiet\n"
    )
    template = tmp_path / "grub.cfg"
    template.write_text(
        "set timeout=@TIMEOUT@\nlinux /boot/vmlinuz-@VERSION@ ro \\x @CMDLINE@\n"
        "initrd /boot/initrd.img-@VERSION@\n"
    )
    script = tmp_path / "script"
    script.write_text(f"{CHROOT.read_text()}\nwrite_grub_cfg {tree} {template}\n")
    subprocess.run(["sh", "-eu", script], check=True, timeout=60)
    return (tree / "boot/grub/grub.cfg").read_text()


@pytest.mark.parametrize(
    "cmdline",
    [
        "console=ttyS0",
        "a=x&y",
        "a=x|y",
        r"a=\1",
        "a=/b/*?[c]",
        "a=@VERSION@ b=@CMDLINE@ c=@TIMEOUT@",
        "a=$b `c`",
    ],
)
def test_the_command_line_is_taken_as_it_is(tmp_path: Path, cmdline: str) -> None:
    expected = (
        f"set timeout=1\nlinux /boot/vmlinuz-6.12.9 ro \\x {cmdline} quiet\n"
        "initrd /boot/initrd.img-6.12.9\n"
    )
    assert written(tmp_path, cmdline, ["6.12.9"]) == expected


def test_the_newest_of_several_kernels_is_started(tmp_path: Path) -> None:
    assert "vmlinuz-6.12.10 " in written(tmp_path, "", ["6.12.9", "6.12.10", "6.1.99"])
