#!/usr/bin/env python3
# timeout: 120
"""What a mail server may not do: relay for strangers, take spam, let users write in another's name,
take mail for nobody.
"""

import imaplib
import os
import shlex
import smtplib
import ssl
import subprocess
import time

from slipway_check import PATIENCE

ssh = shlex.split(os.environ["SLIPWAY_SSH"])
password = subprocess.run(
    [*ssh, "cat /var/lib/slipway/parameters/password"],
    check=True,
    capture_output=True,
    text=True,
    timeout=60 * PATIENCE,
).stdout
authority = subprocess.run(
    [*ssh, "cat /var/lib/slipway/certificates/authority.crt"],
    check=True,
    capture_output=True,
    text=True,
    timeout=60 * PATIENCE,
).stdout
context = ssl.create_default_context(cadata=authority)
address, domain = os.environ["SLIPWAY_ADDRESS"], os.environ["SLIPWAY_PARAMETER_DOMAIN"]
user = f"{os.environ['SLIPWAY_PARAMETER_USER']}@{domain}"
GTUBE = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"

with smtplib.SMTP(address, 25, timeout=60 * PATIENCE) as server:
    server.ehlo("other.test")
    # Nobody who has not logged in is of this domain, whether there is such a mailbox or not.
    for sender in (
        user,
        user.upper(),
        f"nobody-of-this-name@{domain}",
        f"postmaster@{domain}",
        f"anna@sub.{domain}",
    ):
        assert server.mail(sender)[0] == 250
        code, said = server.rcpt(user)
        assert code == 554, (sender, code, said)
        server.rset()
    for sender in ("someone@other.test", ""):
        assert server.mail(sender)[0] == 250
        for relayed in (
            "victim@elsewhere.test",
            "victim%elsewhere.test@localhost",
            f"@{domain}:victim@elsewhere.test",
        ):
            code, said = server.rcpt(relayed)
            assert code >= 500, (sender, relayed, code, said)
        code, said = server.rcpt(f"nobody-of-this-name@{domain}")
        assert code == 550, (code, said)
        server.rset()
    assert server.mail("someone@other.test")[0] == 250
    assert server.rcpt(user)[0] == 250
    code, said = server.data(
        f"From: someone@other.test\r\nTo: {user}\r\nSubject: spam\r\n"
        f"Message-ID: <x@other.test>\r\n\r\n{GTUBE}\r\n"
    )
    assert code == 554, (code, said)
    # Mail in this domain's name, and mail that looks like spam, is marked, and lies in Junk.
    for subject, sender in (("forged", f"The Boss <{user}>"), ("also forged", f"boss@{domain}")):
        text = (
            f"From: {sender}\r\nTo: {user}\r\nSubject: {subject}\r\n"
            f"Message-ID: <{subject[:4]}@other.test>\r\n\r\nHello.\r\n"
        )
        server.sendmail("someone@other.test", [user], text)

with smtplib.SMTP_SSL(address, 465, context=context, timeout=60 * PATIENCE) as server:
    server.ehlo("client.test")
    assert server.mail(user)[0] == 250
    code, said = server.rcpt("friend@elsewhere.test")
    assert code >= 500, (code, said)
    server.rset()
    server.login(user, password)
    assert server.mail(f"somebody-else@{domain}")[0] == 250
    code, said = server.rcpt(user)
    assert code == 553, (code, said)
    server.rset()
    # In the header, too, a user is himself, whatever else stands there; or what leads to him.
    own = f"From: {user}"
    others = (
        f"From: The Boss <boss@{domain}>",
        f"From: {user} <boss@{domain}>",
        f"From: {user}, boss@{domain}",
        f"From: boss@{domain}\r\nFrom: {user}",
        f"From: {user}\r\nFrom: boss@{domain}",
        f"From:\r\n =?utf-8?q?The_Boss?=\r\n <boss@{domain}>",
        f"{own}\r\nSender: boss@{domain}",
        f"{own}\r\nResent-From: boss@{domain}",
        "From: undisclosed",
        "From: boss@elsewhere.test",
    )
    for head in others:
        try:
            server.sendmail(
                user, [user], f"{head}\r\nTo: {user}\r\nSubject: not mine\r\n\r\nHello.\r\n"
            )
        except smtplib.SMTPDataError as error:
            assert error.smtp_code == 554, error
        else:
            raise SystemExit(f"a user wrote as another: {head}")
    for head in (own, f"From: Office <{user.upper()}>", f"From: postmaster@{domain}"):
        envelope = f"postmaster@{domain}" if "postmaster" in head else user
        server.sendmail(
            envelope, [user], f"{head}\r\nTo: {user}\r\nSubject: mine\r\n\r\nHello.\r\n"
        )

box = imaplib.IMAP4_SSL(address, 993, ssl_context=context, timeout=60 * PATIENCE)
box.login(user, password)


def subjects(folder: str) -> list[str]:
    box.select(folder)
    found = box.fetch("1:*", "(BODY[HEADER.FIELDS (SUBJECT)])")[1]
    return sorted(
        part[1].decode().partition(":")[2].strip() for part in found if isinstance(part, tuple)
    )


until = time.monotonic() + 60 * PATIENCE
while set(subjects("Junk")) != {"also forged", "forged"}:
    assert time.monotonic() < until, f"Junk has {subjects('Junk')}, INBOX {subjects('INBOX')}"
    time.sleep(1)
assert "not mine" not in subjects("INBOX") and subjects("INBOX").count("mine") >= 3, subjects(
    "INBOX"
)
