"""The network around machines that are checked: who is connected to whom."""

from __future__ import annotations

from pathlib import Path

from slipway.boot.lab import GATEWAY, Lab, address, lab


def run(network: Lab, interface: str, *argv: str) -> str:
    """What a command on the far side of an interface prints."""
    return network.namespace.run([*network.client(interface)[len(network.enter) :], *argv]).stdout.decode()


def test_every_instance_has_clients_of_its_own_and_all_share_the_first_network(tmp_path: Path) -> None:
    with lab(["outside", "inside"], log=tmp_path / "log", instances=["second"]) as network:
        assert network.networks() != network.networks(1)
        members = {line.split()[1].rstrip(":").partition("@")[0]: line for line in run(network, "outside", "ip", "-o", "link").splitlines()}
        assert "master outside" in members["tap0.0"]
        assert "master outside" in members["tap1.0"]
        assert "master br-tap0.1" in members["tap0.1"]
        assert "master br-tap1.1" in members["tap1.1"]
        assert set(run(network, "outside", "ip", "netns", "list").split()) >= {"inside", "second-inside"}
        assert "client0" in run(network, "inside", "ip", "-o", "link")
        assert GATEWAY in run(network, "outside", "ip", "-4", "-o", "address", "show", "dev", "outside")
        assert [address(0), address(1)] == ["10.77.0.10", "10.77.0.11"]


def test_nothing_of_it_is_left(tmp_path: Path) -> None:
    before = Path("/proc/net/dev").read_text().count(":")
    with lab(["outside", "inside"], log=tmp_path / "log"):
        pass
    assert Path("/proc/net/dev").read_text().count(":") == before
