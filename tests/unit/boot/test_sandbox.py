"""A sandbox: who reaches whom, and what is said of a secret."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from slipway.boot.emulator import Emulator
from slipway.boot.sandbox import Sandbox, _keep, forwarding, require_startable
from slipway.errors import UsageError
from slipway.host.accelerator import Accelerator
from slipway.spec.model import Parameter


def test_a_machine_reaches_nothing_unless_it_is_asked_for() -> None:
    ports = {"tcp/22": 4022, "udp/53": 4053}
    ways = "hostfwd=tcp:127.0.0.1:4022-:22,hostfwd=udp:127.0.0.1:4053-:53"
    assert forwarding(ports, internet=False) == f"user,restrict=on,{ways}"
    assert forwarding(ports, internet=True) == f"user,restrict=off,{ways}"


def test_a_secret_that_is_not_accepted_is_not_shown() -> None:
    parameters = [
        Parameter(name="password", summary="P", type="secret"),
        Parameter(name="count", summary="C", type="integer"),
    ]
    appliance: Any = SimpleNamespace(name="web", spec=SimpleNamespace(parameters=parameters))
    with pytest.raises(UsageError) as caught:
        require_startable(appliance, {"password": "spied-on\x07"})
    assert str(caught.value) == (
        "error: password: its value is not accepted\n"
        "  hint: it has to be text without control characters"
    )
    with pytest.raises(UsageError) as caught:
        require_startable(appliance, {"count": "x"})
    assert (
        str(caught.value)
        == 'error: count: "x" is not accepted\n  hint: it has to be a whole number'
    )


def test_a_snapshot_gets_its_name_when_it_is_whole_whatever_another_container_does(
    tmp_path: Path,
) -> None:
    (tmp_path / "overlay").write_bytes(b"state")
    (tmp_path / f".kept.{os.getpid()}.qcow2").write_bytes(b"half of another's")
    _keep(tmp_path / "overlay", tmp_path / "kept.qcow2")
    assert (tmp_path / "kept.qcow2").read_bytes() == b"state"
    assert (tmp_path / f".kept.{os.getpid()}.qcow2").read_bytes() == b"half of another's"
    with pytest.raises(FileNotFoundError):
        _keep(tmp_path / "none", tmp_path / "other.qcow2")
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (Path("/home/a person/.ssh/id_ed25519.pub"), "-i '/home/a person/.ssh/id_ed25519' "),
        (Path("/keys/mine"), ""),
    ],
)
def test_a_started_machine_says_how_to_log_in(key: Path, words: str) -> None:
    emulator = Emulator(
        name="host",
        version="9.0",
        reason="it is new",
        accelerator=Accelerator(name="tcg", reason="no KVM"),
    )
    told: dict[str, Any] = {"emulator": emulator, "console": Path("c"), "snapshot": ""}
    guest: Any = SimpleNamespace()
    box = Sandbox(guest=guest, ports={"tcp/22": 4022}, unreachable=(), ssh_key=key, **told)
    assert box.listing[-1] == (
        f"log in: ssh -p 4022 {words}-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null "
        "root@127.0.0.1"
    )
    without = Sandbox(guest=box.guest, ports=box.ports, unreachable=(), **told)
    assert without.listing[:2] == [
        "running on tcg (no KVM); Ctrl-C stops it",
        "QEMU: 9.0, this host's own: it is new",
    ]
    assert without.listing[-1] == "tcp/22     127.0.0.1:4022"
