#!/usr/bin/env python3
# timeout: 180
"""Mail is sent after logging in, both ways, and read by IMAP; mail from another server arrives.

A wrong password does not pass.
"""

import imaplib
import os
import shlex
import smtplib
import ssl
import subprocess
import time
import uuid

from slipway_check import PATIENCE

ssh = shlex.split(os.environ["SLIPWAY_SSH"])


def root(command: str) -> str:
    return subprocess.run(
        [*ssh, command], check=True, capture_output=True, text=True, timeout=60 * PATIENCE
    ).stdout


password, certificate = (
    root("cat /var/lib/slipway/parameters/password"),
    root("cat /var/lib/slipway/certificates/authority.crt"),
)
context = ssl.create_default_context(cadata=certificate)
address = os.environ["SLIPWAY_ADDRESS"]
user = f"{os.environ['SLIPWAY_PARAMETER_USER']}@{os.environ['SLIPWAY_PARAMETER_DOMAIN']}"


def arrived(box: imaplib.IMAP4_SSL, subject: str) -> bytes:
    for _ in range(60):
        box.select("INBOX")
        _, (numbers,) = box.search(None, "SUBJECT", f'"{subject}"')
        if numbers:
            return box.fetch(numbers.split()[0], "(BODY[])")[1][0][1]
        time.sleep(1)
    raise SystemExit(f"{subject} did not arrive")


box = imaplib.IMAP4_SSL(address, 993, ssl_context=context, timeout=60 * PATIENCE)
box.login(user, password)
for port in (465, 587):
    server = (
        smtplib.SMTP_SSL(address, port, context=context, timeout=60 * PATIENCE)
        if port == 465
        else smtplib.SMTP(address, port, timeout=60 * PATIENCE)
    )
    with server:
        server.ehlo("client.test")
        if port == 587:
            assert not server.has_extn("auth"), "it asks for passwords in the clear"
            server.starttls(context=context)
        try:
            server.login(user, "not-this-one")
        except smtplib.SMTPAuthenticationError:
            pass
        else:
            raise SystemExit("a wrong password was let in")
        server.login(user, password)
        subject = f"sent {uuid.uuid4()}"
        server.sendmail(
            user, [user], f"From: {user}\r\nTo: {user}\r\nSubject: {subject}\r\n\r\nHello.\r\n"
        )
    assert b"Hello." in arrived(box, subject)
with smtplib.SMTP(address, 25, timeout=60 * PATIENCE) as server:
    server.ehlo("other.test")
    assert not server.has_extn("auth"), "users log in where servers do"
    subject = f"received {uuid.uuid4()}"
    postmaster = f"postmaster@{os.environ['SLIPWAY_PARAMETER_DOMAIN']}"
    server.sendmail(
        "someone@other.test",
        [postmaster],
        f"From: someone@other.test\r\nTo: {postmaster}\r\nSubject: {subject}\r\n\r\nHello.\r\n",
    )
assert b"Hello." in arrived(box, subject)
try:
    imaplib.IMAP4_SSL(address, 993, ssl_context=context, timeout=60 * PATIENCE).login(
        user, "not-this-one"
    )
except imaplib.IMAP4.error:
    pass
else:
    raise SystemExit("IMAP let in a wrong password")
