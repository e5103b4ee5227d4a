#!/usr/bin/env python3
# timeout: 240
# before: reboot
"""After a start of the machine the application answers, and the message that it sent before is there."""

import os
import ssl
import urllib.request

context = ssl.create_default_context()
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
url = f"https://{os.environ['SLIPWAY_ADDRESS']}/proof/receive.jsp?queue=later"
with urllib.request.urlopen(url, context=context, timeout=60) as answer:
    body = answer.read().decode().strip()
assert body == "a message that lasts", body
