#!/usr/bin/env python3
# timeout: 240
# before: reboot
"""After a start of the machine the application answers, and the message that it sent before is
there.
"""

import os
import shlex
import ssl
import subprocess
import urllib.request

ssh = [*shlex.split(os.environ["SLIPWAY_SSH"]), "cat /var/lib/slipway/certificates/authority.crt"]
context = ssl.create_default_context(
    cadata=subprocess.run(ssh, check=True, capture_output=True, text=True, timeout=60).stdout
)
url = f"https://{os.environ['SLIPWAY_ADDRESS']}/proof/receive.jsp?queue=later"
with urllib.request.urlopen(url, context=context, timeout=60) as answer:
    body = answer.read().decode().strip()
assert body == "a message that lasts", body
