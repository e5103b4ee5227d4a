"""The program that runs checks in the guest, run here: every check of its list is run and
reported.
"""

from __future__ import annotations

from pathlib import Path

from slipway.boot import checks
from slipway.boot.attempt import KIT
from slipway.boot.report import CheckResult
from slipway.boot.results import Reported
from slipway.host.namespace import MOUNT, Namespace

RUNNER = Path(checks.__file__).with_name("runner.sh")
#: A /dev with the port, and a systemctl that says that the system runs.
GUEST = f"""\
set -eu
mkdir -p {MOUNT}/dev/virtio-ports {MOUNT}/bin
for device in null zero random urandom; do
    touch {MOUNT}/dev/$device
    mount --bind /dev/$device {MOUNT}/dev/$device
done
touch {MOUNT}/dev/virtio-ports/slipway
printf '#!/bin/sh\\necho running\\n' >{MOUNT}/bin/systemctl
chmod 755 {MOUNT}/bin/systemctl
mount --rbind {MOUNT}/dev /dev
cd {MOUNT}/runner
PATH={MOUNT}/bin:$PATH sh runner.sh
cat /dev/virtio-ports/slipway
"""


def reported(
    scripts: dict[str, str], *, settings: str = "FACTOR=0", limit_s: int = 60
) -> list[CheckResult]:
    """Run checks as in a guest, and read what was reported as the host does.

    The standard checks are left out.
    """
    with Namespace(memory_mib=16) as namespace:
        folder = namespace.path(MOUNT / "runner")
        (folder / "checks").mkdir(parents=True)
        (folder / "runner.sh").write_text(
            RUNNER.read_text().replace("check root-grown 30 ", "check root-grown 0 ")
        )
        (folder / "settings.sh").write_text(f"{settings}\nSERVICES=\nPORTS=\nGROWING=\n")
        (folder / "list").write_text("".join(f"{limit_s} {name}\n" for name in scripts))
        (folder / "checks" / KIT.name).write_bytes(KIT.read_bytes())
        for name, text in scripts.items():
            (folder / "checks" / name).write_text(text)
        said = namespace.run(
            ["sh", "-c", GUEST], what="running the checks", timeout_s=60
        ).stdout.decode()
    report = Reported(
        expected=("system-started", "root-grown", "services-active", "ports-listening", *scripts)
    )
    results = [result for line in said.splitlines() if (result := report.read(line))]
    assert report.finished
    return [result for result in results if result.name in scripts]


def test_a_check_that_reads_its_input_does_not_eat_the_list() -> None:
    found = reported(
        {
            "10-reads.sh": "cat\n",
            "20-reads.py": "import sys\nsys.stdin.read()\n",
            "30-fails.sh": "exit 3\n",
        }
    )
    assert [(result.name, result.outcome) for result in found] == [
        ("10-reads.sh", "passed"),
        ("20-reads.py", "passed"),
        ("30-fails.sh", "failed"),
    ]


def test_a_check_does_not_write_to_the_report() -> None:
    found = reported(
        {"10-writes.sh": "echo check 20-real.sh passed 1 1 >&3\n", "20-real.sh": "exit 1\n"}
    )
    assert [(result.name, result.outcome) for result in found] == [
        ("10-writes.sh", "failed"),
        ("20-real.sh", "failed"),
    ]


def test_a_check_whose_time_is_up_says_what_it_was_doing() -> None:
    hangs = "import time\n\n\ndef ask():\n    print('asking')\n    time.sleep(60)\n\n\nask()\n"
    python, shell = reported({"10-hangs.py": hangs, "20-hangs.sh": "echo asking; sleep 60\n"})
    assert (python.outcome, shell.outcome) == ("timed out", "timed out")
    assert python.output.startswith("asking\nFatal Python error: Aborted\n")
    assert '  File "/mnt/runner/checks/10-hangs.py", line 6 in ask\n' in python.output
    assert shell.output == "+ echo asking\nasking\n+ sleep 60\n"


HANGS_FIRST = "if [ -e there ]; then exit 0; fi\ntouch there\nsleep 60\n"


def test_on_a_host_that_got_busy_a_check_has_more_time() -> None:
    """The machine is slower than when the host was asked, so what would be given up is tried on."""
    fails, hangs = reported(
        {"10-fails.sh": "exit 1\n", "20-hangs.sh": HANGS_FIRST},
        settings="FACTOR=1\nPACE=1",
        limit_s=2,
    )
    assert (fails.outcome, hangs.outcome, hangs.attempts) == ("failed", "passed", 2)
    assert fails.duration_s >= 4 * 2


def test_on_a_host_that_is_as_busy_as_it_was_a_check_has_its_time() -> None:
    fails, hangs = reported(
        {"10-fails.sh": "exit 1\n", "20-hangs.sh": HANGS_FIRST},
        settings="FACTOR=1\nPACE=100000",
        limit_s=2,
    )
    assert (fails.outcome, hangs.outcome, hangs.attempts) == ("failed", "timed out", 1)


def test_what_the_first_try_wrote_is_reported_where_the_last_failed_too() -> None:
    fails, passes = reported(
        {
            "10-fails.sh": "if [ -e there ]; then exit 2; fi; touch there; echo no; exit 1\n",
            "20-passes.sh": "if [ -e here ]; then exit 0; fi; touch here; echo no; exit 1\n",
        },
        settings="FACTOR=1",
        limit_s=2,
    )
    assert fails.output == "+ [ -e there ]\n+ exit 2\n"
    assert fails.first == "+ [ -e there ]\n+ touch there\n+ echo no\nno\n+ exit 1\n"
    assert (passes.outcome, passes.attempts, passes.first) == ("passed", 2, "")


def test_a_check_in_python_finds_what_it_may_import_and_is_on_the_machine() -> None:
    asks = (
        "import os\nfrom slipway_check import root\nassert int(root('echo $PPID')) == os.getpid()\n"
    )
    (found,) = reported({"10-asks.py": asks})
    assert (found.outcome, found.output) == ("passed", "")


def test_a_check_is_told_how_long_it_may_wait() -> None:
    says = "from slipway_check import PATIENCE\nprint(PATIENCE)\n"
    first, later = reported(
        {"10-says.py": says, "20-says.py": f"{says}assert PATIENCE > 2\n"},
        settings="FACTOR=2\nPACE=1",
        limit_s=1,
    )
    assert (first.outcome, first.output) == ("passed", "2.0\n")
    assert (later.outcome, later.output) == ("passed", "8.0\n")  # the host got busy


def test_what_a_check_wrote_is_reported() -> None:
    (found,) = reported({"10-says.sh": "echo hello; exit 1\n"})
    assert found.output == "+ echo hello\nhello\n+ exit 1\n"
