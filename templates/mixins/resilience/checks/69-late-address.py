#!/usr/bin/env python3
# timeout: 190
"""The services start without an address, which comes half a minute later: then they listen where
they did.
"""

import json
import pathlib
import subprocess
import time

from slipway_check import PATIENCE

PATIENCE_S = 150 * PATIENCE


def told(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60).stdout


def listening() -> set[str]:
    """Where TCP is listened for, but by systemd's own, and at ports that are chosen anew each
    time.
    """
    found = {line.split()[3] for line in told("ss", "-Hltn").splitlines()}
    return {
        place
        for place in found
        if int(place.rpartition(":")[2]) < 32768 and not place.endswith((":53", ":5355"))
    }


def addresses() -> set[str]:
    links = json.loads(told("ip", "-json", "-4", "address", "show", "dev", card))
    return {
        entry["local"]
        for link in links
        for entry in link.get("addr_info", ())
        if entry["scope"] == "global"
    }


def not_there() -> list[str]:
    """What there was, and is not yet."""
    down = [
        unit
        for unit in units
        if told("systemctl", "show", "--property=ActiveState", "--value", unit).strip() != "active"
    ]
    return sorted([*(before - listening()), *(had - addresses()), *down])


enabled = [
    path.parent.name.removesuffix(".d")
    for path in pathlib.Path("/etc/systemd/system").glob("*.service.d/10-slipway.conf")
]
units = [
    unit
    for unit in enabled
    if told("systemctl", "show", "--property=ActiveState", "--value", unit).strip() != "inactive"
]
assert units, "nothing of this appliance runs"
card = json.loads(told("ip", "-json", "-4", "route", "show", "default"))[0]["dev"]
had, before = addresses(), listening()
assert had and before, "there is no address, or nothing listens"

told("ip", "-4", "address", "flush", "dev", card, "scope", "global")
try:
    told("systemctl", "restart", "--no-block", *units)
    time.sleep(30)  # longer than the ten seconds in which systemd counts starts that fail
    assert not addresses(), "an address was there all the time"
finally:
    told("networkctl", "reconfigure", card)
begun = time.monotonic()
while missing := not_there():
    assert time.monotonic() - begun < PATIENCE_S, (
        f"not there again {PATIENCE_S} s after the address: {missing}"
    )
    time.sleep(1)
# What has to be there after a restart, too (outside/70-restart.py).
pathlib.Path("/var/lib/slipway/resilience-check").write_text("\n".join(sorted(before)))
print(f"{', '.join(units)}: there {time.monotonic() - begun:.1f} s after the address")
