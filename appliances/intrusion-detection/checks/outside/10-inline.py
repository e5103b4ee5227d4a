#!/usr/bin/env python3
# timeout: 180
"""Between the networks: ordinary traffic passes, a test signature is dropped and alerted, and the
page shows it to admin.
"""

import base64
import json
import os
import shlex
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request

from slipway_check import PATIENCE

ssh = shlex.split(os.environ["SLIPWAY_SSH"])
password = subprocess.run(
    [*ssh, "cat /var/lib/slipway/parameters/password"],
    check=True,
    capture_output=True,
    text=True,
    timeout=60 * PATIENCE,
).stdout
address = os.environ["SLIPWAY_ADDRESS"]
authority = subprocess.run(
    [*ssh, "cat /var/lib/slipway/certificates/authority.crt"],
    check=True,
    capture_output=True,
    text=True,
    timeout=60 * PATIENCE,
).stdout
context = ssl.create_default_context(cadata=authority)
SERVER = """
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b"uid=0(root) gid=0(root) groups=0(root)" if self.path == "/attacked" else b"as ever"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
server = http.server.ThreadingHTTPServer(("192.168.50.2", 8000), Handler)
print("ready", flush=True)
server.serve_forever()
"""
# Packets as a cable carries them: each with its checksum, none larger than the network's
# (ETHTOOL_STXCSUM, STSO, SGSO of linux/ethtool.h). A virtual network leaves that to the last one
# who sees them, who is not the sensor.
PLAIN = """
import ctypes, fcntl, socket, struct
for command in (0x17, 0x1F, 0x24):
    value = ctypes.create_string_buffer(struct.pack("II", command, 0))
    fcntl.ioctl(socket.socket(), 0x8946, struct.pack("16sP", b"client0", ctypes.addressof(value)))
"""
CLIENT = """
import sys, urllib.request
try:
    page = "http://192.168.50.2:8000/" + sys.argv[1]
    print(urllib.request.urlopen(page, timeout=float(sys.argv[2])).read().decode())
except OSError as error:
    print("nothing:", error)
"""


def at(segment: str, *argv: str) -> list[str]:
    return ["ip", "netns", "exec", segment, *argv]


def ask(path: str, timeout_s: int) -> str:
    argv = at("upstream", sys.executable, "-I", "-c", CLIENT, path, str(timeout_s))
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()


def alerts(secret: str) -> list[dict]:
    header = base64.b64encode(f"admin:{secret}".encode()).decode()
    request = urllib.request.Request(
        f"https://{address}/alerts.json", headers={"Authorization": f"Basic {header}"}
    )
    with urllib.request.urlopen(request, context=context, timeout=30 * PATIENCE) as answer:
        return json.load(answer)


for segment, own in (("upstream", "192.168.50.1/24"), ("protected", "192.168.50.2/24")):
    subprocess.run(at(segment, "ip", "address", "replace", own, "dev", "client0"), check=True)
    subprocess.run(at(segment, "ip", "link", "set", "client0", "up"), check=True)
    subprocess.run(at(segment, sys.executable, "-I", "-c", PLAIN), check=True)
with subprocess.Popen(
    at("protected", sys.executable, "-I", "-c", SERVER), stdout=subprocess.PIPE, text=True
) as server:
    try:
        assert server.stdout.readline() == "ready\n"
        answer = ask("ordinary", 30)
        assert answer == "as ever", answer
        assert ask("attacked", 30).startswith("uid=0(root)"), "what is only a hint is dropped"
        assert ask("?${jndi:ldap", 10).startswith("nothing:")
        assert ask("ordinary", 30) == "as ever"
    finally:
        server.terminate()
for _ in range(30):
    seen = {alert["id"]: alert["action"] for alert in alerts(password)}
    if {1000001, 1000008} <= set(seen):
        break
    time.sleep(1)
assert (seen.get(1000001), seen.get(1000008)) == ("allowed", "blocked"), seen
try:
    alerts("not-this-one")
except urllib.error.HTTPError as error:
    assert error.code in (401, 429), error
else:
    raise SystemExit("the page let in a wrong password")
