"""Open ports are found among all there are."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys

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


def test_the_program_fails_if_a_port_is_open_that_is_not_allowed() -> None:
    def run(*allowed: int) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-I", scan.__file__, ADDRESS, *map(str, allowed)]
        return subprocess.run(argv, capture_output=True, text=True, timeout=60)

    with socket.create_server((ADDRESS, 0)) as server:
        port = server.getsockname()[1]
        # There may be servers of this host that listen on every address.
        done = run()
        assert done.returncode == 1
        surplus = [int(word) for word in done.stdout.splitlines()[1].removeprefix("not in the spec: ").split(", ")]
        assert port in surplus
        assert run(*surplus, 22).returncode == 0
