#!/usr/bin/env python3
# timeout: 300
"""The machine gets another address: the certificate is made again with it, by the machine's own
authority, and whatever served the old one serves the new one.
"""

import contextlib
import hashlib
import json
import pathlib
import smtplib
import socket
import ssl
import subprocess
import time

from slipway_check import PATIENCE

STATE = pathlib.Path("/var/lib/slipway/certificates")
#: "May I speak TLS?" in PostgreSQL's protocol, and in RDP's (X.224 with RDP_NEG_REQ, [MS-RDPBCGR]
#: 2.2.1.1).
ASK = [
    bytes.fromhex("0000000804d2162f"),
    bytes.fromhex("030000130ee000000000000100080001000000"),
]
#: An address of this check alone (RFC 5737), another one for each try.
ADDRESS = f"198.51.100.{time.time_ns() % 250 + 1}"


def context() -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    return made


def served(place: tuple[str, int]) -> str:
    """The SHA-256 of the certificate that an address and port serve, or nothing."""
    for ask in (b"", *ASK):
        with (
            contextlib.suppress(OSError, ssl.SSLError),
            socket.create_connection(place, timeout=8) as link,
        ):
            if ask:
                link.sendall(ask)
                if not link.recv(100):
                    continue
            with context().wrap_socket(link) as secured:
                return hashlib.sha256(secured.getpeercert(binary_form=True) or b"").hexdigest()
    with (
        contextlib.suppress(OSError, ssl.SSLError, smtplib.SMTPException),
        smtplib.SMTP(*place, timeout=8) as mail,
    ):
        mail.starttls(context=context())
        assert isinstance(mail.sock, ssl.SSLSocket)
        return hashlib.sha256(mail.sock.getpeercert(binary_form=True) or b"").hexdigest()
    return ""


def listening() -> set[tuple[str, int]]:
    """Where TCP is listened for, but for SSH and names."""
    found = set()
    for line in subprocess.run(
        ["ss", "-Hltn"], check=True, capture_output=True, text=True
    ).stdout.splitlines():
        address, _, port = line.split()[3].rpartition(":")
        if int(port) not in (22, 53, 5355):
            found.add(
                (
                    {"*": "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::]": "::1"}.get(
                        address, address.strip("[]").partition("%")[0]
                    ),
                    int(port),
                )
            )
    return found


def certificates() -> dict[str, str]:
    """By folder, the SHA-256 of its first certificate."""
    found = {}
    for record in STATE.glob("*.json"):
        folder = json.loads(record.read_text())["folder"]
        first = ssl.PEM_cert_to_DER_cert(
            pathlib.Path(folder, "server.crt").read_text().partition("-----END")[0]
            + "-----END CERTIFICATE-----\n"
        )
        found[folder] = hashlib.sha256(first).hexdigest()
    return found


def require_issued() -> None:
    for folder in certificates():
        subprocess.run(
            ["openssl", "verify", "-CAfile", STATE / "authority.crt", f"{folder}/server.crt"],
            check=True,
        )


before = certificates()
assert before, "nothing has a certificate"
require_issued()
places = [place for place in sorted(listening()) if served(place) in before.values()]
assert places, f"no port serves the certificate: {listening()}"

subprocess.run(["ip", "address", "add", f"{ADDRESS}/32", "dev", "lo"], check=True)
try:
    subprocess.run(["systemctl", "start", "slipway-certificate.service"], check=True)
finally:
    subprocess.run(["ip", "address", "del", f"{ADDRESS}/32", "dev", "lo"], check=True)
after = certificates()
assert not set(before.values()) & set(after.values()), "it was not made again"
require_issued()
for folder in after:
    names = ["openssl", "x509", "-in", f"{folder}/server.crt", "-noout", "-ext", "subjectAltName"]
    assert ADDRESS in subprocess.run(names, check=True, capture_output=True, text=True).stdout

until = time.monotonic() + 200 * PATIENCE
while wrong := [place for place in places if served(place) not in after.values()]:
    assert time.monotonic() < until, f"still the old certificate, or none: {wrong}"
    time.sleep(1)
print(f"served by {places}")
