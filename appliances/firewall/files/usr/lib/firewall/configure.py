"""The firewall's parameters -> the files of nftables, networkd, sysctl and dnsmasq.

What goes in: PARAM_* and INTERFACE_* of the environment, valid by their types (first boot has seen
to it). What comes out: files, whole and with their final mode, or one line for each thing that does
not fit together and exit status 1; then nothing is written. WireGuard's key is made anew on each
call.

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
INSIDE = "/etc/systemd/network/05-inside.network"
WG0 = "/etc/systemd/network/05-wg0.network"
FALLBACK = "/etc/firewall/fallback.nft"
#: Lines of cloud-init's files that plain DHCP would lose (systemd.network(5)).
CLOUD_SETTINGS = ("Address=", "DNS=", "Domains=", "Gateway=", "MTUBytes=")
#: Domains of one label that no one else has (RFC 6761, RFC 6762, and what is in wide use).
LOCAL_DOMAINS = ("corp", "home", "internal", "lan", "localdomain", "test")


#: Flows that are followed at once, some 25 MB if they all are, and how long an idle one is: two
#: hours and a little, after which TCP asks whether the other side lives (RFC 5382, REQ-5).
FLOWS = (
    "net.netfilter.nf_conntrack_max = 65536\n"
    "net.netfilter.nf_conntrack_tcp_timeout_established = 7440\n"
)


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
    """A WireGuard peer, the networks behind it, and where it is called (empty for one that
    calls).
    """

    key: str
    networks: tuple[IPv4Network, ...]
    endpoint: str = ""

    @property
    def section(self) -> str:
        """systemd.netdev(5)."""
        endpoint = f"Endpoint={self.endpoint}\nPersistentKeepalive=25\n" if self.endpoint else ""
        return (
            f"\n[WireGuardPeer]\nPublicKey={self.key}\n"
            f"AllowedIPs={','.join(map(str, self.networks))}\n{endpoint}"
        )


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the files are made from."""

    outside: str
    outside_address: IPv4Interface | None
    gateway: IPv4Address | None
    name_servers: tuple[IPv4Address, ...]
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
        if network.prefixlen > 29 or interface.ip in (
            network.network_address,
            network.broadcast_address,
        ):
            wrong.append(
                f"{name}: {interface} is not a host's address in a network of eight or more"
            )
        if not _ordinary(interface.ip):
            wrong.append(f"{name}: {interface.ip} is no address that a host of a network can have")
    if address.network.overlaps(wireguard.network):
        wrong.append(
            f"wireguard_address: {wireguard.network} overlaps the inside network {address.network}"
        )
    leases = int(environment["PARAM_DHCP_LEASES"])
    if not 0 < leases <= address.network.num_addresses - 3:
        wrong.append(
            f"dhcp_leases: {leases} is not between 1 and {address.network.num_addresses - 3}, "
            f"which is what {address.network} has"
        )
    domain = environment["PARAM_INSIDE_DOMAIN"]
    if "." not in domain and domain not in LOCAL_DOMAINS:
        wrong.append(
            f"inside_domain: {domain} is all of the world's .{domain}; name a domain of your own, "
            f"or one of {', '.join(LOCAL_DOMAINS)}"
        )
    outside_address, gateway, name_servers = _static(environment, address, wrong)
    settings = Settings(
        outside=environment["INTERFACE_OUTSIDE"],
        outside_address=outside_address,
        gateway=gateway,
        name_servers=name_servers,
        inside=environment["INTERFACE_INSIDE"],
        address=address,
        domain=domain,
        leases=leases,
        forwards=_forwards(environment["PARAM_FORWARD_TCP"], address, wrong),
        denied=_ports(environment["PARAM_DENY_OUTBOUND_TCP"], wrong),
        ssh_from_outside=environment["PARAM_SSH_FROM_OUTSIDE"] == "true",
        wireguard=wireguard,
        peers=_peers(environment["PARAM_WIREGUARD_PEERS"], wrong),
    )
    _check_peers(settings.peers, address, wireguard, wrong)
    if settings.ssh_from_outside and any(forward.port == 22 for forward in settings.forwards):
        wrong.append("forward_tcp: port 22 is the firewall's own, because ssh_from_outside is true")
    if wrong:
        raise Wrong("\n".join(wrong))
    return settings


def _ordinary(address: IPv4Address) -> bool:
    return not (
        address.is_loopback
        or address.is_multicast
        or address.is_link_local
        or address.is_reserved
        or address in IPv4Network("0.0.0.0/8")
    )


def _static(
    environment: Mapping[str, str], inside: IPv4Interface, wrong: list[str]
) -> tuple[IPv4Interface | None, IPv4Address | None, tuple[IPv4Address, ...]]:
    """The provider's fixed address, gateway and name servers; none where DHCP gives them."""
    texts = {
        name: environment[f"PARAM_{name.upper()}"]
        for name in ("outside_address", "outside_gateway", "outside_dns")
    }
    if not any(texts.values()):
        return None, None, ()
    try:
        address = IPv4Interface(texts["outside_address"])
        gateway = IPv4Address(texts["outside_gateway"])
        servers = tuple(map(IPv4Address, texts["outside_dns"].split()))
    except ValueError as error:
        example = "203.0.113.10/29, 203.0.113.9, 203.0.113.1"
        wrong.append(
            f"outside_address, outside_gateway, outside_dns: {error}; all three are needed, "
            f"such as {example}"
        )
        return None, None, ()
    if (
        not servers
        or gateway not in address.network
        or gateway == address.ip
        or not _ordinary(address.ip)
    ):
        wrong.append(
            f"outside_gateway, outside_dns: {gateway} has to be another host of "
            f"{address.network}, and one name server is needed"
        )
    if address.network.overlaps(inside.network):
        wrong.append(
            f"outside_address: {address.network} overlaps the inside network {inside.network}"
        )
    return address, gateway, servers


def _check_peers(
    peers: Sequence[Peer], inside: IPv4Interface, wireguard: IPv4Interface, wrong: list[str]
) -> None:
    """Refuse peers that would take what is not theirs: the inside network, everything, this
    machine, another peer's.
    """
    seen: dict[IPv4Network, str] = {}
    for peer in peers:
        for network in peer.networks:
            if network.prefixlen == 0:
                wrong.append(
                    f"wireguard_peers: {network} is everything, the provider's network too: "
                    "name the networks behind the peer"
                )
            elif network.overlaps(inside.network):
                wrong.append(
                    f"wireguard_peers: {network} overlaps the inside network {inside.network}, "
                    "which would be cut off"
                )
            elif wireguard.ip in network:
                wrong.append(
                    f"wireguard_peers: {network} has this firewall's own address {wireguard.ip}; "
                    f"a peer's is such as {wireguard.ip + 1}/32"
                )
            wrong += [
                f"wireguard_peers: {network} overlaps {other}, which another peer has"
                for other in seen
                if network.overlaps(other)
            ]
        seen |= dict.fromkeys(peer.networks, peer.key)
    keys = [peer.key for peer in peers]
    wrong += [
        f"wireguard_peers: {key} is repeated" for key in dict.fromkeys(keys) if keys.count(key) > 1
    ]


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
            target = (
                IPv4Address(host) if "." in host else inside.network.network_address + int(host)
            )
            forward = Forward(_port(port), target, _port(host_port))
        except ValueError:
            wrong.append(
                f'forward_tcp: "{item}" is not outside port:inside host:inside port, '
                "such as 8080:10:80"
            )
            continue
        if target not in inside.network or target == inside.ip:
            wrong.append(
                f"forward_tcp: {target} is not a client's address in the inside network "
                f"{inside.network}"
            )
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
                f'wireguard_peers: "{item}" is not public key@network,network@host:port (host and '
                "port only if it is to be called)"
            )
    return tuple(found)


def _rules(settings: Settings) -> str:
    """nft(8): one transaction that replaces the table, so that there is no moment without rules."""
    network, vpn = settings.address.network, settings.wireguard.network
    denied = ", ".join(map(str, settings.denied))
    own = [f"iifname $outside udp dport {WIREGUARD_PORT} accept"]
    if settings.ssh_from_outside:
        own.append("iifname $outside tcp dport 22 accept")
    out = (
        [f"iifname {{ $inside, wg0 }} oifname $outside tcp dport {{ {denied} }} drop"]
        if denied
        else []
    )
    forwards = [
        f"iifname $outside tcp dport {item.port} dnat ip to {item.host}:{item.host_port}"
        for item in settings.forwards
    ]

    def lines(items: list[str]) -> str:
        return "".join(f"        {item}\n" for item in items)

    return f"""#!/usr/sbin/nft -f
# Made on first boot from the parameters; yours to change since. Check it with: \
nft -c -f /etc/nftables.conf
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
        icmp type {{ echo-request, destination-unreachable, time-exceeded, parameter-problem }} \
limit rate 50/second accept
        icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert, \
mld-listener-query }} accept
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
        # Peers reach each other, as a roaming one does the other site.
        iifname wg0 oifname wg0 accept
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


def _fallback(settings: Settings) -> str:
    """Rules for a start at which /etc/nftables.conf cannot be loaded: the inside can log in and
    mend it, nothing else.
    """
    return f"""#!/usr/sbin/nft -f
# Loaded where /etc/nftables.conf has an error (/usr/lib/firewall/load-rules).
table inet firewall
delete table inet firewall
table inet firewall {{
    chain input {{
        type filter hook input priority filter; policy drop;
        ct state established,related accept
        iif lo accept
        icmp type echo-request limit rate 50/second accept
        icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert }} accept
        iifname "{settings.inside}" tcp dport {{ 22, 53 }} accept
        iifname "{settings.inside}" udp dport {{ 53, 67 }} accept
    }}
    chain forward {{
        type filter hook forward priority filter; policy drop;
    }}
}}
"""


def _outside(settings: Settings) -> str:
    """systemd.network(5): the provider's fixed address, or DHCP."""
    if settings.outside_address is None:
        network = "DHCP=yes\n\n[DHCPv4]\nClientIdentifier=mac\nUseHostname=no\n"
    else:
        servers = "".join(f"DNS={server}\n" for server in settings.name_servers)
        network = f"Address={settings.outside_address}\nGateway={settings.gateway}\n{servers}"
    return f"[Match]\nName={settings.outside}\n\n[Network]\n{network}"


def _dnsmasq(settings: Settings) -> str:
    network, address = settings.address.network, settings.address.ip
    last = network.broadcast_address - 1
    first = last - settings.leases + 1
    # The firewall's own address is never given out: the pool is moved where it lies in it.
    if first <= address <= last:
        first -= 1
    ranges = (
        [(first, last)]
        if not first <= address <= last
        else [(first, address - 1), (address + 1, last)]
    )
    pools = "".join(
        f"dhcp-range={start},{end},{network.netmask},12h\n" for start, end in ranges if start <= end
    )
    return f"""# Made on first boot from the parameters; yours to change since. Check it with: \
dnsmasq --test --conf-file=...
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
        "/etc/systemd/network/05-outside.network": _outside(settings),
        FALLBACK: _fallback(settings),
        INSIDE: f"""[Match]
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
        WG0: f"""[Match]
Name=wg0

[Link]
RequiredForOnline=no

[Network]
Address={settings.wireguard}
""",
        "/etc/sysctl.d/60-firewall.conf": (
            "net.ipv4.ip_forward = 1\nnet.ipv4.conf.all.rp_filter = 1\n"
        )
        + FLOWS,
    }


def given_by_cloud(settings: Settings, root: Path) -> bool:
    """Return True if cloud-init was told more of the outside card than DHCP: an address, an MTU, a
    name server. That stays as it is.
    """
    card = root / "sys/class/net" / settings.outside / "address"
    names = {
        f"name={settings.outside}".lower(),
        f"macaddress={card.read_text().strip() if card.exists() else ''}".lower(),
    }
    for place in ("etc/systemd/network", "run/systemd/network"):
        for file in (root / place).glob("10-cloud-init-*.network"):
            lines = file.read_text().splitlines()
            if names & {line.lower() for line in lines} and any(
                line.startswith(CLOUD_SETTINGS) for line in lines
            ):
                return True
    return False


def configure(settings: Settings, root: Path = Path("/")) -> None:
    """Write all files, make WireGuard's key, and tell the console the public one."""
    made = files(settings)
    if settings.outside_address is None and given_by_cloud(settings, root):
        del made["/etc/systemd/network/05-outside.network"]
    for path, text in made.items():
        _write(root / path.lstrip("/"), text, 0o644)
    key = _wg("genkey")
    secret = root / "etc/systemd/network/wireguard.key"
    _write(secret, key, 0o640)
    # networkd reads it, as its own user.
    subprocess.run(["chown", "root:systemd-network", str(secret)], check=True)
    with Path(os.environ["SLIPWAY_BANNER"]).open("a") as banner:
        banner.write(
            f"WireGuard: public key {_wg('pubkey', key).strip()}, UDP port {WIREGUARD_PORT}\n"
        )
        banner.write(
            f"outside is {settings.outside}; inside is {settings.inside}, {settings.address}\n"
        )


def add_peer(text: str) -> None:
    """Let a peer in, now and after every start.

    Raises:
        Wrong: The text is no peer, or its key is there already.
    """
    wrong: list[str] = []
    peers = _peers(text, wrong)
    netdev = Path(NETDEV)
    present = netdev.read_text()
    wrong += [
        f"{peer.key} is a peer already: change {NETDEV}"
        for peer in peers
        if f"PublicKey={peer.key}\n" in present
    ]
    others = [
        Peer("", tuple(map(IPv4Network, line.split(","))))
        for line in _values(present, "AllowedIPs")
    ]
    inside, wireguard = (
        IPv4Interface(_values(Path(path).read_text(), "Address")[0]) for path in (INSIDE, WG0)
    )
    if not wrong:
        _check_peers(peers, inside, wireguard, wrong)
        taken = [network for other in others for network in other.networks]
        wrong += [
            f"{network} overlaps {other}, which another peer has"
            for peer in peers
            for network in peer.networks
            for other in taken
            if network.overlaps(other)
        ]
    if wrong or len(peers) != 1:
        raise Wrong("\n".join(wrong) or "give one peer")
    peer = peers[0]
    networks = ",".join(map(str, peer.networks))
    endpoint = ["endpoint", peer.endpoint, "persistent-keepalive", "25"] if peer.endpoint else []
    # First what can fail: a name is looked up here. Until it is in the file, the same command can
    # be given again.
    ran = subprocess.run(
        ["wg", "set", "wg0", "peer", peer.key, "allowed-ips", networks, *endpoint],
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode:
        subprocess.run(
            ["wg", "set", "wg0", "peer", peer.key, "remove"], capture_output=True, check=False
        )
        raise Wrong(
            f"nothing was changed: {ran.stderr.strip() or f'wg ended with status {ran.returncode}'}"
        )
    for network in peer.networks:
        subprocess.run(["ip", "route", "replace", str(network), "dev", "wg0"], check=True)
    _write(netdev, present + peer.section, 0o644)


def _values(text: str, name: str) -> list[str]:
    """The values of a name in a file of networkd."""
    return [line.partition("=")[2] for line in text.splitlines() if line.startswith(f"{name}=")]


def _wg(command: str, text: str = "") -> str:
    return subprocess.run(
        ["wg", command], input=text, capture_output=True, text=True, check=True
    ).stdout


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
