#!/usr/bin/env python3
# timeout: 240
# before: reboot
"""After a start of the machine the application answers, and the message that it sent before is
there.
"""

import ssl
import urllib.request

from slipway_check import PATIENCE, address, eventually, trusting

URL = f"https://{address()}/proof/receive.jsp?queue=later"


def body(context: ssl.SSLContext) -> str:
    with urllib.request.urlopen(URL, context=context, timeout=30 * PATIENCE) as answer:
        return answer.read().decode().strip()


context = trusting()
# Until the server takes connections; what it says then is said once.
said = eventually(lambda: body(context))
assert said == "a message that lasts", said
