"""The network around machines that are checked: who is connected to whom."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from slipway.boot import scan
from slipway.boot.lab import ADDRESS, GATEWAY, Lab, address, lab
from slipway.host import process

MACHINE = Path(__file__).parents[1] / "support/tap_machine.py"
#: The machine's address on its link, as the file says.
MAC = "52:54:00:77:00:01"


def run(network: Lab, interface: str, *argv: str) -> str:
    """What a command on the far side of an interface prints."""
    return process.run([*network.client(interface), *argv]).stdout.decode()


def test_every_instance_has_clients_of_its_own_and_all_share_the_first_network(
    tmp_path: Path,
) -> None:
    with lab(["outside", "inside"], log=tmp_path / "log", instances=["second"]) as network:
        assert network.networks() != network.networks(1)
        members = {
            line.split()[1].rstrip(":").partition("@")[0]: line
            for line in run(network, "outside", "ip", "-o", "link").splitlines()
        }
        assert "master outside" in members["tap0.0"]
        assert "master outside" in members["tap1.0"]
        assert "master br-tap0.1" in members["tap0.1"]
        assert "master br-tap1.1" in members["tap1.1"]
        assert set(run(network, "outside", "ip", "netns", "list").split()) >= {
            "inside",
            "second-inside",
        }
        assert "client0" in run(network, "inside", "ip", "-o", "link")
        assert GATEWAY in run(
            network, "outside", "ip", "-4", "-o", "address", "show", "dev", "outside"
        )
        assert [address(0), address(1)] == ["10.77.0.10", "10.77.0.11"]


def test_nothing_of_it_is_left(tmp_path: Path) -> None:
    before = Path("/proc/net/dev").read_text().count(":")
    with lab(["outside", "inside"], log=tmp_path / "log"):
        pass
    assert Path("/proc/net/dev").read_text().count(":") == before


#: Makes the network where the device of taps is as the kernel makes it: no udev has opened it to
#: all.
AS_THE_KERNEL_MAKES_IT = """\
set -eu
mount -t tmpfs tmpfs /dev/net
mknod -m 600 /dev/net/tun c 10 200
exec "$1" -c 'import pathlib, sys; from slipway.boot.lab import lab
with lab(["outside", "inside"], log=pathlib.Path(sys.argv[1])) as network:
    print(network.networks())' "$2"
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can use such a device")
def test_root_needs_no_device_that_is_open_to_all(tmp_path: Path) -> None:
    argv = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        AS_THE_KERNEL_MAKES_IT,
        "sh",
        sys.executable,
        str(tmp_path / "log"),
    ]
    assert "tap0.1" in process.run(argv).stdout.decode()


@contextlib.contextmanager
def machine(
    network: Lab, *, is_open: str = "", silent: str = "", pause_s: float = 0
) -> Iterator[subprocess.Popen[bytes]]:
    """A machine behind the lab's first tap that answers each of its ports."""
    argv = [
        *network.enter,
        sys.executable,
        "-I",
        str(MACHINE),
        "tap0.0",
        is_open,
        silent,
        str(pause_s),
    ]
    with process.spawn(argv, stdout=subprocess.PIPE) as running:
        assert running.stdout and running.stdout.readline() == b"ready\n"
        yield running


def scanned(network: Lab, *ports: str) -> tuple[int, list[str]]:
    """What the scan says of the machine, without the line that has a time."""
    copy = Path("/checks/scan.py")
    network.namespace.write(copy, Path(scan.__file__).read_bytes())
    done = network.namespace.run([sys.executable, "-I", copy, ADDRESS, *ports], check=False)
    lines = done.stdout.decode().splitlines()
    return done.returncode, [lines[0], *lines[2:]]


#: Sends as many packets as a scan asks at once to a machine, without asking where it is.
BURST = """\
import socket, subprocess, sys
address, count = sys.argv[1], int(sys.argv[2])
neighbour = [address, "lladdr", sys.argv[3], "dev", "outside"]
subprocess.run(["ip", "neigh", "replace", *neighbour], check=True)
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
    for port in range(1, count + 1):
        sender.sendto(b"", (address, port))
"""


def test_a_scan_hears_of_every_port(tmp_path: Path) -> None:
    with (
        lab(["outside"], log=tmp_path / "log") as network,
        machine(network, is_open="80,443,65535"),
    ):
        assert scanned(network, "80", "443", "65535") == (
            0,
            ["of 65535 TCP ports: 3 open, 65532 refused, 0 silent", "open: 80, 443, 65535"],
        )


def test_what_a_scan_asks_at_once_waits_for_a_machine_that_stands_still(tmp_path: Path) -> None:
    with lab(["outside"], log=tmp_path / "log") as network, machine(network) as running:
        running.send_signal(signal.SIGSTOP)
        try:
            network.namespace.run([sys.executable, "-Ic", BURST, ADDRESS, str(scan.AT_ONCE), MAC])
            link = json.loads(
                network.namespace.run(["ip", "-s", "-j", "link", "show", "dev", "tap0.0"]).stdout
            )
        finally:
            running.send_signal(signal.SIGCONT)
        assert link[0]["stats64"]["tx"]["dropped"] == 0, link


@pytest.mark.nightly
@pytest.mark.timeout(200)
def test_a_scan_waits_for_a_machine_that_is_slower_than_it_asks(tmp_path: Path) -> None:
    """Asked for more at once than it answers in time, it would be behind for ever, and all of its
    ports silent.
    """
    with (
        lab(["outside"], log=tmp_path / "log") as network,
        machine(network, is_open="80,65535", pause_s=0.0002),
    ):
        assert (
            scanned(network, "80", "65535")[1][0]
            == "of 65535 TCP ports: 2 open, 65533 refused, 0 silent"
        )


@pytest.mark.timeout(120)
def test_a_silent_port_of_a_machine_that_refuses_fails_the_scan(tmp_path: Path) -> None:
    with (
        lab(["outside"], log=tmp_path / "log") as network,
        machine(network, is_open="80", silent="8080"),
    ):
        code, lines = scanned(network, "80")
        assert (code, lines[-1]) == (1, "silent, though the machine refuses others: 8080")


@pytest.mark.nightly
@pytest.mark.timeout(120)
def test_a_scan_hears_of_every_port_of_a_machine_that_opens_each(tmp_path: Path) -> None:
    with lab(["outside"], log=tmp_path / "log") as network, machine(network, is_open="1-65535"):
        code, lines = scanned(network, "1-65535")
        assert (code, lines[0]) == (0, "of 65535 TCP ports: 65535 open, 0 refused, 0 silent")


@pytest.mark.timeout(120)
def test_the_silence_of_a_machine_that_drops_packets_is_an_answer(tmp_path: Path) -> None:
    with (
        lab(["outside"], log=tmp_path / "log") as network,
        machine(network, is_open="80", silent="1-79,81-65535"),
    ):
        assert scanned(network, "80") == (
            0,
            ["of 65535 TCP ports: 1 open, 0 refused, 65534 silent", "open: 80"],
        )
