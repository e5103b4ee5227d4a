#!/usr/bin/env python3
# timeout: 240
# with: branch
"""Two sites: a client behind one firewall reaches a client behind the other through WireGuard, and
nothing of it is seen between them but encrypted packets. One has a lease from its provider, the
other a fixed address. A single machine, a peer of the first, reaches the client of the second
through both.
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
from collections.abc import Callable

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
#: The single machine: a network of its own on the branch's firewall, whose only way is a tunnel to
#: the first one, by the networks between the sites.
ROAMING = """
set -eu
ip netns del roaming 2>/dev/null || true
ip netns add roaming
umask 077
wg genkey >/run/roaming.key
ip link add roaming0 type wireguard
wg set roaming0 private-key /run/roaming.key peer {key} endpoint {endpoint}:51820 \\
    persistent-keepalive 25 allowed-ips {networks}
ip link set roaming0 netns roaming
ip -n roaming address add {own}/32 dev roaming0
ip -n roaming link set roaming0 up
ip -n roaming route add default dev roaming0
wg pubkey </run/roaming.key
"""


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


def heard(callee: str, call: Callable[[], object]) -> str:
    """Let somebody call a site's client, which has to hear the secret; return the caller's
    address.
    """
    command = ["ip", "netns", "exec", callee, sys.executable, "-c", SERVER, client(callee)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None and server.stdout.readline() == "ready\n"
            call()
            peer, said = server.stdout.read().strip().split("|")
        finally:
            server.kill()
    assert said == SECRET.decode(), f"{callee} heard {said!r}"
    print(f"{peer} reached {client(callee)}")
    return peer


def call(caller: str, callee: str) -> None:
    words = (sys.executable, "-c", CALLER, client(callee), SECRET.decode())
    peer = heard(callee, lambda: within(caller, *words))
    assert ipaddress.ip_address(peer) in network(caller), (
        f"{peer} called, which is not of {network(caller)}: it was translated"
    )


def roaming() -> None:
    """A single peer of the first site reaches the second site's client, and is seen as itself."""
    first, branch = PREFIXES
    own = str(ipaddress.IPv4Interface(told(first, "PARAMETER_WIREGUARD_ADDRESS")).network[200])
    script = ROAMING.format(
        key=keys[first],
        endpoint=told(first, "ADDRESS"),
        networks=f"{own}/32,{network(first)},{network(branch)}",
        own=own,
    )
    try:
        key = on(branch, script)
        on(first, f"firewall-peer {key}@{own}/32")
        # The second site has to know that this address, too, comes by way of the first.
        between = told(first, "PARAMETER_WIREGUARD_ADDRESS").partition("/")[0]
        behind = f"{between}/32,{own}/32,{network(first)}"
        on(branch, f"wg set wg0 peer {keys[first]} allowed-ips {behind}")
        words = ["ip", "netns", "exec", "roaming", "python3", "-c", CALLER, client(branch)]
        call = shlex.join([*words, SECRET.decode()])
        peer = heard(branch, lambda: on(branch, call))
        assert peer == own, f"{peer} called, not {own}: it was translated"
    finally:
        on(branch, "ip netns del roaming; rm -f /run/roaming.key")


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
    roaming()
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
