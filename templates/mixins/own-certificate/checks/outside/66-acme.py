#!/usr/bin/env python3
# timeout: 400
"""An ACME server in the lab (Pebble): while it is down the machine says so and serves what it has;
then it gets a certificate, and every port that serves TLS has it, by the name that a client uses.
Switched off, its own authority's is back.
"""

import contextlib
import json
import os
import pathlib
import shlex
import smtplib
import socket
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Iterator

from slipway_check import PATIENCE

ADDRESS, GATEWAY, TOOLS = (
    os.environ["SLIPWAY_ADDRESS"],
    os.environ["SLIPWAY_GATEWAY"],
    pathlib.Path(os.environ["SLIPWAY_TOOLS"]),
)
NAME, DIRECTORY = "www.acme.test", f"https://{GATEWAY}:14000/dir"
#: "May I speak TLS?" in PostgreSQL's protocol, and in RDP's (X.224 with RDP_NEG_REQ, [MS-RDPBCGR]
#: 2.2.1.1).
ASK = [bytes.fromhex("0000000804d2162f"), bytes.fromhex("030000130ee000000000000100080001000000")]
#: How long a port may take to answer, in seconds: a handshake takes some on an emulated machine.
ANSWER_S = 8 * PATIENCE
ssh = shlex.split(os.environ["SLIPWAY_SSH"])
parameters = "/var/lib/slipway/parameters"


def guest(command: str, *, text: str = "", status: int | None = 0) -> str:
    ended = subprocess.run(
        [*ssh, command], input=text, capture_output=True, text=True, timeout=300 * PATIENCE
    )
    assert status is None or ended.returncode == status, (
        f"{command}: {ended.returncode}: {ended.stdout}{ended.stderr}"
    )
    return ended.stdout


def serves(port: int, context: ssl.SSLContext) -> bool:
    """Whether a port speaks TLS with a certificate that the context takes, for the name."""
    for ask in (b"", *ASK):
        with (
            contextlib.suppress(OSError),
            socket.create_connection((ADDRESS, port), timeout=ANSWER_S) as link,
        ):
            if ask:
                link.sendall(ask)
                if not link.recv(100):
                    continue
            with context.wrap_socket(link, server_hostname=NAME):
                return True
    with (
        contextlib.suppress(OSError, smtplib.SMTPException),
        smtplib.SMTP(ADDRESS, port, timeout=ANSWER_S) as mail,
    ):
        mail._host = NAME  # what it compares with the certificate
        mail.starttls(context=context)
        return True
    return False


def require_served(ports: list[int], authority: str, what: str) -> None:
    """Wait until ports serve a certificate of an authority."""
    context = ssl.create_default_context(cadata=authority)
    until = time.monotonic() + 200 * PATIENCE
    while wrong := [port for port in ports if not serves(port, context)]:
        assert time.monotonic() < until, f"these do not serve {what}: {wrong}"
        time.sleep(1)


def restart_web() -> None:
    """What serves port 80 may look at acme_directory when it starts."""
    find = "ss -Hltnp 'sport = :80' | sed -n 's/.*pid=\\([0-9]*\\).*/\\1/p' | head -n 1"
    guest(
        f'pid=$({find}); [ -z "$pid" ] || systemctl restart "$(ps -o unit= -p "$pid" | tr -d " ")"'
    )


@contextlib.contextmanager
def pebble() -> Iterator[None]:
    """Pebble, and a DNS server by which every name is this machine's."""
    folder = TOOLS / "tmp"
    settings = {
        "listenAddress": f"{GATEWAY}:14000",
        "managementListenAddress": f"{GATEWAY}:15000",
        "certificate": "/tmp/acme.pem",
        "privateKey": "/tmp/acme.pem",
        "httpPort": 80,
        "tlsPort": 443,
    }
    (folder / "acme.json").write_text(json.dumps({"pebble": settings}))
    dns = [
        "pebble-challtestsrv",
        "-http01",
        "",
        "-https01",
        "",
        "-tlsalpn01",
        "",
        "-management",
        f"{GATEWAY}:8055",
    ]
    with (folder / "acme.log").open("wb") as log:
        started = [
            subprocess.Popen(
                ["chroot", TOOLS, "env", "PEBBLE_VA_NOSLEEP=1", *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
            for words in (
                [*dns, "-dns01", f"{GATEWAY}:8053", "-defaultIPv4", ADDRESS, "-defaultIPv6", ""],
                ["pebble", "-config", "/tmp/acme.json", "-dnsserver", f"{GATEWAY}:8053"],
            )
        ]
    try:
        yield
    except BaseException:
        print((folder / "acme.log").read_text()[-3000:])
        raise
    finally:
        for process in started:
            process.terminate()
            process.wait(timeout=20 * PATIENCE)


own = guest("cat /var/lib/slipway/certificates/authority.crt")
listed = guest("ss -Hltn").splitlines()
ports = sorted(
    {
        int(line.split()[3].rpartition(":")[2])
        for line in listed
        if not line.split()[3].startswith(("127.", "[::1]"))
    }
    - {22, 53, 80}
)
context = ssl.create_default_context(cadata=own)
context.check_hostname = False  # the name that a client uses is set below
ports = [port for port in ports if serves(port, context)]
assert ports, "no port serves the machine's own certificate"
before = guest(f"cat {parameters}/certificate_names")
try:
    # Its certificate is the lab's own; the machine trusts it for as long as this check runs.
    made = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "
        "/CN=lab -keyout -"
    )
    both = guest(f"{made} -addext subjectAltName=IP:{GATEWAY} 2>/dev/null")
    (TOOLS / "tmp/acme.pem").write_text(both)
    trusted = both[both.index("-----BEGIN CERTIFICATE-----") :]
    guest("umount /etc/ssl/certs/ca-certificates.crt 2>/dev/null", status=None)
    guest(
        "cat >/run/acme-check.pem && mount --bind /run/acme-check.pem "
        "/etc/ssl/certs/ca-certificates.crt",
        text=trusted,
    )
    guest(
        f"printf %s {NAME} >{parameters}/certificate_names; printf %s {DIRECTORY} "
        f">{parameters}/acme_directory"
    )
    guest("systemctl start slipway-certificate.service")
    restart_web()
    require_served(ports, own, "the machine's own certificate")

    said = guest("slipway-acme --now", status=1)
    assert said.startswith(f"acme: no certificate from {DIRECTORY}: "), said
    assert guest("cat /run/issue.d/65-acme.issue") == said
    assert DIRECTORY in guest("journalctl --boot --unit slipway-certificate.service --output cat")
    require_served(ports, own, "the machine's own certificate")

    with pebble():
        assert guest("slipway-acme --now") == f"acme: the certificate of {DIRECTORY} is used\n"
        context = ssl.create_default_context(cadata=trusted)
        with urllib.request.urlopen(
            f"https://{GATEWAY}:15000/roots/0", context=context, timeout=20 * PATIENCE
        ) as answer:
            root = answer.read().decode()
        require_served(ports, root, "the ACME server's certificate")
        assert guest("cat /run/issue.d/65-acme.issue") == ""
        assert "402" not in guest("ss -Hltn 'sport = :402'")
        account = guest("sha256sum /var/lib/slipway-acme/account-*/private/key.pem")
        assert guest("slipway-acme --now") == f"acme: the certificate of {DIRECTORY} is used\n"
        assert guest("sha256sum /var/lib/slipway-acme/account-*/private/key.pem") == account

    guest(f": >{parameters}/acme_directory; systemctl start slipway-certificate.service")
    require_served(ports, own, "the machine's own certificate")
finally:
    guest(
        f"printf %s {shlex.quote(before)} >{parameters}/certificate_names; : "
        f">{parameters}/acme_directory"
    )
    guest(
        "umount /etc/ssl/certs/ca-certificates.crt; rm -f /run/acme-check.pem; "
        "rm -rf /var/lib/private/slipway-acme/*",
        status=None,
    )
    guest(
        "systemctl reset-failed slipway-acme.service; systemctl start slipway-certificate.service",
        status=None,
    )
    restart_web()
print(f"served on {ports}")
