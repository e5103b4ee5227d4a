#!/usr/bin/env python3
# timeout: 240
"""Mail is signed (DKIM, RFC 6376), as the key that `mailbox dns` prints says; guessers are shut
out, a known user is not; a mailbox has a limit; first boot, run again, keeps what is there.
"""

import base64
import concurrent.futures
import hashlib
import imaplib
import ipaddress
import os
import re
import shlex
import smtplib
import socket
import ssl
import subprocess
import time
import uuid

from slipway_check import PATIENCE

ssh = shlex.split(os.environ["SLIPWAY_SSH"])
ADDRESS, DOMAIN, HOST = (
    os.environ[f"SLIPWAY_{name}"] for name in ("ADDRESS", "PARAMETER_DOMAIN", "PARAMETER_HOSTNAME")
)
USER = f"{os.environ['SLIPWAY_PARAMETER_USER']}@{DOMAIN}"


def root(command: str, given: str = "") -> str:
    return subprocess.run(
        [*ssh, command],
        input=given,
        check=True,
        capture_output=True,
        text=True,
        timeout=100 * PATIENCE,
    ).stdout.strip()


context = ssl.create_default_context(cadata=root("cat /var/lib/slipway/certificates/authority.crt"))


def logs_in(user: str, password: str, source: str = "") -> bool:
    """Try a password by IMAP; from another address of this side, if one is named."""
    with (
        imaplib.IMAP4_SSL(ADDRESS, 993, ssl_context=context, timeout=60 * PATIENCE)
        if not source
        else From(source) as box
    ):
        try:
            box.login(user, password)
        except imaplib.IMAP4.error:
            return False
        return True


class From(imaplib.IMAP4_SSL):
    """IMAP from an address of this side."""

    def __init__(self, source: str) -> None:
        self.source = source
        super().__init__(ADDRESS, 993, ssl_context=context, timeout=60 * PATIENCE)

    def _create_socket(self, timeout: float | None) -> ssl.SSLSocket:
        return context.wrap_socket(
            socket.create_connection((ADDRESS, 993), timeout, (self.source, 0)),
            server_hostname=HOST,
        )


def send(user: str, password: str, to: str, subject: str, body: str = "Hello.\r\n") -> None:
    with smtplib.SMTP_SSL(ADDRESS, 465, context=context, timeout=60 * PATIENCE) as server:
        server.login(user, password)
        server.sendmail(user, [to], f"From: {user}\r\nTo: {to}\r\nSubject: {subject}\r\n\r\n{body}")


def arrived(password: str, subject: str) -> bytes:
    until = time.monotonic() + 60 * PATIENCE
    with imaplib.IMAP4_SSL(ADDRESS, 993, ssl_context=context, timeout=60 * PATIENCE) as box:
        box.login(USER, password)
        while True:
            box.select("INBOX")
            _, (numbers,) = box.search(None, "SUBJECT", f'"{subject}"')
            if numbers:
                return box.fetch(numbers.split()[0], "(BODY[])")[1][0][1]
            assert time.monotonic() < until, f"{subject} did not arrive"
            time.sleep(1)


def relaxed(name: str, value: str) -> bytes:
    """A header as it is signed (RFC 6376, 3.4.2)."""
    unfolded = re.sub(r"[ \t]+", " ", value.replace("\r\n", "")).strip()
    return f"{name.lower().strip()}:{unfolded}".encode()


def signed(message: bytes) -> None:
    """Compare a message's signature with the key of `mailbox dns`."""
    head, _, body = message.partition(b"\r\n\r\n")
    fields = [part.partition(":")[::2] for part in re.split(r"\r\n(?![ \t])", head.decode())]
    name, value = next((name, value) for name, value in fields if name.lower() == "dkim-signature")
    tags = {
        key.strip(): re.sub(r"\s+", "", text)
        for key, _, text in (part.partition("=") for part in value.split(";") if part.strip())
    }
    assert (tags["d"], tags["a"], tags["c"]) == (DOMAIN, "rsa-sha256", "relaxed/relaxed"), tags
    lines = [re.sub(rb"[ \t]+", b" ", line).rstrip() for line in body.split(b"\r\n")]
    while lines and not lines[-1]:
        lines.pop()
    assert (
        base64.b64decode(tags["bh"])
        == hashlib.sha256(b"".join(line + b"\r\n" for line in lines)).digest()
    ), "the body"
    left, parts = list(fields), []
    for wanted in tags["h"].split(":"):
        found = next(
            (
                index
                for index in reversed(range(len(left)))
                if left[index][0].lower() == wanted.lower()
            ),
            None,
        )
        if found is not None:
            parts.append(relaxed(*left.pop(found)) + b"\r\n")
    parts.append(relaxed(name, re.sub(r"(\bb=)[^;]*", r"\1", value)))
    assert {"from", "to", "subject"} <= set(tags["h"].lower().split(":")), tags["h"]
    entry = next(
        line
        for line in root("mailbox dns").splitlines()
        if line.startswith(f"{tags['s']}._domainkey.{DOMAIN}. IN TXT ")
    )
    text = "".join(re.findall(r'"([^"]*)"', entry))
    assert all(len(piece) <= 255 for piece in re.findall(r'"([^"]*)"', entry)), entry
    key = re.findall(r"p=([A-Za-z0-9+/=]+)", text)[0]
    script = (
        "d=$(mktemp -d); cd $d; read -r k; echo $k | base64 -d >k; read -r s; echo $s | base64 -d "
        ">s; base64 -d >m; "
    )
    script += "openssl dgst -sha256 -verify k -keyform DER -signature s m; rm -r $d"
    said = root(script, "\n".join((key, tags["b"], base64.b64encode(b"".join(parts)).decode(), "")))
    assert said == "Verified OK", said


password = root("cat /var/lib/slipway/parameters/password")
subject = f"signed {uuid.uuid4()}"
send(USER, password, USER, subject)
signed(arrived(password, subject))
entries = root("mailbox dns")
for start in (
    f"{DOMAIN}. IN MX 10 {HOST}.",
    f"{HOST}. IN A {ADDRESS}",
    f'{DOMAIN}. IN TXT "v=spf1 ',
    f'_dmarc.{DOMAIN}. IN TXT "v=DMARC1;',
):
    assert any(line.startswith(start) for line in entries.splitlines()), entries
print("signed, and the key is in the DNS entries")

# First boot again: a mailbox that was added, its password and the key stay.
root(f"mailbox remove anna@{DOMAIN} 2>/dev/null; rm -rf /var/vmail/anna@{DOMAIN}")
root(f"mailbox add anna@{DOMAIN}", "anna's own password\n")
again = (
    "set -a; for p in /var/lib/slipway/parameters/*; do export PARAM_$(basename $p | tr a-z "
    'A-Z)="$(cat $p)"; done; '
)
root(
    again
    + (
        "SLIPWAY_BANNER=/dev/null sh -e /usr/lib/slipway/firstboot.d/10-mail.sh && postfix "
        "reload 2>/dev/null"
    )
)
assert root("mailbox list").splitlines() == [USER, f"anna@{DOMAIN}"], root("mailbox list")
assert root("mailbox dns") == entries, "the key is another one"
assert logs_in(f"anna@{DOMAIN}", "anna's own password") and logs_in(USER, password)
print("first boot again: what was there is there")

# A mailbox that is full takes no more, and says so to who sends; others do.
limit = root("sed -n 's/.*quota_storage_size = //p' /etc/dovecot/quota.conf")
root(
    "sed -i 's/quota_storage_size = .*/quota_storage_size = 3 M/' /etc/dovecot/quota.conf "
    "&& doveadm reload"
)
try:
    codes = []
    for _ in range(8):
        with smtplib.SMTP(ADDRESS, 25, timeout=60 * PATIENCE) as server:
            server.ehlo("other.test")
            server.mail("someone@other.test")
            codes.append(server.rcpt(f"anna@{DOMAIN}")[0])
            if codes[-1] == 250:
                head = (
                    "From: someone@other.test\r\nSubject: large\r\n"
                    f"Message-ID: <{uuid.uuid4()}@other.test>\r\n\r\n"
                )
                server.data(head + f"{'x' * 70}\r\n" * 20000)
        time.sleep(3)
    assert codes[0] == 250 and codes[-1] == 552, f"a full mailbox: {codes}"
    send(USER, password, USER, "not full")
    arrived(password, "not full")
finally:
    root(
        f"sed -i 's/quota_storage_size = .*/quota_storage_size = {limit}/' "
        "/etc/dovecot/quota.conf && doveadm reload"
    )
print(f"a mailbox that is full: {codes}")

# Guessers: the 12th wrong password is not compared any more, nor is the right one; who is known
# there is let in.
network = ipaddress.ip_network(f"{os.environ['SLIPWAY_GATEWAY']}/24", strict=False)
source, elsewhere = str(network[205]), str(network[206])
for extra in (source, elsewhere):
    subprocess.run(
        ["ip", "address", "replace", f"{extra}/24", "dev", os.environ["SLIPWAY_INTERFACE"]],
        check=True,
    )
assert logs_in(USER, password, source)
with concurrent.futures.ThreadPoolExecutor(4) as guessers:
    assert not any(
        guessers.map(lambda number: logs_in(f"anna@{DOMAIN}", f"guess {number}", source), range(13))
    )
assert not logs_in(f"anna@{DOMAIN}", "anna's own password", source), "a guesser may go on"
assert logs_in(USER, password, source), "a user who is known there is shut out with the guesser"
assert logs_in(f"anna@{DOMAIN}", "anna's own password", elsewhere), (
    "another address is shut out with the guesser"
)
with smtplib.SMTP_SSL(
    ADDRESS, 465, context=context, timeout=60 * PATIENCE, source_address=(source, 0)
) as server:
    try:
        server.login(f"anna@{DOMAIN}", "anna's own password")
    except smtplib.SMTPAuthenticationError:
        pass
    else:
        raise SystemExit("a guesser may go on by SMTP")
root(f"mailbox remove anna@{DOMAIN}; rm -rf /var/vmail/anna@{DOMAIN}")
print("guessers: refused after 11")
