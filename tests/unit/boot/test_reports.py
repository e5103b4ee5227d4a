"""What a guest says becomes a report; a guest that says nothing is not waited for forever."""

from __future__ import annotations

import base64
import tarfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from slipway.boot.checks import systemd_version
from slipway.boot.delivery import deliver, parameter_values, samples
from slipway.boot.machine import Running
from slipway.boot.report import Attempt, BootReport, CheckResult
from slipway.boot.results import Died, Misreported, Reported, ending, follow
from slipway.packages.locked import Lock, LockedPackage
from slipway.spec.library import Library
from slipway.spec.model import Parameter

ROOT = Path(__file__).parents[3]


class Guest:
    """A guest as far as :func:`follow` looks at it: whether QEMU has ended, and how slow its host
    is.
    """

    def __init__(self, ended: int | None = None, slowdown: float = 1) -> None:
        self.ended, self.slowdown = ended, slowdown


def heard(
    tmp_path: Path,
    said: str | bytes,
    *,
    expected: tuple[str, ...] = ("one", "two"),
    ended: int | None = None,
    console: str = "",
    start_s: float = 0.2,
) -> list[CheckResult]:
    """The results in what a guest wrote."""
    results = tmp_path / "results"
    results.write_bytes(said if isinstance(said, bytes) else said.encode())
    (tmp_path / "console").write_text(console)
    guest = cast(Running, Guest(ended))
    reported = Reported(expected=expected)
    return list(
        follow(guest, results, tmp_path / "console", reported, start_s=start_s, check_s=0.2)
    )


def test_results_are_read_until_the_guest_is_done(tmp_path: Path) -> None:
    output = base64.b64encode(b"nothing listens\n").decode()
    found = heard(
        tmp_path,
        f"running\nstarted\ncheck one passed 1 25 \ncheck two timed-out 3 3000 {output}\n"
        "memory 2048\nfinished\ncheck late passed 1 1 \n",
    )
    assert found == [
        CheckResult(name="one", place="guest", outcome="passed", duration_s=0.25, attempts=1),
        CheckResult(
            name="two",
            place="guest",
            outcome="timed out",
            duration_s=30.0,
            attempts=3,
            output="nothing listens\n",
        ),
    ]


def test_a_machine_that_was_killed_is_told_with_the_memory_that_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("slipway.boot.results.available_memory_mib", lambda: 312)
    assert (
        ending(-9)
        == "QEMU was killed (signal 9), as it is where memory is used up; 312 MiB are available now"
    )
    assert ending(-6) == "QEMU ended with status -6"


@pytest.mark.parametrize("slowdown", [1, 1000])
def test_a_guest_of_a_busy_host_is_waited_for(tmp_path: Path, slowdown: float) -> None:
    results, reported = tmp_path / "results", Reported(expected=())
    results.touch()
    speaker = threading.Timer(1, results.write_text, ["running\nfinished\n"])
    speaker.start()
    try:
        found = follow(
            cast(Running, Guest(slowdown=slowdown)),
            results,
            tmp_path / "console",
            reported,
            start_s=0.2,
            check_s=0.2,
        )
        if slowdown > 1:
            assert list(found) == []
        else:
            with pytest.raises(Died, match="nothing was heard of it"):
                list(found)
    finally:
        speaker.join()


@pytest.mark.parametrize(
    ("said", "more", "problem"),
    [
        ("", {}, "nothing was heard of it for 0 s"),
        ("running\n", {}, "nothing was heard of it for 0 s"),
        ("running\nfini", {}, "nothing was heard of it for 0 s"),
        ("", {"ended": -6}, "QEMU ended with status -6"),
        (
            "",
            {"console": "[ 1.0] Kernel panic - not syncing: VFS", "start_s": 60.0},
            "its kernel crashed",
        ),
    ],
)
def test_a_guest_that_does_not_come_to_its_checks_has_died(
    tmp_path: Path, said: str, more: dict[str, object], problem: str
) -> None:
    with pytest.raises(Died) as caught:
        heard(tmp_path, said, **more)  # type: ignore[arg-type]
    assert str(caught.value) == problem


ONE = "check one passed 1 25 \n"


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ("finished\n", "it reported an end, and nothing of: one, two"),
        (f"running\n{ONE}finished\n", "it reported an end, and nothing of: two"),
        (f"{ONE}{ONE}", "it reported one twice"),
        (f"check one failed 1 25 \n{ONE}", "it reported one twice"),
        ("check three passed 1 25 \n", "it reported a check that does not exist: 'three'"),
        (
            "check outside/one passed 1 25 \n",
            "it reported a check that does not exist: 'outside/one'",
        ),
        ("check one good 1 25 \n", "it reported no outcome of one: 'check one good 1 25 '"),
        ("check one passed 0 25 \n", "it reported no outcome of one: 'check one passed 0 25 '"),
        ("check one passed -1 25 \n", "it reported no outcome of one: 'check one passed -1 25 '"),
        ("check one passed 1 1e9 \n", "it reported no outcome of one: 'check one passed 1 1e9 '"),
        (
            "check one passed 1 \u0662 \n",
            r"it reported no outcome of one: 'check one passed 1 \u0662 '",
        ),
        ("check one passed 1 25 ###\n", "the output of one is not base64: '###'"),
        (
            "check one passed 1 25\n",
            "it reported a line without a meaning: 'check one passed 1 25'",
        ),
        (
            "check one passed 1 25  \n",
            "it reported a line without a meaning: 'check one passed 1 25  '",
        ),
        ("hello \x1b[2J\n", r"it reported a line without a meaning: 'hello \x1b[2J'"),
        ("memory lots\n", "it reported a line without a meaning: 'memory lots'"),
        ("\n", "it reported a line without a meaning: ''"),
        (b"\xff\xfe\n", r"it reported a line without a meaning: '\ufffd\ufffd'"),
        (b"x" * (5 << 20), "its results have more than 4 MiB"),
        (b"running\n" * 1_000_000, "its results have more than 4 MiB"),
    ],
)
def test_a_report_that_cannot_be_true_is_refused(
    tmp_path: Path, said: str | bytes, problem: str
) -> None:
    with pytest.raises(Misreported) as caught:
        heard(tmp_path, said)
    assert str(caught.value) == problem


def test_a_console_without_an_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Misreported) as caught:
        (tmp_path / "console").touch()
        heard(tmp_path, "running\n", console="x" * (65 << 20))
    assert str(caught.value) == "its console has more than 64 MiB"


def test_a_report_survives_being_written_and_passes_only_as_a_whole() -> None:
    good = CheckResult(name="one", place="guest", outcome="passed", duration_s=1, attempts=1)
    bad = CheckResult(
        name="two", place="outside", outcome="failed", duration_s=1, attempts=2, output="x"
    )
    attempts = (Attempt(started_s=9.5, problem="its kernel crashed"), Attempt(started_s=20))
    both = ("guest/one", "outside/two")
    report = BootReport(
        accelerator="tcg", firmware="bios", attempts=attempts, checks=(good, bad), expected=both
    )
    assert not report.passed
    assert (
        report.summary
        == "1 of 2 checks passed (tcg, bios); started again after: its kernel crashed"
    )
    assert BootReport.from_json(report.to_json()) == report
    shown = replace(report, picture={"media_type": "image/png", "width": 1, "height": 1})
    assert BootReport.from_json(shown.to_json()) == shown
    earlier = {name: value for name, value in report.to_json().items() if name != "picture"}
    assert BootReport.from_json(earlier) == report


def test_a_report_passes_with_the_expected_checks_alone() -> None:
    def passed(checks: tuple[CheckResult, ...], *expected: str) -> bool:
        return BootReport(
            accelerator="tcg", firmware="bios", attempts=(), checks=checks, expected=expected
        ).passed

    good = CheckResult(name="one", place="guest", outcome="passed", duration_s=1, attempts=1)
    assert passed((good,), "guest/one")
    assert not passed(())
    assert not passed((), "guest/one")
    assert not passed((good,), "guest/one", "guest/two")
    assert not passed((good,), "outside/one")
    assert not passed((good, good), "guest/one")
    assert not passed((good,))


@pytest.mark.parametrize(
    ("version", "number"), [("257.13-1~deb13u1", 257), ("1:252-1", 252), (None, 0)]
)
def test_the_version_of_systemd_is_the_locks(version: str | None, number: int) -> None:
    packages = (
        ()
        if version is None
        else (
            LockedPackage(
                name="systemd",
                version=version,
                architecture="amd64",
                sha256="0" * 64,
                size=1,
                archive="debian",
                path="p",
            ),
        )
    )
    lock = Lock(
        base="b",
        kernel="cloud",
        architecture="amd64",
        source_date_epoch=0,
        base_packages=packages,
        packages=(),
    )
    assert systemd_version(lock) == number


def test_parameters_without_a_value_get_one_that_is_accepted() -> None:
    given = tuple(
        Parameter.model_validate({"summary": "It", **item})
        for item in (
            {"name": "a", "type": "string"},
            {"name": "b", "type": "string", "choices": ("x", "y")},
            {"name": "c", "type": "integer", "default": "7"},
            {"name": "d", "type": "secret", "generate": 24},
            {"name": "e", "type": "ipv4-cidr"},
        )
    )
    assert parameter_values(given, {"a": "mine"}) == {
        "a": "mine",
        "b": "x",
        "c": "7",
        "e": "192.0.2.1/24",
    }
    assert samples(given) == {"a": "sample", "b": "x", "e": "192.0.2.1/24"}


@pytest.mark.parametrize(
    ("systemd", "drives"), [(257, {"slipway-checks"}), (252, {"slipway-checks", "slipway-seed"})]
)
def test_checks_travel_on_a_disk_and_start_by_what_the_guest_understands(
    tmp_path: Path, systemd: int, drives: set[str]
) -> None:
    library = Library(ROOT)
    appliance = library.load(library.names()[0])
    delivery = deliver(appliance, systemd, {"domain": "a.test"}, 4, tmp_path)
    assert set(delivery.drives) == drives
    assert delivery.credentials["slipway.domain"] == b"a.test"
    assert ("systemd.extra-unit.slipway-checks.service" in delivery.credentials) == (systemd >= 256)
    disk = delivery.drives["slipway-checks"]
    assert disk.stat().st_size % 512 == 0
    with tarfile.open(disk) as archive:
        names = set(archive.getnames())
        guest = {f"checks/{check.name}" for check in appliance.checks if check.place == "guest"}
        assert names == {"runner.sh", "settings.sh", "list", "checks/slipway_check.py"} | guest
        settings = archive.extractfile("settings.sh")
        assert settings
        assert settings.read().startswith(b"FACTOR=4\n")
