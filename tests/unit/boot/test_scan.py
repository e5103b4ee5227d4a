"""Open ports are found among all there are."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterable

import pytest

from slipway.boot import scan

ADDRESS = "127.77.0.10"


def test_every_open_port_is_found() -> None:
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(socket.create_server((ADDRESS, 0))) for _ in range(3)]
        mine = {server.getsockname()[1] for server in servers}
        around = range(max(1, min(mine) - 3000), min(65536, max(mine) + 3000))
        found = scan.open_ports(ADDRESS, around)
    # There may be servers of this host that listen on every address.
    assert mine == set(found) - set(scan.open_ports(ADDRESS, found))


def test_an_address_without_a_way_to_it_is_an_error() -> None:
    with pytest.raises(OSError, match="port 1 cannot be asked"):
        scan.open_ports("255.255.255.255", [1])


def test_a_udp_port_that_nobody_listens_on_is_refused() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind((ADDRESS, 0))
        port = listener.getsockname()[1]
        assert scan.refused_udp_ports(ADDRESS, [port]) == []
    assert scan.refused_udp_ports(ADDRESS, [port]) == [port]


def test_a_refused_udp_port_fails_the_program(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(scan, "open_ports", lambda _: [80])
    monkeypatch.setattr(scan, "refused_udp_ports", lambda _, ports: ports)
    assert scan.main([ADDRESS, "80"]) == 0
    assert scan.main([ADDRESS, "80", "udp/53"]) == 1
    assert "refused: 53" in capsys.readouterr().out


def test_what_was_lost_on_the_way_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[int]] = []

    def ask(_: str, ports: Iterable[int]) -> tuple[list[int], list[int]]:
        asked.append(list(ports))
        return ([80], [443, 8080]) if len(asked) == 1 else ([443], []) if len(asked) == 3 else ([], asked[-1])

    monkeypatch.setattr(scan, "_ask", ask)
    assert scan.open_ports(ADDRESS) == [80, 443]
    assert [len(ports) for ports in asked] == [65535, 2, 2]


def test_a_firewall_that_says_nothing_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[int]] = []

    def ask(_: str, ports: Iterable[int]) -> tuple[list[int], list[int]]:
        asked.append(list(ports))
        return [80], asked[-1][1:]

    monkeypatch.setattr(scan, "_ask", ask)
    assert scan.open_ports(ADDRESS) == [80]
    assert len(asked) == 1


def test_a_range_may_be_open_and_need_not_be(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(scan, "open_ports", lambda _: [80, 8001, 8010])
    monkeypatch.setattr(scan, "refused_udp_ports", lambda _, ports: ports)
    assert scan.main([ADDRESS, "80", "8001-8010", "udp/30000-30999"]) == 0
    assert scan.main([ADDRESS, "80", "8001-8009"]) == 1
    assert "not in the spec: 8010\n" in capsys.readouterr().out


def test_the_program_finds_what_is_open_and_not_allowed() -> None:
    with socket.create_server((ADDRESS, 0)) as server:
        port = server.getsockname()[1]
        argv = [sys.executable, "-I", scan.__file__, ADDRESS]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    # There may be servers of this host that listen on every address.
    assert done.returncode == 1
    assert port in [int(word) for word in done.stdout.splitlines()[1].removeprefix("not in the spec: ").split(", ")]


def test_a_port_of_the_spec_has_to_be_open(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(scan, "open_ports", lambda _: [22, 80])
    assert scan.main([ADDRESS, "22", "80"]) == 0
    assert scan.main([ADDRESS, "22", "80", "443"]) == 1
    assert capsys.readouterr().out.endswith("in the spec, but not open: 443\n")
