#!/usr/bin/env python3
# timeout: 180
"""A shared address is taken; given up to an instance with a higher priority, which this check plays
(VRRP 3, RFC 5798); and taken again when that one is silent. An IPv6 address is shared the same way.
"""

import os
import shlex
import socket
import struct
import subprocess
import time

SHARED, ROUTER_ID = "10.77.0.50", 51
SHARED6, HERE6 = "2001:db8:77::50", "2001:db8:77::1"
ssh = shlex.split(os.environ["SLIPWAY_SSH"])
subprocess.run([*ssh, f"traffic-manager address {SHARED}/24 100 {ROUTER_ID}"], check=True)


def there(address: str = SHARED) -> bool:
    """Whether somebody has the address.

    What this side remembers of who had it is forgotten first.
    """
    subprocess.run(["ip", "neighbour", "flush", "to", address], check=False)
    try:
        socket.create_connection((address, 80), timeout=2).close()
    except OSError:
        return False
    return True


def wait_until(wanted: bool, address: str = SHARED) -> float:
    begun = time.monotonic()
    while there(address) is not wanted:
        assert time.monotonic() - begun < 60, (
            f"the address is {'not there' if wanted else 'still there'}"
        )
        time.sleep(0.2)
    return time.monotonic() - begun


def advertise(link: socket.socket) -> None:
    """Say: I am the master, my priority is 250 (RFC 5798, 5.2)."""
    source, group = (
        socket.inet_aton(address) for address in (os.environ["SLIPWAY_GATEWAY"], "224.0.0.18")
    )
    packet = struct.pack("!BBBBHH4s", 0x31, ROUTER_ID, 250, 1, 100, 0, socket.inet_aton(SHARED))
    words = struct.unpack(
        f"!{(len(packet) + 12) // 2}H",
        source + group + struct.pack("!BBH", 0, 112, len(packet)) + packet,
    )
    total = sum(words)
    total = (total & 0xFFFF) + (total >> 16)
    checksum = ~(total + (total >> 16)) & 0xFFFF
    link.sendto(packet[:6] + struct.pack("!H", checksum) + packet[8:], ("224.0.0.18", 0))


print(f"taken after {wait_until(True):.1f} s")
with socket.socket(socket.AF_INET, socket.SOCK_RAW, 112) as link:
    link.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
    link.setsockopt(
        socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(os.environ["SLIPWAY_GATEWAY"])
    )
    until = time.monotonic() + 60
    advertise(link)
    while there():
        assert time.monotonic() < until, "the address was not given up"
        advertise(link)
    for _ in range(5):  # and stays away for as long as the other one lives
        advertise(link)
        assert not there()
        time.sleep(0.5)
print(f"taken again after {wait_until(True):.1f} s")
subprocess.run([*ssh, f"traffic-manager address {SHARED6}/64 100 {ROUTER_ID}"], check=True)
device = os.environ["SLIPWAY_INTERFACE"]
subprocess.run(["ip", "address", "replace", f"{HERE6}/64", "dev", device, "nodad"], check=True)
print(f"the IPv6 address is taken after {wait_until(True, SHARED6):.1f} s")
subprocess.run([*ssh, "traffic-manager address none"], check=True)
wait_until(False, SHARED6)
