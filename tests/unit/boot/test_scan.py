"""Open ports are found among all there are."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from collections.abc import Sequence

import pytest

from slipway.boot import scan

ADDRESS = "127.77.0.10"


def test_every_open_port_is_found() -> None:
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(socket.create_server((ADDRESS, 0))) for _ in range(3)]
        mine = {server.getsockname()[1] for server in servers}
        around = range(max(1, min(mine) - 3000), min(65536, max(mine) + 3000))
        found = scan.scan(ADDRESS, around).open
    # There may be servers of this host that listen on every address.
    assert mine == set(found) - set(scan.scan(ADDRESS, found).open)


def test_an_address_without_a_way_to_it_is_an_error() -> None:
    with pytest.raises(OSError, match="port 1 cannot be probed"):
        scan.scan("255.255.255.255", [1])


def test_a_udp_port_that_nobody_listens_on_is_refused() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind((ADDRESS, 0))
        port = listener.getsockname()[1]
        assert scan.refused_udp_ports(ADDRESS, [port]) == []
    assert scan.refused_udp_ports(ADDRESS, [port]) == [port]


#: How long each question was waited for.
patience: list[float] = []


def answers(
    monkeypatch: pytest.MonkeyPatch, *rounds: tuple[list[int], list[int], int]
) -> list[list[int]]:
    """Have the machine answer in rounds: open, silent, how many refused.

    Returns what is asked in each.
    """
    asked: list[list[int]] = []

    def ask(
        _: str, ports: Sequence[int], patience_s: float
    ) -> tuple[list[int], list[int], list[int]]:
        asked.append(list(ports))
        patience.append(patience_s)
        opened, silent, refused = rounds[min(len(asked), len(rounds)) - 1]
        return opened, silent, [1] * refused

    def refused_udp(_: str, ports: Sequence[int], patience_s: float) -> list[int]:
        patience.append(patience_s)
        return [port for port in ports if port == 53]

    monkeypatch.setattr(scan, "_ask", ask)
    monkeypatch.setattr(
        scan, "_drain", lambda address, known, patience_s: patience.append(patience_s)
    )
    monkeypatch.setattr(scan, "AT_FIRST", 65_535)
    monkeypatch.setattr(scan, "AT_LEAST", 65_535)
    monkeypatch.setattr(scan, "refused_udp_ports", refused_udp)
    patience.clear()
    return asked


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines of the program, without the one that has a time."""
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("(")
    return [lines[0], *lines[2:]]


def test_lost_packets_are_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also a quarter of all, as with a short queue."""
    silent = list(range(10_000, 26_000))
    asked = answers(
        monkeypatch,
        ([80], silent, 49_534),
        ([], [443, 8080], 15_998),
        ([443], [8080], 0),
        ([], [], 1),
    )
    assert scan.scan(ADDRESS) == scan.Scan((80, 443), (), 65_533)
    assert [len(ports) for ports in asked] == [65_535, 16_000, 2, 1]


def test_a_machine_is_asked_for_as_long_as_some_of_its_silent_ports_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    silent = list(range(10_000, 10_000 + 3 * scan.AGAIN))
    rounds = [([silent[number]], silent[number + 1 :], 0) for number in range(len(silent))]
    answers(monkeypatch, ([80], silent, 65_534 - len(silent)), *rounds)
    assert scan.scan(ADDRESS).silent == ()


def test_a_silent_port_of_a_machine_that_refuses_others_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = answers(monkeypatch, ([80], [8080], 65_533), ([], [8080], 0))
    assert scan.main([ADDRESS, "80"]) == 1
    assert len(asked) == 1 + scan.AGAIN
    assert said(capsys) == [
        "of 65535 TCP ports: 1 open, 65533 refused, 1 silent",
        "open: 80",
        "silent, though the machine refuses others: 8080",
    ]


def test_a_machine_that_refuses_thousands_drops_nothing_however_many_are_silent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A machine that is too slow for its load: an open port may be among the silent ones."""
    silent = list(range(11_276, 65_536))
    answers(monkeypatch, ([22], silent, 11_274), ([], silent, 0))
    assert scan.main([ADDRESS, "22"]) == 1
    assert said(capsys)[2].startswith("silent, though the machine refuses others: 11276, ")


def test_silence_of_a_machine_that_drops_is_an_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = answers(monkeypatch, ([80], list(range(1_000, 65_000)), 100))
    assert scan.main([ADDRESS, "80"]) == 0
    assert len(asked) == 1
    assert said(capsys) == ["of 65535 TCP ports: 1 open, 100 refused, 64000 silent", "open: 80"]


def test_a_surplus_port_fails_with_the_line_for_the_spec(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers(monkeypatch, ([22, 80, 8001, 8010], [], 65_531))
    assert scan.main([ADDRESS, "80", "8001-8010", "udp/30000-30999"]) == 1
    assert said(capsys)[1:] == [
        "open: 22, 80, 8001, 8010",
        "port 22 is open and not in the spec; if it is intended, add to ports:",
        "  - {port: 22, protocol: tcp, purpose: ...}",
    ]
    assert scan.main([ADDRESS, "22", "80", "8001-8009"]) == 1
    assert scan.main([ADDRESS, "22", "80", "8001-8010"]) == 0


def test_a_hundred_surplus_ports_take_a_few_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers(monkeypatch, (list(range(100, 200)), [], 65_435))
    assert scan.main([ADDRESS]) == 1
    lines = said(capsys)
    assert len(lines) == 2 + 20 + 1
    assert lines[-1].endswith("138, 139 and 60 more")


def test_every_port_of_a_busy_host_is_waited_for_longer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also those that are asked again, those that open late, and what the machine has in its
    queue.
    """
    answers(monkeypatch, ([80], [8080], 65_533), ([8080], [], 0))
    assert scan.main([ADDRESS, "--wait=0.1", "--patience=7.5", "80", "443", "8080", "udp/53"]) == 1
    assert set(patience) == {7.5}
    answers(monkeypatch, ([80], [8080], 65_533), ([8080], [], 0))
    assert scan.main([ADDRESS, "80", "8080"]) == 0
    assert set(patience) == {scan.PATIENCE_S}


@pytest.mark.parametrize(
    ("named", "problem"),
    [("443", "in the spec, but not open: 443"), ("udp/53", "UDP, in the spec, but refused: 53")],
)
def test_a_named_port_that_does_not_answer_fails_after_one_scan(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], named: str, problem: str
) -> None:
    """Only the missing port is asked again, until the time is up."""
    asked = answers(monkeypatch, ([22, 80], [], 65_533), ([], [], 1))
    assert scan.main([ADDRESS, "22", "80"]) == 0
    asked.clear()
    assert scan.main([ADDRESS, "--wait=0.1", "22", "80", named]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == problem
    assert [len(ports) for ports in asked] == [65_535, int(named == "443")]


def test_a_port_that_opens_late_is_right_and_all_others_are_asked_anew(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What came late may have opened a port that nobody wants."""
    rounds: list[tuple[list[int], list[int], int]] = [([22], [], 65_534), ([80], [], 0)]
    answers(monkeypatch, *rounds, ([22, 80], [], 65_533))
    assert scan.main([ADDRESS, "--wait=5", "22", "80"]) == 0
    answers(monkeypatch, *rounds, ([22, 80, 81], [], 65_532))
    assert scan.main([ADDRESS, "--wait=5", "22", "80"]) == 1
    assert "port 81 is open and not in the spec; if it is intended, add to ports:" in said(capsys)


def test_a_surplus_port_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answers(monkeypatch, ([22], [], 65_534))
    assert scan.main([ADDRESS, "--wait=60", "80"]) == 1
    assert len(asked) == 1


@pytest.mark.integration
def test_the_program_finds_a_surplus_port() -> None:
    with socket.create_server((ADDRESS, 0)) as server:
        port = server.getsockname()[1]
        argv = [sys.executable, "-I", scan.__file__, ADDRESS]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    # There may be servers of this host that listen on every address.
    assert done.returncode == 1
    assert (
        f"port {port} is open and not in the spec; if it is intended, add to ports:"
        in done.stdout.splitlines()
    )


def test_a_lost_packet_of_a_machine_that_opens_every_port_is_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = answers(
        monkeypatch, (list(range(10, 65_536)), list(range(1, 10)), 0), (list(range(1, 10)), [], 0)
    )
    assert scan.scan(ADDRESS).silent == ()
    assert len(asked) == 2
