"""What is restarted after an update: the services that run replaced files, and on the console the
machine.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = (
    Path(__file__).parents[3]
    / "templates/mixins/security-updates/files/usr/lib/slipway/restart-stale"
)
LIBRARY = "7f00-7f01 {mode} 0000 08:01 12 {path}\n"


class Machine:
    """A file system whose /proc has these processes, and whose systemctl notes what it is asked
    for.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("systemctl", "agetty"):
            program = root / "bin" / name
            program.parent.mkdir(exist_ok=True)
            program.write_text(
                f'#!/bin/sh\necho "{name} $*" >>"{root}/called"\ntest "$2" != broken.service\n'
            )
            program.chmod(0o755)
        (root / "proc").mkdir()

    def process(
        self,
        number: int,
        unit: str,
        *,
        exe: str = "/usr/bin/d",
        path: str = "/usr/lib/libc.so",
        mode: str = "r-xp",
    ) -> Path:
        """Add a process of a unit with a file that it maps."""
        folder = self.root / "proc" / str(number)
        (folder / "fd").mkdir(parents=True)
        (folder / "maps").write_text(LIBRARY.format(mode=mode, path=path))
        (folder / "exe").symlink_to(exe)
        (folder / "cgroup").write_text(f"0::/system.slice/{unit}\n")
        return folder

    def run(self) -> tuple[int, list[str]]:
        """Run the program; return its status and what it called."""
        command = [sys.executable, "-I", str(PROGRAM), "--root", str(self.root)]
        environment = {"PATH": f"{self.root / 'bin'}:{os.environ['PATH']}"}
        ended = subprocess.run(
            command, env=environment, capture_output=True, timeout=60, check=False
        )
        called = self.root / "called"
        return ended.returncode, called.read_text().splitlines() if called.exists() else []


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_services_that_run_replaced_files_are_restarted_once_each_and_no_others(
    machine: Machine,
) -> None:
    machine.process(10, "one.service", path="/usr/lib/libssl.so.3 (deleted)")
    machine.process(11, "one.service", path="/usr/lib/libssl.so.3 (deleted)")
    machine.process(12, "system-x.slice/two@main.service", exe="/usr/sbin/two (deleted)")
    machine.process(13, "fine.service")
    machine.process(14, "data.service", path="/usr/lib/locale (deleted)", mode="r--p")
    machine.process(15, "shared.service", path="/dev/shm/x (deleted)")
    jar = machine.process(16, "java.service")
    (jar / "fd/3").symlink_to("/usr/share/java/x.jar (deleted)")
    assert machine.run() == (
        0,
        [
            f"systemctl restart {unit}"
            for unit in ("java.service", "one.service", "two@main.service")
        ],
    )


def test_an_interpreter_is_restarted_after_every_change_of_packages(machine: Machine) -> None:
    machine.process(10, "page.service", exe="/usr/bin/python3.13")
    log = machine.root / "var/log/dpkg.log"
    log.parent.mkdir(parents=True)
    log.write_text("")
    os.utime(log, (1, 1))
    assert machine.run() == (0, [])
    os.utime(log, (2**33, 2**33))
    assert machine.run() == (0, ["systemctl restart page.service"])


def test_what_holds_the_machine_together_is_left_and_the_console_asks_for_a_restart(
    machine: Machine,
) -> None:
    machine.process(1, "init.scope", exe="/usr/lib/systemd/systemd (deleted)")
    machine.process(9, "dbus.service", path="/usr/lib/libdbus.so (deleted)")
    assert machine.run() == (0, ["systemctl daemon-reexec", "agetty --reload"])
    issue = (machine.root / "run/issue.d/60-restart-needed.issue").read_text()
    assert issue == (
        "  RESTART NEEDED: an update is installed that takes effect with the next start of "
        "this machine.\n\n"
    )


def test_a_new_kernel_is_said_on_the_console(machine: Machine) -> None:
    (machine.root / "run").mkdir()
    (machine.root / "run/reboot-required").touch()
    assert machine.run() == (0, ["agetty --reload"])


def test_a_service_that_does_not_come_back_is_a_failure(machine: Machine) -> None:
    machine.process(10, "broken.service", exe="/usr/bin/d (deleted)")
    assert machine.run() == (1, ["systemctl restart broken.service"])
