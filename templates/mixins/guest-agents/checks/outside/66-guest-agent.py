#!/usr/bin/env python3
# timeout: 240
"""The hypervisor's host learns the machine's address and its own name from its agent, and freezes
its file systems for a snapshot: nothing is written until they are thawed, and then everything goes
on.
"""

import base64
import itertools
import json
import os
import re
import socket
import time

from slipway_check import PATIENCE

#: Writes the time to the disk, again and again, until the file is removed.
WRITER = """\
import os, time
with open("/var/tmp/agent-check", "w") as file:
    while os.path.exists(file.name):
        print(time.monotonic(), file=file, flush=True)
        os.fsync(file)
        time.sleep(0.1)
"""
FROZEN_S = 6.0


class Agent:
    """The agent, asked in its own protocol (QEMU's docs/interop/qemu-ga-ref)."""

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

    def ask(self, command: str, **arguments: object) -> object:
        self.send(b"", command, **arguments)
        answer = json.loads(self.lines.readline())
        assert "return" in answer, f"{command}: {answer}"
        return answer["return"]

    def run(self, *argv: str) -> int:
        started = self.ask("guest-exec", path=argv[0], arg=list(argv[1:]))
        assert isinstance(started, dict)
        return int(started["pid"])

    def read(self, path: str) -> str:
        handle = self.ask("guest-file-open", path=path, mode="r")
        text, ended = b"", False
        while not ended:
            part = self.ask("guest-file-read", handle=handle)
            assert isinstance(part, dict)
            text, ended = text + base64.b64decode(part["buf-b64"]), part["eof"]
        self.ask("guest-file-close", handle=handle)
        return text.decode()


def written() -> list[float]:
    """When the writer wrote; its last line may be half there."""
    return [float(line) for line in agent.read("/var/tmp/agent-check").split("\n")[:-1]]


agent = Agent()
cards = agent.ask("guest-network-get-interfaces")
assert isinstance(cards, list)
addresses = {address["ip-address"] for card in cards for address in card.get("ip-addresses", ())}
assert os.environ["SLIPWAY_ADDRESS"] in addresses, addresses

name = agent.ask("guest-get-host-name")
assert isinstance(name, dict)
assert re.fullmatch(r"[a-z0-9-]+-[0-9a-f]{6}", name["host-name"]), (
    f"the image's name, and none of its own: {name}"
)

if agent.ask("guest-fsfreeze-status") == "frozen":  # by a try before this one
    agent.ask("guest-fsfreeze-thaw")
agent.run("/usr/bin/rm", "-f", "/var/tmp/agent-check")
agent.run("/usr/bin/python3", "-c", WRITER)
until = time.monotonic() + 60 * PATIENCE
while True:
    time.sleep(2)
    try:
        if len(written()) >= 3:
            break
    except AssertionError:
        if time.monotonic() > until:
            raise
assert agent.ask("guest-fsfreeze-freeze")
try:
    status = agent.ask("guest-fsfreeze-status")
    time.sleep(FROZEN_S)
finally:
    thawed = agent.ask("guest-fsfreeze-thaw")
assert (status, bool(thawed)) == ("frozen", True), (status, thawed)
before = len(written())
time.sleep(3)
times = written()
agent.run("/usr/bin/rm", "-f", "/var/tmp/agent-check")
pause = max(later - earlier for earlier, later in itertools.pairwise(times))
assert pause > FROZEN_S - 1, f"written while frozen: the longest pause was {pause:.1f} s"
assert len(times) > before, "nothing is written after the thaw"
print(f"{name['host-name']}, {sorted(addresses)}; frozen for {pause:.1f} s")
