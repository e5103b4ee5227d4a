#!/usr/bin/env python3
# timeout: 240
# before: reboot
"""The machine was restarted: everything is started, nothing has failed, and what listened before
does again.
"""

import base64
import json
import os
import socket
import time

from slipway_check import PATIENCE

#: Told by 69-late-address.py, before the restart.
BEFORE = "/var/lib/slipway/resilience-check"
PATIENCE_S = 200 * PATIENCE


class Agent:
    """The machine's agent, asked in its own protocol (QEMU's docs/interop/qemu-ga-ref): it is there
    without a network.
    """

    def __init__(self) -> None:
        self.link = socket.socket(socket.AF_UNIX)
        self.link.settimeout(120 * PATIENCE)
        self.link.connect("\0" + os.environ["SLIPWAY_AGENT"].removeprefix("@"))
        self.lines = self.link.makefile("rb")
        # What an earlier client did not read comes first; 0xff ends a command that it did not
        # finish.
        token = time.time_ns() % 1_000_000_007
        self.send(b"\xff", "guest-sync-delimited", id=token)
        while self.lines.readline().rpartition(b"\xff")[2] != b'{"return": %d}\n' % token:
            pass

    def send(self, before: bytes, command: str, **arguments: object) -> None:
        self.link.sendall(
            before + json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n"
        )

    def ask(self, command: str, **arguments: object) -> dict[str, object]:
        self.send(b"", command, **arguments)
        answer = json.loads(self.lines.readline())
        assert "return" in answer, f"{command}: {answer}"
        found = answer["return"]
        assert isinstance(found, dict)
        return found

    def said(self, *argv: str) -> str:
        """What a command prints, whatever its status is."""
        process = self.ask(
            "guest-exec", path=argv[0], arg=list(argv[1:]), **{"capture-output": True}
        )["pid"]
        while not (state := self.ask("guest-exec-status", pid=process))["exited"]:
            time.sleep(0.2)
        return base64.b64decode(str(state.get("out-data", ""))).decode().strip()


def missing() -> str:
    """What is not there yet; nothing if all is."""
    state = agent.said("/usr/bin/systemctl", "is-system-running")
    if state != "running":
        only = ("--failed", "--plain", "--no-legend")
        return f"systemd says {state}: {agent.said('/usr/bin/systemctl', 'list-units', *only)}"
    now = {line.split()[3] for line in agent.said("/usr/bin/ss", "-Hltn").splitlines()}
    return f"nothing listens at {sorted(before - now)}" if before - now else ""


agent = Agent()
before = set(agent.said("/usr/bin/cat", BEFORE).split())
assert before, "the check before the restart has left nothing"
begun = time.monotonic()
while problem := missing():
    assert time.monotonic() - begun < PATIENCE_S, problem
    time.sleep(1)
print(
    f"{len(before)} addresses are listened at, {time.monotonic() - begun:.1f} s after "
    "the agent was there"
)
