"""Make the private network around a machine under test; it ends with its namespace.

The network of the first interface is 10.77.0.0/24. This side is 10.77.0.1, and gives the machine
10.77.0.10 and further instances the addresses after it. It also answers for the name
``upstream.test``.

Behind every other interface is a client of its own, in a network namespace. The namespace has the
interface's name, or ``<instance>-<interface>`` for a further instance. The client has one
unconfigured device, ``client0``. All of it is in a :mod:`~slipway.boot.room`: checks are nobody on
this host.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from slipway.boot.machine import mac_address
from slipway.boot.room import Room
from slipway.errors import HostError
from slipway.host import process

__all__ = ["ADDRESS", "GATEWAY", "Lab", "address", "agent_socket", "lab"]

GATEWAY, ADDRESS, UPSTREAM = "10.77.0.1", "10.77.0.10", "upstream.test"
_TUN = Path("/dev/net/tun")

#: The limits of a check on this host: bytes in a file (its output is one), and processes.
_LIMITS = ("--fsize=67108864", "--core=0", "--nproc=4096")

#: Makes the taps, as this host's user. Unless udev has opened the device of taps to all, only root
#: may open it.
_TAPS = 'for tap; do ip tuntap add dev "$tap" mode tap; done'

#: Makes the links. $1 is the first interface. Then follow pairs: a tap, and the namespace of the
#: client behind it, or an empty word for a tap of the first interface.
_LINKS = """\
set -eu
outside=$1
ip link add "$outside" type bridge
ip address add "$GATEWAY/24" dev "$outside"
ip link set "$outside" up
shift
while [ $# -gt 0 ]; do
    bridge=$outside
    if [ -n "$2" ]; then
        ip netns add "$2"
        ip -n "$2" link set lo up
        bridge=br-$1
        ip link add "$bridge" type bridge
        ip link add "v-$1" type veth peer name client0 netns "$2"
        ip link set "v-$1" master "$bridge" up
        ip link set "$bridge" up
    fi
    # A scan asks 20,000 ports at once; a queue of the default 1,000 packets drops what the guest
    # has not fetched yet.
    ip link set "$1" txqueuelen 30000
    ip link set "$1" master "$bridge" up
    shift 2
done
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lab:
    """The network, and the commands to run something in it."""

    interfaces: tuple[str, ...]
    namespace: Room

    @property
    def enter(self) -> list[str]:
        """The words before a command of this host's user, such as a machine's, to run it in the
        network.
        """
        return self.namespace.beside

    def networks(self, instance: int = 0) -> tuple[str, ...]:
        """Return QEMU's -netdev options, one for each interface of an instance.

        Instance 0 is the machine itself.
        """
        return tuple(
            f"tap,ifname={_tap(instance, number)},script=no,downscript=no"
            for number in range(len(self.interfaces))
        )

    def client(self, interface: str) -> list[str]:
        """Return the words to run a command on the far side of an interface.

        The command runs as a user of the room, within limits.
        """
        words = [*self.namespace.enter, "prlimit", *_LIMITS, "--"]
        return (
            words if interface == self.interfaces[0] else [*words, "ip", "netns", "exec", interface]
        )

    def environment(self, interface: str) -> dict[str, str]:
        """Return the environment of a check on the far side of an interface."""
        device = interface if interface == self.interfaces[0] else "client0"
        return {
            "TMPDIR": "/tmp",
            "SLIPWAY_GATEWAY": GATEWAY,
            "SLIPWAY_UPSTREAM": UPSTREAM,
            "SLIPWAY_INTERFACE": device,
        }


def address(instance: int) -> str:
    """Return an instance's address on its first interface.

    Instance 0 is the machine itself.
    """
    return str(IPv4Address(ADDRESS) + instance)


def agent_socket(instance: int) -> str:
    """Return the name of the abstract socket of an instance's guest agent."""
    return f"slipway-agent-{instance}"


def _tap(instance: int, number: int) -> str:
    return f"tap{instance}.{number}"


@contextlib.contextmanager
def lab(
    interfaces: Sequence[str],
    *,
    log: Path,
    names: Mapping[str, str] | None = None,
    instances: Sequence[str] = (),
    memory_mib: int = 64,
) -> Iterator[Lab]:
    """Keep the network of a machine with these interfaces for the block.

    Args:
        instances: The names of further machines with the same interfaces.
        memory_mib: The size limit of its namespace's own file system, in MiB.
        log: The log of the DHCP and DNS server.
        names: Further DNS names, with their addresses.

    Raises:
        HostError: This host does not allow such a network, or a tool is missing.
    """
    if not os.access(_TUN, os.R_OK | os.W_OK):
        raise HostError(
            f"{_TUN} cannot be opened, so the image cannot be checked in a network of its own",
            hint=(
                "sudo modprobe tun; sudo chmod 666 /dev/net/tun   (or run as root, "
                "or build with --no-boot)"
            ),
        )
    process.find_tool("ip")
    server = process.find_tool("dnsmasq", why="the checks need a DHCP and DNS server")
    with contextlib.ExitStack() as stack:
        namespace = stack.enter_context(Room(memory_mib=memory_mib))
        links = [
            word
            for instance, prefix in enumerate(["", *(f"{name}-" for name in instances)])
            for number, interface in enumerate(interfaces)
            for word in (_tap(instance, number), f"{prefix}{interface}" if number else "")
        ]
        what = "making the network for the checks"
        process.run([*namespace.beside, "sh", "-euc", _TAPS, "lab", *links[::2]], what=what)
        namespace.run(
            ["sh", "-c", _LINKS, "lab", interfaces[0], *links], what=what, env={"GATEWAY": GATEWAY}
        )
        argv = [
            server,
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--no-resolv",
            "--no-hosts",
            "--user=root",
            "--group=root",
        ]
        argv += [
            f"--interface={interfaces[0]}",
            "--bind-interfaces",
            "--log-facility=-",
            "--pid-file",
            "--dhcp-leasefile=/run/leases",
        ]
        argv += [f"--dhcp-range={ADDRESS},10.77.0.99,1h", "--dhcp-authoritative"]
        argv += [
            f"--dhcp-host={mac_address(0, number)},{address(number)}"
            for number in range(len(instances) + 1)
        ]
        argv += [
            f"--address=/{name}/{address}"
            for name, address in {UPSTREAM: GATEWAY, **(names or {})}.items()
        ]
        with log.open("ab") as said:
            stack.enter_context(process.spawn([*namespace.enter, *argv], stdout=said, stderr=said))
        yield Lab(interfaces=tuple(interfaces), namespace=namespace)
