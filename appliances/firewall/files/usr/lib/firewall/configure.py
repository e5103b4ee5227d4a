"""The firewall's parameters -> the files of nftables, networkd, sysctl and dnsmasq.

What goes in: PARAM_* and INTERFACE_* of the environment, valid by their types (first boot has seen to it). What comes
out: files, whole and with their final mode, or one line for each thing that does not fit together and exit status 1;
then nothing is written. WireGuard's key is made anew on each call.

With a peer as its argument (from firewall-peer) it adds that to what runs and to the files.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

__all__ = ["Forward", "Peer", "Settings", "Wrong", "add_peer", "configure", "files", "read"]

WIREGUARD_PORT = 51820
NETDEV = "/etc/systemd/network/05-wg0.netdev"


class Wrong(Exception):
    """Parameters that do not fit together: one line each."""


@dataclass(frozen=True)
class Forward:
    """A TCP port of the outside address that leads to an inside one."""

    port: int
    host: IPv4Address
    host_port: int


@dataclass(frozen=True)
class Peer:
    """A WireGuard peer, the networks behind it, and where it is called (empty for one that calls)."""

    key: str
    networks: tuple[IPv4Network, ...]
    endpoint: str = ""

    @property
    def section(self) -> str:
        """systemd.netdev(5)."""
        endpoint = f"Endpoint={self.endpoint}\nPersistentKeepalive=25\n" if self.endpoint else ""
        return f"\n[WireGuardPeer]\nPublicKey={self.key}\nAllowedIPs={','.join(map(str, self.networks))}\n{endpoint}"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the files are made from."""

    outside: str
    inside: str
    address: IPv4Interface
    domain: str
    leases: int
    forwards: tuple[Forward, ...]
    denied: tuple[int, ...]
    ssh_from_outside: bool
    wireguard: IPv4Interface
    peers: tuple[Peer, ...]


def read(environment: Mapping[str, str]) -> Settings:
    """The settings, checked against each other.

    Raises:
        Wrong: Some do not fit; all are named.
    """
    wrong: list[str] = []
    address = IPv4Interface(environment["PARAM_INSIDE_ADDRESS"])
    wireguard = IPv4Interface(environment["PARAM_WIREGUARD_ADDRESS"])
    for name, interface in (("inside_address", address), ("wireguard_address", wireguard)):
        network = interface.network
        if network.prefixlen > 29 or interface.ip in (network.network_address, network.broadcast_address):
            wrong.append(f"{name}: {interface} is not a host's address in a network of eight or more")
    if address.network.overlaps(wireguard.network):
        wrong.append(f"wireguard_address: {wireguard.network} overlaps the inside network {address.network}")
    leases = int(environment["PARAM_DHCP_LEASES"])
    if not 0 < leases <= address.network.num_addresses - 3:
        wrong.append(f"dhcp_leases: {leases} is not between 1 and {address.network.num_addresses - 3}, which is what {address.network} has")
    settings = Settings(
        outside=environment["INTERFACE_OUTSIDE"],
        inside=environment["INTERFACE_INSIDE"],
        address=address,
        domain=environment["PARAM_INSIDE_DOMAIN"],
        leases=leases,
        forwards=_forwards(environment["PARAM_FORWARD_TCP"], address, wrong),
        denied=_ports(environment["PARAM_DENY_OUTBOUND_TCP"], wrong),
        ssh_from_outside=environment["PARAM_SSH_FROM_OUTSIDE"] == "true",
        wireguard=wireguard,
        peers=_peers(environment["PARAM_WIREGUARD_PEERS"], wrong),
    )
    if settings.ssh_from_outside and any(forward.port == 22 for forward in settings.forwards):
        wrong.append("forward_tcp: port 22 is the firewall's own, because ssh_from_outside is true")
    if wrong:
        raise Wrong("\n".join(wrong))
    return settings


def _port(text: str) -> int:
    """A port's number.

    Raises:
        ValueError: It is none.
    """
    if not text.isascii() or not text.isdecimal() or not 0 < int(text) < 65536:
        raise ValueError(text)
    return int(text)


def _forwards(text: str, inside: IPv4Interface, wrong: list[str]) -> tuple[Forward, ...]:
    found: dict[int, Forward] = {}
    for item in text.split():
        try:
            port, host, host_port = item.split(":")
            target = IPv4Address(host) if "." in host else inside.network.network_address + int(host)
            forward = Forward(_port(port), target, _port(host_port))
        except ValueError:
            wrong.append(f'forward_tcp: "{item}" is not outside port:inside host:inside port, such as 8080:10:80')
            continue
        if target not in inside.network or target == inside.ip:
            wrong.append(f"forward_tcp: {target} is not a client's address in the inside network {inside.network}")
        if forward.port in found:
            wrong.append(f"forward_tcp: port {forward.port} is forwarded twice")
        found[forward.port] = forward
    return tuple(found.values())


def _ports(text: str, wrong: list[str]) -> tuple[int, ...]:
    found = []
    for item in text.split():
        try:
            found.append(_port(item))
        except ValueError:
            wrong.append(f'deny_outbound_tcp: "{item}" is not a port')
    return tuple(sorted(set(found)))


def _peers(text: str, wrong: list[str]) -> tuple[Peer, ...]:
    found = []
    for item in text.split():
        key, _, rest = item.partition("@")
        networks, _, endpoint = rest.partition("@")
        try:
            if len(base64.b64decode(key, validate=True)) != 32:
                raise ValueError
            if endpoint:
                host, _, port = endpoint.rpartition(":")
                _port(port)
                if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]*", host):
                    raise ValueError
            found.append(Peer(key, tuple(map(IPv4Network, networks.split(","))), endpoint))
        except (ValueError, binascii.Error):
            wrong.append(
                f'wireguard_peers: "{item}" is not public key@network,network@host:port (host and port only if it is to be called)'
            )
    return tuple(found)


def _rules(settings: Settings) -> str:
    """nft(8): one transaction that replaces the table, so that there is no moment without rules."""
    network, vpn = settings.address.network, settings.wireguard.network
    denied = ", ".join(map(str, settings.denied))
    own = [f"iifname $outside udp dport {WIREGUARD_PORT} accept"]
    if settings.ssh_from_outside:
        own.append("iifname $outside tcp dport 22 accept")
    out = [f"iifname {{ $inside, wg0 }} oifname $outside tcp dport {{ {denied} }} drop"] if denied else []
    forwards = [f"iifname $outside tcp dport {item.port} dnat ip to {item.host}:{item.host_port}" for item in settings.forwards]

    def lines(items: list[str]) -> str:
        return "".join(f"        {item}\n" for item in items)

    return f"""#!/usr/sbin/nft -f
# Made on first boot from the parameters; yours to change since. Check it with: nft -c -f /etc/nftables.conf
define outside = "{settings.outside}"
define inside = "{settings.inside}"

table inet firewall
delete table inet firewall
table inet firewall {{
    # Nobody outside has an inside address.
    chain spoofed {{
        type filter hook prerouting priority raw; policy accept;
        iifname $outside ip saddr {{ {network}, {vpn} }} drop
        iifname $inside ip saddr != {{ {network}, 0.0.0.0 }} drop
    }}
    chain input {{
        type filter hook input priority filter; policy drop;
        ct state established,related accept
        ct state invalid drop
        iif lo accept
        icmp type {{ echo-request, destination-unreachable, time-exceeded, parameter-problem }} limit rate 50/second accept
        icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert, mld-listener-query }} accept
        iifname $outside udp sport 67 udp dport 68 accept
        iifname $outside ip6 saddr fe80::/10 udp sport 547 udp dport 546 accept
{lines(own)}        iifname {{ $inside, wg0 }} tcp dport {{ 22, 53 }} accept
        iifname {{ $inside, wg0 }} udp dport 53 accept
        iifname $inside udp dport 67 accept
        meta pkttype {{ broadcast, multicast }} drop
        limit rate 10/minute log prefix "firewall: not let in: "
    }}
    chain forward {{
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
        ct state invalid drop
        tcp flags syn tcp option maxseg size set rt mtu
{lines(out)}        iifname {{ $inside, wg0 }} oifname $outside accept
        iifname wg0 oifname $inside accept
        iifname $inside oifname wg0 accept
        iifname $outside ct status dnat accept
        limit rate 10/minute log prefix "firewall: not let through: "
    }}
    chain forwarded {{
        type nat hook prerouting priority dstnat; policy accept;
{lines(forwards)}    }}
    chain translated {{
        type nat hook postrouting priority srcnat; policy accept;
        oifname $outside ip saddr {{ {network}, {vpn} }} masquerade
    }}
}}
"""


def _dnsmasq(settings: Settings) -> str:
    network, address = settings.address.network, settings.address.ip
    last = network.broadcast_address - 1
    first = last - settings.leases + 1
    # The firewall's own address is never given out: the pool is moved where it lies in it.
    if first <= address <= last:
        first -= 1
    ranges = [(first, last)] if not first <= address <= last else [(first, address - 1), (address + 1, last)]
    pools = "".join(f"dhcp-range={start},{end},{network.netmask},12h\n" for start, end in ranges if start <= end)
    return f"""# Made on first boot from the parameters; yours to change since. Check it with: dnsmasq --test --conf-file=...
interface={settings.inside}
interface=wg0
no-dhcp-interface=wg0
except-interface=lo
bind-dynamic
resolv-file=/run/systemd/resolve/resolv.conf
domain-needed
bogus-priv
no-hosts
domain={settings.domain}
local=/{settings.domain}/
host-record=firewall.{settings.domain},{address}
cache-size=1000
dhcp-authoritative
dhcp-leasefile=/var/lib/firewall/dnsmasq.leases
{pools}dhcp-option=option:router,{address}
dhcp-option=option:dns-server,{address}
"""


def files(settings: Settings) -> dict[str, str]:
    """Path -> content, for every file that holds no secret."""
    return {
        "/etc/nftables.conf": _rules(settings),
        "/etc/firewall/dnsmasq.conf": _dnsmasq(settings),
        "/etc/systemd/network/05-outside.network": f"""[Match]
Name={settings.outside}

[Network]
DHCP=yes

[DHCPv4]
ClientIdentifier=mac
UseHostname=no
""",
        "/etc/systemd/network/05-inside.network": f"""[Match]
Name={settings.inside}

[Link]
RequiredForOnline=no

[Network]
Address={settings.address}
ConfigureWithoutCarrier=yes
IPv6AcceptRA=no
LLMNR=no
MulticastDNS=no
""",
        NETDEV: f"""[NetDev]
Name=wg0
Kind=wireguard

[WireGuard]
PrivateKeyFile=/etc/systemd/network/wireguard.key
ListenPort={WIREGUARD_PORT}
RouteTable=main
{"".join(peer.section for peer in settings.peers)}""",
        "/etc/systemd/network/05-wg0.network": f"""[Match]
Name=wg0

[Link]
RequiredForOnline=no

[Network]
Address={settings.wireguard}
""",
        "/etc/sysctl.d/60-firewall.conf": "net.ipv4.ip_forward = 1\nnet.ipv4.conf.all.rp_filter = 1\n",
    }


def configure(settings: Settings, root: Path = Path("/")) -> None:
    """Write all files, make WireGuard's key, and tell the console the public one."""
    for path, text in files(settings).items():
        _write(root / path.lstrip("/"), text, 0o644)
    key = _wg("genkey")
    secret = root / "etc/systemd/network/wireguard.key"
    _write(secret, key, 0o640)
    # networkd reads it, as its own user.
    subprocess.run(["chown", "root:systemd-network", str(secret)], check=True)
    with Path(os.environ["SLIPWAY_BANNER"]).open("a") as banner:
        banner.write(f"WireGuard: public key {_wg('pubkey', key).strip()}, UDP port {WIREGUARD_PORT}\n")
        banner.write(f"outside is {settings.outside}; inside is {settings.inside}, {settings.address}\n")


def add_peer(text: str) -> None:
    """Let a peer in, now and after every start.

    Raises:
        Wrong: The text is no peer, or its key is there already.
    """
    wrong: list[str] = []
    peers = _peers(text, wrong)
    netdev = Path(NETDEV)
    present = netdev.read_text()
    wrong += [f"{peer.key} is a peer already: change {NETDEV}" for peer in peers if f"PublicKey={peer.key}\n" in present]
    if wrong or len(peers) != 1:
        raise Wrong("\n".join(wrong) or "give one peer")
    peer = peers[0]
    _write(netdev, present + peer.section, 0o644)
    networks = ",".join(map(str, peer.networks))
    endpoint = ["endpoint", peer.endpoint, "persistent-keepalive", "25"] if peer.endpoint else []
    subprocess.run(["wg", "set", "wg0", "peer", peer.key, "allowed-ips", networks, *endpoint], check=True)
    for network in peer.networks:
        subprocess.run(["ip", "route", "replace", str(network), "dev", "wg0"], check=True)


def _wg(command: str, text: str = "") -> str:
    return subprocess.run(["wg", command], input=text, capture_output=True, text=True, check=True).stdout


def _write(path: Path, text: str, mode: int) -> None:
    """Put a file in place with its mode, and folders that services can enter."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.parent.chmod(0o755)
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        os.fchmod(file.fileno(), mode)
    temporary.replace(path)


def main(words: Sequence[str]) -> int:
    """0 if everything is written, 1 if the parameters do not fit together."""
    try:
        if words:
            add_peer(" ".join(words))
        else:
            configure(read(os.environ))
    except Wrong as wrong:
        print(wrong, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
