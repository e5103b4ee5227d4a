"""What checks import: commands on a machine, values, waiting, and ports of a server here."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from pathlib import Path

import pytest

from slipway.boot import slipway_check as kit


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """This host in a machine's place: what is a client of SSH elsewhere is a shell here."""
    monkeypatch.setenv("SLIPWAY_SSH", "sh -c")
    monkeypatch.setenv("SLIPWAY_INSTANCE_OTHER_SSH", "env OTHER=yes sh -c")
    monkeypatch.setenv("SLIPWAY_INSTANCE_OTHER_ADDRESS", "10.77.0.11")
    monkeypatch.setenv("SLIPWAY_ADDRESS", "127.0.0.1")
    monkeypatch.setattr(kit, "_PARAMETERS", tmp_path)


def test_a_command_gives_its_output_or_fails_with_it() -> None:
    assert kit.root("cat; echo two", given="one\n") == "one\ntwo"
    assert kit.root("echo $OTHER", instance="other") == "yes"
    with pytest.raises(AssertionError) as caught:
        kit.root("echo out; echo err >&2; exit 3")
    assert str(caught.value) == "echo out; echo err >&2; exit 3: exit status 3\nout\nerr\n"
    with pytest.raises(AssertionError, match=r"^exec sleep 9: no end after 0.2 s$"):
        kit.root("exec sleep 9", timeout_s=0.2)
    assert kit.tried("exit 3").returncode == 3


def test_without_ssh_the_machine_is_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLIPWAY_SSH")
    monkeypatch.delenv("SLIPWAY_ADDRESS")
    assert kit.root("echo here") == "here"
    assert kit.address() == "127.0.0.1"
    with pytest.raises(KeyError):
        kit.root("true", instance="nobody")


def test_a_value_was_given_or_is_on_the_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SLIPWAY_PARAMETER_DOMAIN", "given.test")
    (tmp_path / "domain").write_text("kept.test")
    (tmp_path / "password").write_text("made here")
    assert (kit.parameter("domain"), kit.secret("domain")) == ("given.test", "kept.test")
    assert (kit.parameter("password"), kit.secret()) == ("made here", "made here")
    with pytest.raises(AssertionError, match="exit status 1"):
        kit.secret("nothing")
    assert (kit.address(), kit.address("other")) == ("127.0.0.1", "10.77.0.11")


def test_what_does_not_hold_yet_is_waited_for() -> None:
    tries: list[int] = []

    def third() -> str:
        tries.append(1)
        assert len(tries) > 1, "the first"
        return "" if len(tries) < 3 else "there"

    assert kit.eventually(third, seconds=5, every=0.01) == "there"
    with pytest.raises(AssertionError, match=r"^not within 0 s: it is 0$"):
        kit.eventually(lambda: 0, seconds=0, every=0)
    with pytest.raises(AssertionError, match=r"^not within 0 s: .*refused"):
        kit.eventually(lambda: kit.tcp(free_port()), seconds=0, every=0)
    with pytest.raises(ZeroDivisionError):
        kit.eventually(lambda: 1 // 0)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def test_an_authority_is_read_from_the_machine(tmp_path: Path) -> None:
    nothing = tmp_path / "it's empty"
    nothing.write_text("no certificate\n")
    with pytest.raises(ssl.SSLError):
        kit.trusting(str(nothing))
    with pytest.raises(AssertionError, match="exit status 1"):
        kit.trusting(str(tmp_path / "missing"))


def test_a_datagram_is_sent_until_it_is_answered() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(20)

        def answer() -> None:
            server.recvfrom(100)  # lost
            server.sendto(b"pong", server.recvfrom(100)[1])

        speaker = threading.Thread(target=answer)
        speaker.start()
        assert kit.udp(server.getsockname()[1], b"ping", timeout_s=20) == b"pong"
        speaker.join()
    begun = time.monotonic()
    assert kit.udp(free_port(), b"ping", timeout_s=0.5) is None
    assert time.monotonic() - begun < 15
