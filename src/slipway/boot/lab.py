"""The network around a machine that is checked: private, empty but for what is put there, gone with its namespace.

The first interface leads to a network where this side is 10.77.0.1, hands out 10.77.0.10 to the machine, and answers
for the name ``upstream.test``. Behind every other interface is a client of its own, in a network namespace of the
interface's name, with one device, ``client0``, that nothing has configured.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from slipway import process
from slipway.boot.machine import mac_address
from slipway.errors import HostError
from slipway.namespace import Namespace

__all__ = ["ADDRESS", "GATEWAY", "Lab", "lab"]

GATEWAY, ADDRESS, UPSTREAM = "10.77.0.1", "10.77.0.10", "upstream.test"
_TUN = Path("/dev/net/tun")

#: Makes the links; $1 is the first interface, the others follow.
_LINKS = """\
set -eu
ip tuntap add dev "$1" mode tap
ip address add "$GATEWAY/24" dev "$1"
ip link set "$1" up
shift
for name; do
    ip netns add "$name"
    ip -n "$name" link set lo up
    ip tuntap add dev "$name" mode tap
    ip link add "br-$name" type bridge
    ip link add "v-$name" type veth peer name client0 netns "$name"
    ip link set "$name" master "br-$name" up
    ip link set "v-$name" master "br-$name" up
    ip link set "br-$name" up
done
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lab:
    """The network: ``networks`` is what QEMU is told for each interface, ``enter`` the words to run a command there."""

    interfaces: tuple[str, ...]
    namespace: Namespace

    @property
    def enter(self) -> list[str]:
        """To run a command in the network, as its root."""
        return self.namespace.enter

    @property
    def networks(self) -> tuple[str, ...]:
        """QEMU's -netdev options."""
        return tuple(f"tap,ifname={name},script=no,downscript=no" for name in self.interfaces)

    def client(self, interface: str) -> list[str]:
        """The words to run a command on the far side of an interface."""
        if interface == self.interfaces[0]:
            return self.enter
        return [*self.enter, "ip", "netns", "exec", interface]

    def environment(self, interface: str) -> dict[str, str]:
        """What a check on the far side of an interface is told."""
        device = interface if interface == self.interfaces[0] else "client0"
        return {"SLIPWAY_ADDRESS": ADDRESS, "SLIPWAY_GATEWAY": GATEWAY, "SLIPWAY_UPSTREAM": UPSTREAM, "SLIPWAY_INTERFACE": device}


@contextlib.contextmanager
def lab(interfaces: Sequence[str], *, log: Path, names: Mapping[str, str] | None = None) -> Iterator[Lab]:
    """Make the network for a machine with these interfaces.

    Args:
        log: Where the DHCP and DNS server writes.
        names: Further names that it answers for, with their addresses.

    Raises:
        HostError: This host does not allow it, or a tool is missing.
    """
    if not os.access(_TUN, os.R_OK | os.W_OK):
        raise HostError(
            f"{_TUN} cannot be opened, so the image cannot be checked in a network of its own",
            hint="sudo modprobe tun; sudo chmod 666 /dev/net/tun   (or run as root, or build with --no-boot)",
        )
    process.find_tool("ip")
    server = process.find_tool("dnsmasq", why="the checks need a DHCP and DNS server")
    with contextlib.ExitStack() as stack:
        namespace = stack.enter_context(Namespace(network=True, memory_mib=64))
        namespace.run(["sh", "-c", _LINKS, "lab", *interfaces], what="making the network for the checks", env={"GATEWAY": GATEWAY})
        argv = [server, "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=root", "--group=root"]
        argv += [f"--interface={interfaces[0]}", "--bind-interfaces", "--log-facility=-", "--pid-file", "--dhcp-leasefile=/run/leases"]
        argv += [f"--dhcp-range={ADDRESS},10.77.0.99,1h", f"--dhcp-host={mac_address(0)},{ADDRESS}", "--dhcp-authoritative"]
        argv += [f"--address=/{name}/{address}" for name, address in {UPSTREAM: GATEWAY, **(names or {})}.items()]
        with log.open("ab") as said:
            stack.enter_context(process.spawn([*namespace.enter, *argv], stdout=said, stderr=said))
        yield Lab(interfaces=tuple(interfaces), namespace=namespace)
