#!/usr/bin/env python3
# timeout: 240
# with: second
"""Of two instances the one with the higher priority has the shared address, however much higher.
Its cable is pulled: the other one takes the address and answers; it is plugged in again: it takes
the address back. Its HAProxy hangs: the same. Its keepalived is killed, which leaves the address on
both: it starts again, and one alone has it.
"""

import os
import shlex
import socket
import subprocess
import time

from slipway_check import PATIENCE

SHARED, ROUTER_ID = "10.77.0.50", 51
ssh, second = (
    shlex.split(os.environ[name]) for name in ("SLIPWAY_SSH", "SLIPWAY_INSTANCE_SECOND_SSH")
)


def holder() -> str:
    """The hardware address of who answers at the shared address; empty if nobody does."""
    subprocess.run(["ip", "neighbour", "flush", "to", SHARED], check=False)
    try:
        socket.create_connection((SHARED, 80), timeout=2).close()
    except OSError:
        return ""
    words = subprocess.run(
        ["ip", "neighbour", "show", "to", SHARED], check=True, capture_output=True, text=True
    ).stdout.split()
    return words[words.index("lladdr") + 1] if "lladdr" in words else ""


def hardware(words: list[str]) -> str:
    device = "$(ip -o route get 10.77.0.1 | sed 's/.* dev \\([^ ]*\\).*/\\1/')"
    ran = subprocess.run(
        [*words, f"cat /sys/class/net/{device}/address"],
        capture_output=True,
        text=True,
        timeout=60 * PATIENCE,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def wait_for(wanted: str) -> float:
    begun = time.monotonic()
    while (found := holder()) != wanted:
        assert time.monotonic() - begun < 90, f"{found or 'nobody'} has the address, not {wanted}"
        time.sleep(0.2)
    return time.monotonic() - begun


one, other = hardware(ssh), hardware(second)
assert one != other
subprocess.run([*second, "systemctl is-active haproxy keepalived"], check=True)
subprocess.run([*ssh, f"traffic-manager address {SHARED}/24 250 {ROUTER_ID}"], check=True)
try:
    wait_for(one)
    unplug = (
        "dev=$(ip -o route get 10.77.0.1 | sed 's/.* dev \\([^ ]*\\).*/\\1/'); ip link set $dev "
        "down; sleep 30; ip link set $dev up"
    )
    subprocess.run(
        [*ssh, f"systemd-run --quiet sh -c {shlex.quote(f'sleep 2; {unplug}')}"], check=True
    )
    time.sleep(2)
    print(f"the other one answers {wait_for(other):.1f} s after the cable was pulled")
    print(f"taken back after {wait_for(one):.1f} s")
    subprocess.run([*ssh, "pkill -STOP -x haproxy"], check=True)
    try:
        print(f"the other one answers {wait_for(other):.1f} s after HAProxy hung")
    finally:
        subprocess.run([*ssh, "pkill -CONT -x haproxy"], check=True)
    print(f"taken back after {wait_for(one):.1f} s")
    kill = (
        "systemctl kill --kill-whom=main --signal=KILL keepalived; sleep 10; "
        "systemctl is-active keepalived"
    )
    subprocess.run([*ssh, kill], check=True, stdout=subprocess.DEVNULL)
    wait_for(one)
    assert {holder() for _ in range(5)} == {one}, (
        "both have the address after keepalived was killed"
    )
    print("one alone has it after keepalived was killed")
finally:
    subprocess.run([*ssh, "traffic-manager address none"], check=False)
