"""Before Kamailio and rtpengine start: the addresses that this machine has now, and the tables that
a restored file lacks.

`prepare.py kamailio` and `prepare.py rtpengine` write what each of them reads below /run, and fail
while the network has given no address yet: systemd tries again. `prepare.py follow` waits until the
addresses are others than both started with, and starts both again.
"""

from __future__ import annotations

import ipaddress
import json
import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

NETWORK = Path("/etc/voip-server/network.json")
"""The interface and the public address, which first boot wrote."""
DATABASE = Path("/var/lib/kamailio/kamailio.db")
TABLES = Path("/usr/share/kamailio/db_sqlite/dialog-create.sql")
LISTEN = Path("/run/kamailio/listen.cfg")
RELAY, RELAY_BASE = Path("/run/rtpengine/rtpengine.conf"), Path("/etc/rtpengine/rtpengine.conf")
PORTS = (("udp", 5060), ("tcp", 5060), ("tls", 5061))
SETTLED_S = 2
"""How long addresses have to stay before both are started again."""


def addresses(interface: str) -> list[str]:
    """Return the interface's usable addresses: the whole world's, none that is about to go."""
    command = ["ip", "-json", "address", "show", "dev", interface, "scope", "global"]
    ran = subprocess.run(command, check=True, capture_output=True, timeout=20)
    found = [entry for link in json.loads(ran.stdout) for entry in link.get("addr_info", [])]
    lost = ("tentative", "dadfailed", "temporary", "deprecated")
    return [
        entry["local"]
        for entry in found
        if "local" in entry and not any(entry.get(word) for word in lost)
    ]


def listen(found: list[str], public: str) -> str:
    """Write what Kamailio listens on. A public address stands for those of its own family."""
    lines = []
    for address in found:
        version = ipaddress.ip_address(address).version
        host = f"[{address}]" if version == 6 else address
        for protocol, port in PORTS:
            advertised = f" advertise {public}:{port}" if public and version == 4 else ""
            lines.append(f"listen={protocol}:{host}:{port}{advertised}\n")
    return "".join(lines)


def relay(found: list[str], public: str) -> str:
    """Write rtpengine's settings: those of /etc, and the interfaces."""
    translated = [
        f"{address}!{public}" if public and "." in address else address for address in found
    ]
    return f"{RELAY_BASE.read_text()}interface = {';'.join(translated)}\n"


def tables() -> None:
    """Make the tables of running calls, which a database of an earlier version lacks, and let
    readers and a writer work at once: Kamailio gives up a write after half a second.
    """
    with closing(sqlite3.connect(f"file:{DATABASE}?mode=rw", uri=True, timeout=20)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'dialog'").fetchone():
            database.executescript(TABLES.read_text())


def follow(interface: str, public: str) -> None:
    """Wait until the addresses differ from what both services were started with."""
    with subprocess.Popen(
        ["ip", "-o", "monitor", "address", "dev", interface], stdout=subprocess.PIPE
    ) as monitor:
        assert monitor.stdout
        while True:
            time.sleep(SETTLED_S)
            found = addresses(interface)
            started = LISTEN.read_text() if LISTEN.exists() else None
            if found and started is not None and started != listen(found, public):
                print("the addresses are now", *found, flush=True)
                subprocess.run(
                    ["systemctl", "restart", "rtpengine-daemon", "kamailio"],
                    check=True,
                    timeout=200,
                )
            if not os.read(monitor.stdout.fileno(), 65536):
                return


def main() -> None:
    """See the beginning."""
    settings = json.loads(NETWORK.read_text())
    interface, public = settings["interface"], settings["public_address"]
    if sys.argv[1:] == ["follow"]:
        return follow(interface, public)
    found = addresses(interface)
    if not found:
        sys.exit(f"{interface} has no address yet")
    if sys.argv[1:] == ["kamailio"]:
        tables()
        LISTEN.write_text(listen(found, public))
    else:
        RELAY.write_text(relay(found, public))


main()
