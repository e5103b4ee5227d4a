"""The gate: what a guest does or says, and whether its image is published.

QEMU is played; all else is real.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import pytest

from example_root import make_root
from slipway import pipeline
from slipway.boot import checks, outside, trial
from slipway.boot.machine import Running
from slipway.boot.results import follow
from slipway.cache import sha256_of
from slipway.channels.keys import init
from slipway.errors import BuildError, UsageError
from slipway.formats import Artifact
from slipway.host import process
from slipway.host.accelerator import Accelerator
from slipway.host.process import find_tool, run
from slipway.job import Job, Workshop, prepare
from slipway.outputs import duration_key
from slipway.terminal.progress import Progress

HERE = Path(__file__).parents[1]
SPEC = (
    "schema: 1\nname: web\nversion: 1.0.0\nsummary: A web server\ncategory: network\n"
    "packages: [web]\n"
)
INSIDE = (
    "system-started",
    "root-grown",
    "services-active",
    "ports-listening",
    "10-one.sh",
    "20-two.sh",
)
PASS = "".join(f"check {name} passed 1 10 \n" for name in INSIDE)
OUTSIDE = "#!/bin/sh\n# timeout: 2\n"

Play = list[list[str]]


class Gate:
    """An appliance that is built but for its boot, on a host whose QEMU is played."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bin = directory / "bin"
        self.bin.mkdir()
        qemu = self.bin / "qemu-system-x86_64"
        qemu.write_text(f"#!{sys.executable} -I\n{(HERE / 'support/fake_qemu.py').read_text()}")
        qemu.chmod(0o755)
        found_first = f"{self.bin}:{process.SYSTEM_PATH}"
        monkeypatch.setattr(process, "SYSTEM_PATH", found_first)
        # The same for commands of their own: Python reads this file when it starts.
        (directory / "site").mkdir()
        (directory / "site/sitecustomize.py").write_text(
            f"from slipway.host import process\nprocess.SYSTEM_PATH = {found_first!r}\n"
        )
        self.python_path = os.pathsep.join((str(HERE.parent / "src"), str(directory / "site")))
        monkeypatch.setenv("SLIPWAY_KEYS", str(directory / "keys"))
        # the played one: for another, the mirror would be asked
        monkeypatch.setenv("SLIPWAY_QEMU", "host")
        self.directory, self.monkeypatch = directory, monkeypatch

    def plays(
        self,
        *plays: Play,
        client: str = "exit 0",
        more: str = "",
        files: Mapping[str, str] | None = None,
    ) -> None:
        """Set what each start of the machine does, the check from outside, and more of the spec and
        its files.
        """
        (self.bin / "scenario.json").write_text(json.dumps(plays))
        check = {f"checks/{name}": "exit 0\n" for name in INSIDE[-2:]}
        files = {
            "appliance.yaml": SPEC + more,
            **check,
            "checks/outside/30-client.sh": f"{OUTSIDE}{client}\n",
            **(files or {}),
        }
        self.root = make_root(self.directory, "web", files, self.monkeypatch)
        self.shop = Workshop(root=self.root, progress=Progress(quiet=True))
        self.job = prepare(
            self.shop, self.shop.library.load("web"), builder="mmdebstrap", architecture="amd64"
        )
        for name in self.job.formats:
            add_artifact(self.shop, self.job, name)

    def build(self) -> str:
        """Build and publish as the task does; the error, without its last lines of the console."""
        try:
            release = pipeline.build(self.shop, self.job)
        except BuildError as error:
            assert error.exit_code == 5
            assert not list((self.root / "build/web").glob("1.0.0-*")), "there is a release"
            self.hint = error.hint
            self.message = error.message.replace(f"{self.root}/build/web/logs", "LOGS")
            return self.message.partition("\n  passed: ")[0]
        session = pipeline.session(self.shop, new=True)
        if not (session.keys / "nightly").exists():
            init("nightly", session.keys)
        pipeline.publish(self.shop, [release.folder], session)
        assert list(session.store.list("targets/"))
        return ""

    @property
    def starts(self) -> int:
        """How often the machine was started."""
        return len((self.bin / "starts").read_text())


def add_artifact(shop: Workshop, job: Job, name: str) -> None:
    """Put a disk into the cache as if it had been made: an empty one."""
    with shop.cache.scratch() as scratch:
        disk = scratch / "disk"
        run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "1G"])
        artifact = Artifact(
            format=name,
            file="disk",
            size=disk.stat().st_size,
            sha256=sha256_of(disk),
            uncompressed_size=1 << 30,
            uncompressed_sha256="d" * 64,
            compression=None,
        )
        shop.cache.add(
            job.stage(f"artifact:{name}").id,
            f"artifact:{name}",
            {"disk": (disk, artifact.sha256)},
            artifact.facts(),
        )


@pytest.fixture
def gate(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gate:
    """A gate with short limits.

    Where nothing is to be heard, what hangs is given up after a second.
    """
    silent = (
        "nothing was heard" in str(getattr(request.node, "callspec", ""))
        or "did_not_come_up" in request.node.name
    )
    patience_s = 1.0 if silent else 30.0

    def soon(*words: object, **limits: float) -> object:
        return follow(*words, **{**limits, "start_s": patience_s, "check_s": patience_s})  # type: ignore[arg-type]

    monkeypatch.setattr(checks, "follow", soon)
    monkeypatch.setattr(pipeline, "probe", lambda _: Accelerator(name="tcg", reason="it is played"))
    monkeypatch.setattr(trial, "FACTOR", {"kvm": 1, "tcg": 1})
    monkeypatch.setattr(outside, "_RETRY_S", 1)
    monkeypatch.setattr(outside, "_LATE_S", 1)
    quick: Callable[..., None] = Running.__init__

    def init(self: Running, qemu: subprocess.Popen[bytes]) -> None:
        quick(self, qemu)
        self.patience_s = 1.0

    monkeypatch.setattr(Running, "__init__", init)
    monkeypatch.delenv("CI", raising=False)  # where it is set, a store has to be named
    return Gate(tmp_path, monkeypatch)


def words(text: str) -> str:
    """A check's output, as a guest reports it."""
    return base64.b64encode(text.encode()).decode()


def test_an_image_whose_checks_all_pass_is_published(gate: Gate) -> None:
    gate.plays([["write", f"running\nstarted\nmemory 2048\n{PASS}finished\n"]])
    assert gate.build() == ""
    assert gate.starts == 1
    report = pipeline.check(gate.shop, gate.job)
    assert report.passed and report.memory_mib == 2
    assert sorted(f"{each.place}/{each.name}" for each in report.checks) == sorted(report.expected)


def test_a_release_that_no_boot_checked_is_said_to_be_that_and_not_published(gate: Gate) -> None:
    gate.plays([])
    release = pipeline.build(gate.shop, gate.job, boot=False)
    done = subprocess.run(
        [sys.executable, "-P", "-m", "slipway", "releases", "web", f"--root={gate.root}"],
        env={**os.environ, "PYTHONPATH": gate.python_path},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (
        5,
        f"error: no boot has checked {release.folder.name} of web\n"
        "  hint: run: invoke build web --publish\n",
    )


FAILED = PASS.replace(
    "20-two.sh passed 1 10 ", f"20-two.sh failed 3 6000 {words('nobody answers')}"
)
REPORT = "the report of web does not count: "
DIED = "web did not end its checks: "


@pytest.mark.parametrize(
    ("play", "message"),
    [
        (
            [["write", f"{FAILED}finished\n"]],
            (
                "1 of 8 checks of web failed\n  guest/20-two.sh failed:\n    nobody answers\n"
                "    log: LOGS/guest-20-two.sh.log"
            ),
        ),
        (
            [["write", PASS.replace("20-two.sh passed", "20-two.sh timed-out") + "finished\n"]],
            (
                "1 of 8 checks of web failed\n  guest/20-two.sh timed out:\n    (no output)\n"
                "    log: LOGS/guest-20-two.sh.log"
            ),
        ),
        (
            [["write", "finished\n"]],
            f"{REPORT}it reported an end, and nothing of: {', '.join(INSIDE)}",
        ),
        (
            [["write", PASS.replace("check 10-one.sh passed 1 10 \n", "") + "finished\n"]],
            f"{REPORT}it reported an end, and nothing of: 10-one.sh",
        ),
        (
            [["write", f"{PASS}check 10-one.sh passed 1 10 \nfinished\n"]],
            f"{REPORT}it reported 10-one.sh twice",
        ),
        (
            [["write", f"{FAILED}check 20-two.sh passed 1 10 \nfinished\n"]],
            (
                f"{REPORT}it reported 20-two.sh twice\n  guest/20-two.sh failed:\n"
                "    nobody answers\n    log: LOGS/guest-20-two.sh.log"
            ),
        ),
        (
            [["write", f"{PASS}check 40-more.sh passed 1 10 \nfinished\n"]],
            f"{REPORT}it reported a check that does not exist: '40-more.sh'",
        ),
        (
            [["write", f"{PASS}check 30-client.sh passed 1 10 \nfinished\n"]],
            f"{REPORT}it reported a check that does not exist: '30-client.sh'",
        ),
        (
            [["write", f"{PASS}finished early\n"]],
            f"{REPORT}it reported a line without a meaning: 'finished early'",
        ),
        ([["fill", "running\n"]], f"{REPORT}its results have more than 4 MiB"),
        ([["fill", "x"]], f"{REPORT}its results have more than 4 MiB"),
        (
            [["console-grows", str(65 << 20)], ["write", "running\n"]],
            f"{REPORT}its console has more than 64 MiB",
        ),
    ],
    ids=lambda value: "" if isinstance(value, list) else value.removeprefix(REPORT)[:40],
)
def test_what_a_guest_reports_wrongly_ends_the_build_at_once(
    gate: Gate, play: Play, message: str
) -> None:
    gate.plays(play, [["write", f"{PASS}finished\n"]])
    assert gate.build() == message
    assert gate.starts == 1


@pytest.mark.parametrize(
    ("play", "message"),
    [
        ([], "web did not start: nothing was heard of it for 1 s"),
        ([["mute"]], "web did not start: nothing was heard of it for 1 s"),
        ([["garbage"]], "web did not start: nothing was heard of it for 1 s"),
        ([["die", "1"]], "web did not start: QEMU ended with status 1"),
        ([["console", "Kernel panic - not syncing"]], "web did not start: its kernel crashed"),
        ([["write", "running\n"]], "web did not start: nothing was heard of it for 1 s"),
        ([["write", PASS]], f"{DIED}nothing was heard of it for 1 s"),
        ([["write", PASS], ["die", "3"]], f"{DIED}QEMU ended with status 3"),
    ],
)
def test_a_machine_that_dies_twice_ends_the_build(gate: Gate, play: Play, message: str) -> None:
    gate.plays(play)
    assert gate.build() == message
    assert gate.starts == 2


def test_a_machine_that_died_once_is_started_again_and_the_report_says_so(gate: Gate) -> None:
    gate.plays([["write", PASS], ["die", "3"]], [["write", f"{PASS}finished\n"]])
    assert gate.build() == ""
    report = pipeline.check(gate.shop, gate.job)
    assert [attempt.problem for attempt in report.attempts] == ["QEMU ended with status 3", None]
    assert (
        report.summary
        == "8 of 8 checks passed (tcg, bios); started again after: QEMU ended with status 3"
    )


def test_a_failed_check_is_not_tried_on_a_second_machine(gate: Gate) -> None:
    gate.plays([["write", FAILED], ["die", "3"]], [["write", f"{PASS}finished\n"]])
    assert gate.build() == (
        f"{DIED}QEMU ended with status 3\n  guest/20-two.sh failed:\n    nobody answers\n"
        "    log: LOGS/guest-20-two.sh.log"
    )
    assert gate.starts == 1


@pytest.mark.parametrize(
    ("client", "message"),
    [
        ("echo no answer; exit 1", "failed:\n    + echo no answer\n    no answer\n    + exit 1"),
        ("echo asking; sleep 60", "timed out:\n    + echo asking\n    asking\n    + sleep 60"),
        ("kill -9 $$", "failed:\n    + kill -9 "),
        # More than any memory holds; only the end of it is read.
        (
            "truncate -s 1T /dev/stdout; exit 1",
            "failed:\n    + truncate -s 1T /dev/stdout\n    File size limit exceeded\n    + exit 1",
        ),
    ],
)
def test_a_check_from_outside_that_does_not_pass_ends_the_build(
    gate: Gate, client: str, message: str
) -> None:
    gate.plays([["write", f"{PASS}finished\n"]], client=client)
    assert gate.build().startswith(f"1 of 8 checks of web failed\n  outside/30-client.sh {message}")
    assert gate.starts == 1


@pytest.mark.parametrize("play", [["dies-on", "system_reset"], ["mute"]])
def test_a_machine_that_is_lost_before_a_check_from_outside(gate: Gate, play: list[str]) -> None:
    gate.plays([play, ["write", f"{PASS}finished\n"]], client="# before: reset\nexit 0")
    assert gate.build() == f"{DIED}QEMU is gone, or does not answer, before outside/30-client.sh"
    assert gate.starts == 2


def test_a_machine_that_dies_during_a_check_from_outside_is_started_again(gate: Gate) -> None:
    gate.plays([["write", f"{PASS}finished\n"], ["die", "3"]], client="exit 1")
    assert gate.build() == f"{DIED}QEMU ended with status 3, during outside/30-client.sh"
    assert gate.starts == 2


def test_a_further_instance_starts_before_a_check_needs_it(gate: Gate) -> None:
    """It runs when the first check from outside does, which does not need it."""
    # Its machine refuses the connection; nobody would not answer at all.
    first = "# timeout: 2\nimport socket\n"
    first += (
        "try:\n    socket.create_connection(('10.77.0.11', 9), timeout=1)\n"
        "except ConnectionRefusedError:\n    pass\n"
    )
    gate.plays(
        [["write", f"{PASS}finished\n"]],
        client='# with: second\ntest "$SLIPWAY_INSTANCE_SECOND_ADDRESS" = 10.77.0.11',
        more="instances: [{name: second}]\n",
        files={"checks/outside/25-alone.py": first},
    )
    assert gate.build() == ""
    assert gate.starts == 1
    assert (gate.bin / "instances").read_text() == "1\n"


def test_a_further_instance_is_not_started_where_the_guests_own_checks_do_not_end(
    gate: Gate,
) -> None:
    gate.plays(
        [["write", "finished\n"]],
        client="# with: second\nexit 0",
        more="instances: [{name: second}]\n",
    )
    assert gate.build() == f"{REPORT}it reported an end, and nothing of: {', '.join(INSIDE)}"
    assert not (gate.bin / "instances").exists()


SECRET = (
    "  admin_password: s3cret-made-here (made now and shown until somebody logs in; "
    "see /var/lib)\r\n"
)
CONSOLE = (
    "\x1b[!p\x07\x1b[32766;32766H\x1b[6n[  \x1b[0;32mOK\x1b[0m  ] Started web.\r\n"
    f"{SECRET}web login: "
)


def test_a_failed_check_shows_its_output_and_its_log_and_no_console(gate: Gate) -> None:
    said = PASS.replace(
        "20-two.sh passed 1 10 ",
        f"20-two.sh failed 3 6000 {words('+ curl -u admin:s3cret-made-here')}",
    )
    gate.plays([["console", CONSOLE], ["write", f"{said}finished\n"]])
    gate.build()
    assert gate.message == (
        "1 of 8 checks of web failed\n  guest/20-two.sh failed:\n    + curl -u admin:***\n"
        "    log: LOGS/guest-20-two.sh.log\n"
        f"  passed: {', '.join(f'guest/{name}' for name in INSIDE[:-1])}, outside/ports-closed, "
        "outside/30-client.sh"
    )
    assert gate.hint == f"the whole console is {gate.root}/build/web/logs/console.log"
    assert (
        gate.root / "build/web/logs/guest-20-two.sh.log"
    ).read_text() == "+ curl -u admin:s3cret-made-here"


def test_a_machine_that_did_not_come_up_shows_its_console_as_text(gate: Gate) -> None:
    gate.plays([["console", CONSOLE]])
    gate.build()
    assert gate.message == (
        "web did not start: nothing was heard of it for 1 s\n  passed: none\n"
        "  the console's last lines:\n    [  OK  ] Started web.\n"
        "      admin_password: *** (made now and shown until somebody logs in; see /var/lib)\n"
        "    web login:"
    )


def test_a_check_from_outside_in_python_finds_what_it_may_import(gate: Gate) -> None:
    asks = (
        "import os\nfrom slipway_check import PATIENCE, address\n"
        "assert address() == '10.77.0.10' and PATIENCE == float(os.environ['SLIPWAY_PATIENCE'])\n"
    )
    gate.plays([["write", f"{PASS}finished\n"]], files={"checks/outside/40-asks.py": asks})
    assert gate.build() == ""


def test_what_the_first_try_said_is_told_where_the_last_failed_of_something_else(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A try may leave what the next one fails of."""
    monkeypatch.setattr(outside, "_RETRY_S", 5)  # so there is a second one
    client = (
        "if [ -e /tmp/left ]; then echo left over; exit 1; fi; touch /tmp/left; echo no; exit 1"
    )
    gate.plays([["write", f"{PASS}finished\n"]], client=client)
    said = gate.build()
    assert "\n    left over\n    + exit 1\n    the first of " in said
    assert said.endswith(
        " tries:\n    + [ -e /tmp/left ]\n    + touch /tmp/left\n    + echo no\n    no\n"
        "    + exit 1\n    log: LOGS/outside-30-client.sh.log"
    )


def test_the_log_of_the_last_whole_try_is_kept(gate: Gate) -> None:
    client = "if [ -e /tmp/again ]; then sleep 60; fi; touch /tmp/again; echo no answer; exit 1"
    gate.plays([["write", f"{PASS}finished\n"]], client=client)
    assert gate.build().endswith(
        "\n    no answer\n    + exit 1\n    log: LOGS/outside-30-client.sh.log"
    )
    logs = gate.root / "build/web/logs"
    assert "no answer\n" in (logs / "outside-30-client.sh.log").read_text()
    assert not list(logs.glob("*.part"))


def test_a_port_of_the_spec_that_is_not_open_is_said_after_one_scan(gate: Gate) -> None:
    gate.plays(
        [["write", f"{PASS}finished\n"]], more="ports: [{port: 80, protocol: tcp, purpose: HTTP}]\n"
    )
    said = gate.build().splitlines()
    assert said[:2] == ["1 of 8 checks of web failed", "  outside/ports-closed failed:"]
    assert said[-2:] == [
        "    in the spec, but not open: 80",
        "    log: LOGS/outside-ports-closed.log",
    ]


def test_on_a_busy_host_the_scan_and_clients_have_more_patience(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with a check whose time would have been up before the host got its other work."""
    scanner = gate.directory / "scan.py"
    scanner.write_text("import sys\nprint(*sys.argv[2:])\n")
    monkeypatch.setattr(outside, "_SCANNER", scanner)
    monkeypatch.setattr(Running, "slowdown", property(lambda _: 3.2))
    gate.plays([["write", f"{PASS}finished\n"]], client='echo "$SLIPWAY_SSH"; sleep 3')
    assert gate.build() == ""
    logs = gate.root / "build/web/logs"
    assert (logs / "outside-ports-closed.log").read_text() == "--patience=6.4 --wait=4\n"
    assert "-oConnectTimeout=64 " in (logs / "outside-30-client.sh.log").read_text()


def test_a_check_whose_time_is_up_says_where_it_stands(gate: Gate) -> None:
    client = "# timeout: 2\nimport signal\n\nprint('asking')\nsignal.pause()\n"
    gate.plays([["write", f"{PASS}finished\n"]], files={"checks/outside/40-client.py": client})
    said = gate.build().splitlines()
    assert said[:4] == [
        "1 of 9 checks of web failed",
        "  outside/40-client.py timed out:",
        "    asking",
        "    Fatal Python error: Aborted",
    ]
    assert '      File "/checks/outside/40-client.py", line 5 in <module>' in said


def test_the_command_ends_with_5_and_publishes_nothing(gate: Gate) -> None:
    gate.plays([["write", f"{FAILED}finished\n"]])
    argv = [
        sys.executable,
        "-m",
        "invoke",
        "--search-root",
        str(HERE.parent),
        "build",
        "web",
        "--publish",
        "--root",
        str(gate.root),
    ]
    again = partial(subprocess.run, argv, capture_output=True, text=True, timeout=120)
    # where it is set, a store has to be named
    mine = {name: value for name, value in os.environ.items() if name != "CI"}
    done = again(env=mine | {"PYTHONPATH": gate.python_path})
    assert done.returncode == 5, done.stderr
    assert (
        "error: 1 of 8 checks of web failed\n  guest/20-two.sh failed:\n    nobody answers\n"
        "    log: "
    ) in done.stderr
    assert not list((gate.root / "build").glob("store/[tm]*"))


#: In a program's place that runs outside of every namespace: it writes down what it and its
#: ancestors were started with.
SPY = """#!/bin/sh
pid=$$
while [ "$pid" -gt 1 ]; do
    { tr '\\0' '\\n' <"/proc/$pid/environ"; echo "-- $pid"; } >>"$0.seen"
    pid=$(sed -n 's/^PPid:[[:space:]]*//p' "/proc/$pid/status")
    [ "$pid" != "$TEST_PID" ] || break
done
exec {program} "$@"
"""
#: What publishing needs, and nothing else may have.
CREDENTIALS = {
    "AWS_SECRET_ACCESS_KEY": "spied-aws",
    "SLIPWAY_PASSPHRASE": "spied-passphrase",
    "GOOGLE_APPLICATION_CREDENTIALS": "spied-google",
    "MY_OWN_VARIABLE": "spied-other",
}


@pytest.mark.parametrize(
    ("words", "program", "said"),
    [
        (["build", "web", "--publish"], "qemu-img", "web: nightly now has"),
        (["build", "web"], "qemu-img", "8 checks passed"),
        (["check", "web"], "qemu-img", "passed"),
        # there is no mirror; the lock is as far as it comes
        (["nightly", "web"], "apt-get", "* web: **failed**"),
        (["lock", "web"], "apt-get", "error: downloading the package lists failed"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_builds_and_what_started_it_have_no_credentials(
    gate: Gate, words: list[str], program: str, said: str
) -> None:
    real, spy = find_tool(program), gate.bin / program
    spy.write_text(SPY.replace("{program}", real).replace("$TEST_PID", str(os.getpid())))
    spy.chmod(0o755)
    # After it: what a stage depends on is the program that it runs.
    gate.plays([["write", f"running\nstarted\nmemory 2048\n{PASS}finished\n"]])
    (gate.bin / f"{program}.seen").unlink(missing_ok=True)
    argv = [
        sys.executable,
        "-m",
        "invoke",
        "--search-root",
        str(HERE.parent),
        *words,
        "--root",
        str(gate.root),
    ]
    environment = {**os.environ, **CREDENTIALS, "PYTHONPATH": gate.python_path}
    environment.pop("CI", None)
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=120)
    assert said in done.stdout + done.stderr, done.stdout + done.stderr
    seen = (gate.bin / f"{program}.seen").read_text()
    assert seen.count("-- ") >= 2, "it saw no ancestors"
    assert "SLIPWAY_MIRROR=" in seen
    names = [*CREDENTIALS, "SLIPWAY_KEYS"]
    assert [
        line for line in seen.splitlines() if "spied" in line or line.partition("=")[0] in names
    ] == []


#: What a check may try: it says what it got, and fails if that is anything.
INTRUDER = """\
import ctypes, os, pathlib
got = []
def attempt(what, act):
    try:
        answer = act()
    except (OSError, PermissionError):
        return
    if answer is not None:
        got.append((what, answer))
PLACES = {places!r}
def content(place):
    return sorted(os.listdir(place)) if os.path.isdir(place) else open(place).read(99)
def text_with(file, word):
    text = file.read_text()
    return text if word in text else None
for place in PLACES:
    attempt("read", lambda: (place, content(place)))
    attempt("wrote", lambda: (place, open(place + "/planted", "w").close()))
DEVICES = ("/dev/kvm", "/dev/mem", "/dev/sda", "/dev/kmsg")
for file in ("/etc/shadow", "/proc/1/root" + PLACES[0], "/old", *DEVICES):
    attempt("read", lambda: (file, open(file).read(9)))
attempt("a device of taps", lambda: os.open("/dev/net/tun", os.O_RDWR))
for name, value in os.environ.items():
    if "spied" in value or name.startswith(("AWS_", "SLIPWAY_KEY", "http", "SSH_")) and value:
        got.append((name, value))
for folder in pathlib.Path("/proc").glob("[0-9]*"):
    attempt("environment", lambda: text_with(folder / "environ", "spied"))
    attempt("a program of the host", lambda: text_with(folder / "cmdline", "pytest"))
uid = [line.split() for line in open("/proc/self/uid_map")]
if len(uid) != 1 or int(uid[0][1]) == {uid}:
    got.append(("uid", uid))
for number in range(3, 256):
    opened = f"/proc/self/fd/{{number}}"
    attempt("a descriptor", lambda: os.readlink(opened) if os.path.exists(opened) else None)
assert os.environ["HOME"] == "/home/check", os.environ["HOME"]
(pathlib.Path.home() / "mine").write_text("a home of its own")
pathlib.Path("/tmp/mine").write_text("x")
got = [each for each in got if each[0] != "a descriptor" or "/proc/" not in each[1]]
assert not got, got
"""


def test_a_check_from_outside_is_nobody_on_this_host_and_sees_none_of_its_files(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither keys nor the caller's files, also those that everybody may read, nor its processes;
    and it can plant nothing.
    """
    home = gate.directory / "home"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh/id").write_text("spied")
    keys = gate.directory / "keys"
    keys.mkdir()
    (keys / "nightly.json").write_text("spied")
    home.chmod(0o777)
    keys.chmod(0o755)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("http_proxy", "http://someone:spied@proxy.invalid/")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "spied")
    places = [
        str(home),
        str(keys),
        str(gate.directory),
        str(HERE.parent / "src"),
        str(HERE.parent / "appliances"),
    ]
    intruder = "# timeout: 2\n" + INTRUDER.format(places=places, uid=os.geteuid())
    gate.plays([["write", f"{PASS}finished\n"]], files={"checks/outside/25-intruder.py": intruder})
    assert gate.build() == ""
    assert not list(gate.directory.rglob("planted"))


def test_a_check_that_writes_without_end_leaves_this_hosts_disk_alone(gate: Gate) -> None:
    """Its output stops at 64 MiB, and what it writes elsewhere is in the room's memory."""
    endless = (
        "# timeout: 20\ncat /dev/zero >/tmp/much\ncat /dev/zero >/mnt/much\nexec cat /dev/zero\n"
    )
    gate.plays([["write", f"{PASS}finished\n"]], files={"checks/outside/25-endless.sh": endless})
    assert gate.build().startswith("1 of 9 checks of web failed\n  outside/25-endless.sh failed:\n")
    sizes = [path.stat().st_size for path in gate.root.rglob("*") if path.is_file()]
    assert max(sizes) <= 64 << 20


STANDARD = ("system-started", "root-grown", "services-active", "ports-listening")


def test_a_check_alone_is_run_without_the_others_and_counts_for_no_build(gate: Gate) -> None:
    report = "".join(f"check {name} passed 1 10 \n" for name in (*STANDARD, "20-two.sh"))
    gate.plays([["write", f"running\nstarted\n{report}finished\n"]])
    only = trial.find_checks(gate.job.source.appliance, ["20-two.sh"])
    assert only == {"guest/20-two.sh"}
    found = pipeline.check(gate.shop, gate.job, only=only)
    names = [f"{each.place}/{each.name}" for each in found.checks]
    assert names == [*(f"guest/{name}" for name in STANDARD), "guest/20-two.sh"]
    assert gate.shop.cache.find(gate.job.stage("boot").id) is None, (
        "a part of the checks counts as all"
    )
    assert gate.shop.durations.usual_s(duration_key(gate.job, "boot")) is None


def test_a_check_from_outside_alone(gate: Gate) -> None:
    report = "".join(f"check {name} passed 1 10 \n" for name in STANDARD)
    gate.plays([["write", f"running\nstarted\n{report}finished\n"]])
    found = pipeline.check(
        gate.shop,
        gate.job,
        only=trial.find_checks(gate.job.source.appliance, ["outside/30-client.sh"]),
    )
    assert [each.name for each in found.checks if each.place != "guest"] == ["30-client.sh"]


def test_a_check_that_does_not_exist_is_named(gate: Gate) -> None:
    gate.plays([])
    with pytest.raises(UsageError) as caught:
        trial.find_checks(gate.job.source.appliance, ["20-to.sh"])
    assert (
        str(caught.value) == 'error: web has no check "20-to.sh"\n  hint: did you mean "20-two.sh"?'
    )


@pytest.mark.parametrize(
    "play",
    [[["write", f"{FAILED}finished\n"]], [["write", "nonsense\n"]]],
    ids=["failed", "misreported"],
)
def test_a_machine_that_failed_can_be_looked_at_while_it_runs(gate: Gate, play: Play) -> None:
    gate.plays(play)
    seen = []

    def look(held: trial.Held) -> None:
        assert held.guest.ended is None
        assert held.console == gate.job.logs / "console.log" and held.console.exists()
        # The way to the machine leads through its network; the key is there.
        key = held.login[held.login.index("-i") + 1]
        process.run(
            [
                *held.login[: held.login.index("ssh")],
                "sh",
                "-ec",
                'ip address show >&2; test -s "$0"',
                key,
            ]
        )
        seen.append(held.why)

    with pytest.raises(BuildError):
        pipeline.check(gate.shop, gate.job, on_failure=look)
    assert len(seen) == 1 and gate.starts == 1


def test_a_machine_that_passed_is_not_kept(gate: Gate) -> None:
    gate.plays([["write", f"running\nstarted\n{PASS}finished\n"]])
    pipeline.check(gate.shop, gate.job, on_failure=lambda held: pytest.fail(held.why))


@pytest.mark.parametrize("key", ["\n", "\x03"], ids=["enter", "ctrl-c"])
def test_the_machine_of_a_failed_check_is_kept_until_a_person_says_so(gate: Gate, key: str) -> None:
    gate.plays([["write", f"{FAILED}finished\n"]])
    status, said = typed(gate, ["check", "web", "--keep-failed"], "until Enter or Ctrl-C", key)
    assert status == 5, said
    assert "web: guest/20-two.sh failed\n" in said
    assert re.search(r"^  log in:  .*nsenter .* ssh .* root@10\.77\.0\.10$", said, re.MULTILINE), (
        said
    )
    assert said.index("going on: the machine is switched off") < said.index(
        "error: 1 of 8 checks of web failed"
    )


def test_a_machine_without_an_ssh_server_is_no_riddle(gate: Gate) -> None:
    gate.plays([["write", f"{FAILED}finished\n"]])
    status, said = typed(gate, ["check", "web", "--debug"], "a shell in the machine", "")
    assert status == 5, said
    assert "nobody could log in; its console says more" in said


def typed(gate: Gate, words: list[str], awaited: str, answer: str) -> tuple[int, str]:
    """Type a command on a terminal and answer when something stands there.

    Returns: Its status and what it wrote.
    """
    argv = [sys.executable, "-P", "-m", "slipway", *words, "--root", str(gate.root)]
    environment = {**os.environ, "PYTHONPATH": gate.python_path, "TERM": "dumb"}
    environment.pop("CI", None)
    wrapped = [
        "script",
        "--quiet",
        "--return",
        "--flush",
        "--command",
        # A shell that stays would end by Ctrl-C itself, whatever its command returns.
        f"exec {shlex.join(argv)}",
        "/dev/null",
    ]
    with subprocess.Popen(
        wrapped,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        # Whatever started these tests: a shell's background jobs ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as child:
        assert child.stdin and child.stdout
        limit = threading.Timer(120, child.kill)
        limit.start()
        said, answered = "", False
        while data := os.read(child.stdout.fileno(), 1 << 16):
            said += data.decode(errors="replace").replace("\r\n", "\n")
            if awaited in said and not answered:
                answered = True
                os.write(child.stdin.fileno(), answer.encode())
        limit.cancel()
    return child.returncode, said


@pytest.mark.parametrize("option", ["--keep-failed", "--debug"])
def test_without_a_terminal_nobody_could_end_the_machine(gate: Gate, option: str) -> None:
    gate.plays([])
    program = [sys.executable, "-P", "-m", "slipway"]
    environment = {**os.environ, "PYTHONPATH": gate.python_path}
    refused = {
        f"check web {option}": f"error: {option} needs a terminal: somebody must say when the"
        " machine may go\n"
        "  hint: leave it out; logs are kept\n",
        f"build web {option} --jobs=2": f"error: {option} does not go with --jobs or --publish\n"
        "  hint: build one at a time, then publish\n",
    }
    for words, message in refused.items():
        argv = [*program, *words.split(), f"--root={gate.root}"]
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=120)
        assert (done.returncode, done.stderr) == (2, message)
