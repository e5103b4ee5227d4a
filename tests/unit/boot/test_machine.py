"""A machine's description becomes QEMU's command line, whatever is in it."""

from __future__ import annotations

import base64
import contextlib
import os
import re
import stat
import subprocess
import time
from itertools import pairwise
from pathlib import Path

import pytest

from slipway.boot.machine import (
    MOST_SLOWDOWN,
    Machine,
    Running,
    command,
    firmware_files,
    mac_address,
    make_overlay,
    running,
    unprivileged,
)
from slipway.errors import HostError, UsageError
from slipway.host import process
from slipway.host.accelerator import Accelerator, probe

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
    argv = command(
        machine(disk=Path("/a,b"), console=Path("/c,d"), drives={"s": Path("/e,f")}), [Path("/g,h")]
    )
    assert any(drive.endswith("file=/a,,b") for drive in options(argv, "-drive"))
    assert any(drive.endswith("file=/e,,f") for drive in options(argv, "-drive"))
    assert options(argv, "-chardev") == ["file,id=console,path=/c,,d"]
    assert options(argv, "-smbios") == ["type=11,path=/g,,h"]


#: In QEMU's place: it writes down its command line, the files on it and their modes, and answers
#: the monitor.
RECORDER = """#!/bin/sh
printf '%s\\n' "$@" >"$0.seen"
for word; do
    case $word in *path=/* | *file=/*) ;; *) continue ;; esac
    file=/${word#*=/}
    [ -e "$file" ] || continue
    stat -c '%a %n' "$file" >>"$0.modes"
    cat "$file" >>"$0.told"
    echo >>"$0.told"
done
while read -r _; do echo '{"return": {}}'; done
"""


def test_what_a_machine_is_told_is_in_files_of_this_user_and_on_no_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Credentials, the overlay, the console and the variables of the firmware."""
    qemu = tmp_path / "qemu-system-x86_64"
    qemu.write_text(RECORDER)
    qemu.chmod(0o755)
    monkeypatch.setattr(process, "SYSTEM_PATH", f"{tmp_path}:{process.SYSTEM_PATH}")
    image, disk = tmp_path / "image", tmp_path / "work/disk"
    disk.parent.mkdir()
    process.run(["qemu-img", "create", "-q", "-f", "qcow2", image, "1M"])
    before = os.umask(0)
    try:
        make_overlay(image, disk, size_gib=1)
        described = machine(
            disk=disk,
            console=tmp_path / "console",
            credentials={"slipway.password": b"spied", "x": b"\0,"},
        )
        with running(described, log=tmp_path / "log") as guest:
            guest.ask("query-status")
    finally:
        os.umask(before)
    argv = Path(f"{qemu}.seen").read_text()
    assert "spied" not in argv and base64.b64encode(b"spied").decode() not in argv
    modes = [line.split(maxsplit=1) for line in Path(f"{qemu}.modes").read_text().splitlines()]
    assert len(modes) == 4
    assert {mode for mode, _ in modes} == {"600"}, modes
    told = Path(f"{qemu}.told").read_bytes()
    assert b"io.systemd.credential.binary:slipway.password=c3BpZWQ=\n" in told
    assert b"io.systemd.credential.binary:x=ACw=\n" in told
    assert not list(disk.parent.glob("credentials-*"))


def test_qemu_may_do_no_more_than_it_needs() -> None:
    assert options(command(machine()), "-sandbox") == [
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="not root")
def test_root_gives_its_rights_away(tmp_path: Path) -> None:
    disk, console = tmp_path / "disk", tmp_path / "console"
    process.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "1M"])
    with running(
        machine(disk=disk, console=console, memory_mib=64, cpus=1), log=tmp_path / "log"
    ) as guest:
        guest.ask("cont")
        status = Path(f"/proc/{guest.qemu.pid}/status").read_text()
        for line in ("Uid", "Gid"):
            assert re.search(rf"^{line}:(\t{0x70000000}){{4}}$", status, re.MULTILINE), status
        assert re.search(r"^CapEff:\t0+$", status, re.MULTILINE), status
        assert "Seccomp:\t2\n" in status
        guest.reset()
        assert guest.ask("query-status")["running"]


def test_a_newer_qemu_is_told_in_its_words(tmp_path: Path) -> None:
    for words, option in (
        ("-run-with [async-teardown=on|off][,chroot=dir]", "-runas"),
        ("-run-with [chroot=dir][user=name|uid:gid]", "-run-with"),
    ):
        qemu = tmp_path / option
        qemu.write_text(f"#!/bin/sh\necho '{words}'\n")
        qemu.chmod(0o755)
        assert option in unprivileged(str(qemu))


def test_a_console_that_is_a_link_is_replaced(tmp_path: Path) -> None:
    other, console, disk = tmp_path / "other", tmp_path / "console", tmp_path / "disk"
    other.write_text("mine")
    console.symlink_to(other)
    process.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "1M"])
    with running(
        machine(disk=disk, console=console, memory_mib=64, cpus=1), log=tmp_path / "log"
    ) as guest:
        # The kernel filters this program's system calls (proc_pid_status(5): 2 is a filter).
        names = [
            path
            for path in Path("/proc").glob("[0-9]*/cmdline")
            if f"path={console}".encode() in path.read_bytes()
        ]
        assert "Seccomp:\t2\n" in (names[0].parent / "status").read_text()
        assert guest.ended is None
    assert other.read_text() == "mine"
    assert stat.S_IMODE(console.lstat().st_mode) == 0o600


def test_secure_boot_locks_the_variables() -> None:
    argv = command(machine(firmware="secureboot", variables=Path("/v")))
    assert options(argv, "-machine") == ["q35,smm=on"]
    assert "driver=cfi.pflash01,property=secure,value=on" in options(argv, "-global")
    assert "-global" not in command(machine(firmware="uefi", variables=Path("/v")))


def test_what_there_is_not_is_said(tmp_path: Path) -> None:
    with (
        pytest.raises(
            UsageError,
            match='there is no firmware "coreboot"\n  hint: choose from: bios, uefi, secureboot',
        ),
        running(machine(firmware="coreboot"), log=tmp_path / "log"),
    ):
        pass
    with pytest.raises(
        HostError,
        match=(
            "there is no secureboot firmware for arm64\n"
            "  hint: sudo apt-get install qemu-efi-aarch64"
        ),
    ):
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
    with running(
        machine(disk=disk, console=console, memory_mib=64, cpus=1), log=tmp_path / "log"
    ) as guest:
        assert guest.ended is None
        assert guest.ask("query-status")["running"] is True
        with pytest.raises(OSError, match="QEMU: The command nonsense has not been found"):
            guest.ask("nonsense")
        # There is nothing that would restart it, and its BIOS, which would, stands still.
        guest.ask("stop")
        assert guest.reboot(0.5) is False
        guest.ask("cont")
        guest.ask("system_reset")
        assert guest.ask("query-status")["running"] is True
    assert guest.qemu.returncode is not None
    with pytest.raises((OSError, ValueError)):
        guest.ask("query-status")


@pytest.mark.parametrize(("event", "restarted"), [("RESET", True), ("SHUTDOWN", False)])
def test_a_machine_has_restarted_when_qemu_says_so(event: str, restarted: bool) -> None:
    answers = """'{"return": {}}' '{"return": {}}'"""
    said = f"""printf '%s\\n' {answers} '{{"event": "{event}"}}'; exec sleep 60"""
    with process.spawn(["sh", "-c", said], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as qemu:
        assert Running(qemu).reboot(1) is restarted


def test_a_host_that_got_work_lately_is_as_slow_as_it_is_now(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An hour without other work says nothing about the next minute, and a busy start is not
    forgotten.
    """
    with process.spawn(["sleep", "60"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as qemu:
        guest = Running(qemu)
        found = []
        for ran_s, waited_s in [
            (0.5, 9),
            (1, 29),
            (2000, 30),
            (2001, 31),
            (2010, 51),
            (2015, 100),
            (2020, 100),
            (2030, 100),
        ]:
            monkeypatch.setattr(
                "slipway.boot.machine._scheduled",
                lambda _, ran_s=ran_s, waited_s=waited_s: (ran_s * 10**9, waited_s * 10**9),
            )
            found.append(round(guest.slowdown, 2))
    assert found == [1, 4, 1.01, 1.02, 3.1, 4, 4, 1.05]


@pytest.mark.integration
def test_a_machine_that_waits_for_its_processor_is_given_more_time() -> None:
    """Three that need all of one processor take three times as long.

    One that sleeps is as fast as ever.
    """
    busy = ["sh", "-c", "while :; do :; done"]
    with contextlib.ExitStack() as stack:
        many = [
            stack.enter_context(process.spawn(busy, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
            for _ in range(3)
        ]
        idle = stack.enter_context(
            process.spawn(["sleep", "60"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        )
        for each in many:
            os.sched_setaffinity(each.pid, {min(os.sched_getaffinity(0))})
        guest = Running(many[0])
        until = time.monotonic() + 60
        while guest.slowdown < 2 and time.monotonic() < until:
            time.sleep(0.2)
        assert 2 <= guest.slowdown <= MOST_SLOWDOWN
        assert Running(idle).slowdown == 1


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
        guest.patience_s = 0.5 if "does not answer" in problem else 60
        with pytest.raises(OSError) as caught:
            guest.ask("query-status")
        assert str(caught.value) == problem
