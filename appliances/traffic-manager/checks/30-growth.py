#!/usr/bin/env python3
# timeout: 120
"""A month of requests does not fill the disk: they are in the journal, which has a limit, and
nowhere else.
"""

import http.client
import pathlib
import subprocess
import time

REQUESTS, ROUNDS = 100, 3


def kept() -> int:
    """What is on the disk below /etc and /var, but for the journal, in bytes."""
    subprocess.run(["sync"], check=True)
    command = [
        "du",
        "--summarize",
        "--total",
        "--block-size=1",
        "--exclude=/var/log/journal",
        "/etc",
        "/var",
    ]
    return int(
        subprocess.run(command, check=True, capture_output=True, text=True)
        .stdout.splitlines()[-1]
        .split()[0]
    )


def ask(mark: str) -> None:
    for number in range(REQUESTS):
        connection = http.client.HTTPConnection("127.0.0.1", 80, timeout=60)
        connection.request("GET", f"/{mark}-{number}")
        connection.getresponse().read()
        connection.close()


mark = f"growth-{time.time_ns()}"
grown = []
for number in range(ROUNDS):
    before = kept()
    ask(f"{mark}-{number}")
    grown.append(kept() - before)
# What others write meanwhile is not in each round.
assert min(grown) < 4096, f"{REQUESTS} requests leave {grown} bytes each time"
until = time.monotonic() + 30
while (
    f"/{mark}-{ROUNDS - 1}-{REQUESTS - 1} "
    not in subprocess.run(
        ["journalctl", "--unit=haproxy", "--since=-10min", "--output=cat"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
):
    assert time.monotonic() < until, "the journal does not tell of the requests"
    time.sleep(1)
opened = [
    f"{path}: {path.readlink()}"
    for pid in pathlib.Path("/sys/fs/cgroup/system.slice/haproxy.service/cgroup.procs")
    .read_text()
    .split()
    for path in pathlib.Path(f"/proc/{pid}/fd").iterdir()
    if str(path.readlink()).startswith("/var/log/")
]
assert not opened, opened
print(f"{ROUNDS} times {REQUESTS} requests leave {grown} bytes beside the journal")
