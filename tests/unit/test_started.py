"""What `start` and `faults` tell a program, without a machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from example_root import make_root
from json_shapes import judge, shape_of
from slipway import pipeline
from slipway.boot.emulator import Emulator
from slipway.boot.report import CheckResult
from slipway.boot.sandbox import Sandbox
from slipway.commandline.answer import Answer
from slipway.commands import building
from slipway.commands.options import Checkout, Recipe
from slipway.errors import BuildError, UsageError
from slipway.host.accelerator import Accelerator
from slipway.workflows import faults as proving
from slipway.workflows.faults import Fault, Proof

EMULATOR = Emulator(
    name="host",
    version="9.0",
    reason="it is new",
    accelerator=Accelerator(name="tcg", reason="no KVM"),
)
SPEC = (
    "schema: 1\nname: web\nversion: 1.0.0\nsummary: A web server\ncategory: web\npackages: [web]\n"
)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make_root(tmp_path, "web", {"appliance.yaml": SPEC}, monkeypatch)


def document(capsys: pytest.CaptureFixture[str], task: str) -> dict[str, Any]:
    """Return what was printed on standard output, which is as docs/reference/json.md says."""
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    rest = {
        name: value for name, value in told.items() if name not in ("format", "exit_code", "errors")
    }
    assert told["format"] == shape_of(task).FORMAT
    assert list(judge(rest, shape_of(task))) == []
    return rest


def begin(root: Path, answer: Answer) -> None:
    """Run `start web`."""
    body: Any = building.start.body
    at = Checkout(root=str(root))
    body.__wrapped__("web", at=at, recipe=Recipe(), wanted=building._Start(), answer=answer)


def test_a_program_gets_the_ports_while_the_machine_runs(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[dict[str, Any]] = []
    qemu = SimpleNamespace(wait=lambda: seen.append(document(capsys, "start")))
    fields: dict[str, Any] = {"guest": SimpleNamespace(qemu=qemu), "emulator": EMULATOR}

    @contextmanager
    def start(*_: object, **__: object) -> Iterator[Sandbox]:
        yield Sandbox(
            **fields,
            console=Path("console"),
            ports={"tcp/22": 4022},
            unreachable=("udp/1-2",),
            snapshot="",
            ssh_key=Path("k.pub"),
        )

    monkeypatch.setattr(pipeline, "start", start)
    answer = Answer(json=True)
    with answer.printed("start"):
        begin(root, answer)
    (told,) = seen
    login = told.pop("login")
    assert login.startswith("ssh -p 4022 -i k ")
    assert told == {
        "appliance": "web",
        "accelerator": "tcg",
        "console": "console",
        "ports": {"tcp/22": 4022},
        "unreachable": ["udp/1-2"],
    }
    assert capsys.readouterr().out == ""


def test_a_login_that_the_appliance_refuses_is_no_promise() -> None:
    fields: dict[str, Any] = {"guest": None, "emulator": EMULATOR, "console": Path("console")}
    box = Sandbox(
        **fields,
        ports={"tcp/22": 4022},
        unreachable=("tcp/22 (inside)",),
        snapshot="",
        ssh_key=Path("k.pub"),
    )
    assert box.listing[-1].startswith("log in: ssh ")
    *_, login, note = replace(box, ssh_listed=False).listing
    assert login == box.listing[-1]
    assert note == "  (its first interface has no SSH, unless a parameter opens it)"


def test_ctrl_c_stops_the_machine_from_the_first_word_on(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fields: dict[str, Any] = {"guest": None, "emulator": EMULATOR}

    @contextmanager
    def start(*_: object, **__: object) -> Iterator[Sandbox]:
        yield Sandbox(**fields, console=Path("c"), ports={}, unreachable=(), snapshot="")

    def hasty(_: Sandbox) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "start", start)
    monkeypatch.setattr(Sandbox, "listing", property(hasty))
    begin(root, Answer())
    assert capsys.readouterr().out == "stopping\n"


def test_a_program_gets_what_became_of_each_fault(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = tuple(
        Fault(name=name, path=Path(name), summary=f"{name} is broken", caught_by="guest/10-a.sh")
        for name in ("one", "two")
    )
    check = CheckResult(
        place="guest", name="10-a.sh", outcome="failed", duration_s=1.0, attempts=1, output="no"
    )
    ended = {
        "one": Proof(fault=found[0], failed=check),
        "two": Proof(fault=found[1], failed=None, problem="no disk"),
    }
    monkeypatch.setattr(proving, "read", lambda _: found)
    monkeypatch.setattr(proving, "prove", lambda _shop, _job, fault: ended[fault.name])
    body: Any = building.faults.body
    answer = Answer(json=True)
    with pytest.raises(BuildError, match="1 of 2 faults"), answer.printed("faults"):
        body.__wrapped__(["web"], at=Checkout(root=str(root)), recipe=Recipe(), answer=answer)
    same = {"appliance": "web", "caught_by": "guest/10-a.sh"}
    assert document(capsys, "faults") == {
        "proofs": [
            {
                **same,
                "fault": "one",
                "summary": "one is broken",
                "failed": "guest/10-a.sh",
                "good": True,
                "problem": "",
            },
            {
                **same,
                "fault": "two",
                "summary": "two is broken",
                "failed": None,
                "good": False,
                "problem": "no disk",
            },
        ]
    }
    with pytest.raises(UsageError, match="--json does not go with --jobs"):
        body.__wrapped__(
            ["web"], at=Checkout(root=str(root)), recipe=Recipe(), jobs=2, answer=answer
        )
