"""A machine's description becomes QEMU's command line, whatever is in it."""

from __future__ import annotations

import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from slipway import process
from slipway.accelerator import Accelerator, probe
from slipway.boot.machine import Machine, Running, command, firmware_files, mac_address, running
from slipway.errors import HostError, UsageError

TCG = Accelerator(name="tcg", reason="")


def machine(**more: object) -> Machine:
    description: dict[str, object] = {
        "architecture": "amd64",
        "system": "x86_64",
        "machine": "q35",
        "cpus": 2,
        "memory_mib": 1024,
        "disk": Path("/d/disk.qcow2"),
        "firmware": "bios",
        "accelerator": TCG,
        "console": Path("/d/console"),
    }
    return Machine(**(description | more))  # type: ignore[arg-type]


def options(argv: list[str], name: str) -> list[str]:
    """The values of every option of a name."""
    return [value for option, value in pairwise(argv) if option == name]


def test_a_machine_without_kvm_is_emulated_by_several_threads() -> None:
    argv = command(machine())
    assert argv[0] == "qemu-system-x86_64"
    assert options(argv, "-accel") == ["tcg,thread=multi"]
    assert options(argv, "-cpu") == ["max"]
    assert options(argv, "-smp") == ["2"]
    assert options(argv, "-m") == ["1024"]
    argv = command(machine(accelerator=Accelerator(name="kvm", reason="")))
    assert options(argv, "-accel") == ["kvm"]
    assert options(argv, "-cpu") == ["host"]


def test_each_interface_has_its_own_address() -> None:
    argv = command(machine(networks=("tap,ifname=a", "user,restrict=on")))
    assert options(argv, "-netdev") == ["tap,ifname=a,id=net0", "user,restrict=on,id=net1"]
    cards = [device for device in options(argv, "-device") if device.startswith("virtio-net")]
    assert [mac_address(number) in card for number, card in enumerate(cards)] == [True, True]
    assert mac_address(0) != mac_address(1)


def test_commas_in_paths_and_credentials_arrive() -> None:
    argv = command(machine(disk=Path("/a,b"), console=Path("/c,d"), credentials={"x": b"\0,"}, drives={"s": Path("/e,f")}))
    assert any(drive.endswith("file=/a,,b") for drive in options(argv, "-drive"))
    assert any(drive.endswith("file=/e,,f") for drive in options(argv, "-drive"))
    assert options(argv, "-chardev") == ["file,id=console,path=/c,,d"]
    assert options(argv, "-smbios") == ["type=11,value=io.systemd.credential.binary:x=ACw="]


def test_secure_boot_locks_the_variables() -> None:
    argv = command(machine(firmware="secureboot", variables=Path("/v")))
    assert options(argv, "-machine") == ["q35,smm=on"]
    assert "driver=cfi.pflash01,property=secure,value=on" in options(argv, "-global")
    assert "-global" not in command(machine(firmware="uefi", variables=Path("/v")))


def test_what_there_is_not_is_said(tmp_path: Path) -> None:
    with (
        pytest.raises(UsageError, match='there is no firmware "coreboot"\n  hint: there is: bios, uefi, secureboot'),
        running(machine(firmware="coreboot"), log=tmp_path / "log"),
    ):
        pass
    with pytest.raises(HostError, match="there is no secureboot firmware for arm64\n  hint: sudo apt-get install qemu-efi-aarch64"):
        firmware_files("arm64", "secureboot")


def test_a_guest_for_another_processor_is_emulated() -> None:
    verdict = probe("riscv64")
    assert verdict.name == "tcg"
    assert verdict.reason.startswith("a guest for riscv64 on ")


def test_this_host_has_a_verdict_with_a_reason() -> None:
    verdict = probe()
    assert verdict.name in ("kvm", "tcg")
    assert verdict.reason
    assert (verdict.name == "kvm") == (0 < verdict.seconds <= 0.02)


def test_a_machine_without_a_system_ends_when_the_block_does(tmp_path: Path) -> None:
    disk, console = tmp_path / "disk.qcow2", tmp_path / "console"
    process.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "1M"])
    with running(machine(disk=disk, console=console, memory_mib=64, cpus=1), log=tmp_path / "log") as guest:
        assert guest.ended is None
        assert guest.ask("query-status")["running"] is True
        with pytest.raises(OSError, match="QEMU: The command nonsense has not been found"):
            guest.ask("nonsense")
        # There is nothing that would restart it.
        assert guest.reboot(0.5) is False
        guest.ask("system_reset")
        assert guest.ask("query-status")["running"] is True
    assert guest.qemu.returncode is not None
    with pytest.raises((OSError, ValueError)):
        guest.ask("query-status")


@pytest.mark.parametrize(("event", "restarted"), [("RESET", True), ("SHUTDOWN", False)])
def test_a_machine_has_restarted_when_qemu_says_so(event: str, restarted: bool) -> None:
    said = f"""printf '%s\\n' '{{"return": {{}}}}' '{{"return": {{}}}}' '{{"event": "{event}"}}'; exec sleep 60"""
    with process.spawn(["sh", "-c", said], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as qemu:
        assert Running(qemu).reboot(1) is restarted


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ("sleep 60", "QEMU is gone, or does not answer"),
        ("exec 0<&-; sleep 60", "QEMU is gone, or does not answer"),
        ("exit 1", "QEMU is gone, or does not answer"),
        ("""yes '{"event": "RTC_CHANGE"}'""", "QEMU is gone, or does not answer"),
        ("cat /dev/zero", "QEMU wrote a line of more than 1 MiB"),
        ("echo nonsense; exec sleep 60", "QEMU wrote b'nonsense'"),
        ("echo 5; exec sleep 60", "QEMU wrote b'5'"),
    ],
)
def test_a_monitor_that_never_answers_is_given_up(said: str, problem: str) -> None:
    with process.spawn(["sh", "-c", said], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as qemu:
        guest = Running(qemu)
        guest.patience_s = 0.5
        with pytest.raises(OSError) as caught:
            guest.ask("query-status")
        assert str(caught.value) == problem
