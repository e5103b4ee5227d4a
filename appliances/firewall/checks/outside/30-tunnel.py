#!/usr/bin/env python3
# timeout: 240
# with: branch
"""Two sites: a client behind one firewall reaches a client behind the other through WireGuard, and
nothing of it is seen between them but encrypted packets. One has a lease from its provider, the
other a fixed address.
"""

import contextlib
import ipaddress
import os
import shlex
import socket
import struct
import subprocess
import sys
import threading

PREFIXES = {"inside": "SLIPWAY_", "branch-inside": "SLIPWAY_INSTANCE_BRANCH_"}
SECRET = b"a word that nobody between the sites may read"
SERVER = """
import socket, sys
with socket.create_server((sys.argv[1], 7777)) as server:
    print("ready", flush=True)
    server.settimeout(60)
    connection, peer = server.accept()
    print(peer[0], connection.recv(100).decode(), sep="|")
"""
CALLER = (
    "import socket, sys; socket.create_connection((sys.argv[1], 7777), "
    "timeout=20).sendall(sys.argv[2].encode())"
)


def told(site: str, name: str) -> str:
    return os.environ[PREFIXES[site] + name]


def network(site: str) -> ipaddress.IPv4Network:
    return ipaddress.IPv4Interface(told(site, "PARAMETER_INSIDE_ADDRESS")).network


def client(site: str) -> str:
    return str(network(site).network_address + 20)


def within(site: str, *argv: str) -> str:
    ran = subprocess.run(
        ["ip", "netns", "exec", site, *argv], capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, f"{site}: {argv[:3]}: {ran.stderr}"
    return ran.stdout


def on(site: str, command: str) -> str:
    """What a command on a site's firewall prints.

    The main one lets SSH in from its inside alone.
    """
    gateway = told(site, "PARAMETER_INSIDE_ADDRESS").partition("/")[0]
    words = told(site, "SSH").replace(told(site, "ADDRESS"), gateway)
    return within(site, *shlex.split(words), command).strip()


def plug_in(site: str) -> None:
    """Give the site's client an address, and its firewall as the way to everywhere."""
    gateway = told(site, "PARAMETER_INSIDE_ADDRESS").partition("/")[0]
    within(site, "ip", "link", "set", "client0", "up")
    within(
        site,
        "ip",
        "address",
        "replace",
        f"{client(site)}/{network(site).prefixlen}",
        "dev",
        "client0",
    )
    within(site, "ip", "route", "replace", "default", "via", gateway)


def listen(until: threading.Event, seen: list[bytes]) -> None:
    """Everything that passes between the sites."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as tap:
        tap.bind((os.environ["SLIPWAY_INTERFACE"], 0))
        # Also what is for others (packet(7): PACKET_ADD_MEMBERSHIP, PACKET_MR_PROMISC).
        index = socket.if_nametoindex(os.environ["SLIPWAY_INTERFACE"])
        tap.setsockopt(263, 1, struct.pack("iHH8s", index, 1, 0, b""))
        tap.settimeout(0.2)
        while not until.is_set():
            with contextlib.suppress(TimeoutError):
                seen.append(tap.recv(65535))


def call(caller: str, callee: str) -> None:
    command = ["ip", "netns", "exec", callee, sys.executable, "-c", SERVER, client(callee)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None and server.stdout.readline() == "ready\n"
            within(caller, sys.executable, "-c", CALLER, client(callee), SECRET.decode())
            peer, said = server.stdout.read().strip().split("|")
        finally:
            server.kill()
    assert said == SECRET.decode(), f"{callee} heard {said!r}"
    assert ipaddress.ip_address(peer) in network(caller), (
        f"{peer} called, which is not of {network(caller)}: it was translated"
    )
    print(f"{peer} reached {client(callee)} as itself")


for site in PREFIXES:
    plug_in(site)
keys = {site: on(site, "wg show wg0 public-key") for site in PREFIXES}
for site, other in zip(PREFIXES, reversed(PREFIXES), strict=True):
    if keys[other] not in on(site, "wg show wg0 peers"):
        address = told(other, "PARAMETER_WIREGUARD_ADDRESS").partition("/")[0]
        on(
            site,
            "firewall-peer "
            f"{keys[other]}@{address}/32,{network(other)}@{told(other, 'ADDRESS')}:51820",
        )

# The branch's provider gives it a fixed address, by parameter, and no lease.
outside = on("branch-inside", "ip -4 -oneline address show scope global")
assert f" {told('branch-inside', 'ADDRESS')}/24 " in outside and "dynamic" not in outside, (
    f"no fixed address: {outside}"
)
assert on("branch-inside", f"getent ahostsv4 {os.environ['SLIPWAY_UPSTREAM']}").startswith(
    os.environ["SLIPWAY_GATEWAY"]
)

end, packets = threading.Event(), []
listener = threading.Thread(target=listen, args=(end, packets))
listener.start()
try:
    call("inside", "branch-inside")
    call("branch-inside", "inside")
finally:
    end.set()
    listener.join()
encrypted = [
    packet
    for packet in packets
    if packet[23:24] == b"\x11" and packet[36:38] == (51820).to_bytes(2, "big")
]
assert len(encrypted) > 8, f"{len(encrypted)} packets of WireGuard among {len(packets)}"
assert not any(SECRET in packet for packet in packets), "the word was seen between the sites"
print(f"{len(encrypted)} packets between the sites, none readable")
