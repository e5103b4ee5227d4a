#!/usr/bin/env python3
# timeout: 120
"""What a mail server may not do: relay for strangers, take spam, let users write in another's name, take mail for nobody."""

import os
import shlex
import smtplib
import ssl
import subprocess

ssh = shlex.split(os.environ["SLIPWAY_SSH"])
password = subprocess.run([*ssh, "cat /var/lib/slipway/parameters/password"], check=True, capture_output=True, text=True, timeout=60).stdout
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
address, domain = os.environ["SLIPWAY_ADDRESS"], os.environ["SLIPWAY_PARAMETER_DOMAIN"]
user = f"{os.environ['SLIPWAY_PARAMETER_USER']}@{domain}"
GTUBE = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"

with smtplib.SMTP(address, 25, timeout=60) as server:
    server.ehlo("other.test")
    # By a stranger, and by one who says that he is a user.
    for sender in ("someone@other.test", user, ""):
        assert server.mail(sender)[0] == 250
        for relayed in ("victim@elsewhere.test", "victim%elsewhere.test@localhost", f"@{domain}:victim@elsewhere.test"):
            code, said = server.rcpt(relayed)
            assert code >= 500, (sender, relayed, code, said)
        code, said = server.rcpt(f"nobody-of-this-name@{domain}")
        assert code == 550, (code, said)
        server.rset()
    assert server.mail("someone@other.test")[0] == 250
    assert server.rcpt(user)[0] == 250
    code, said = server.data(f"From: someone@other.test\r\nTo: {user}\r\nSubject: spam\r\nMessage-ID: <x@other.test>\r\n\r\n{GTUBE}\r\n")
    assert code == 554, (code, said)

with smtplib.SMTP_SSL(address, 465, context=context, timeout=60) as server:
    server.ehlo("client.test")
    assert server.mail(user)[0] == 250
    code, said = server.rcpt("friend@elsewhere.test")
    assert code >= 500, (code, said)
    server.rset()
    server.login(user, password)
    assert server.mail(f"somebody-else@{domain}")[0] == 250
    code, said = server.rcpt(user)
    assert code == 553, (code, said)
