#!/usr/bin/env python3
# timeout: 240
"""Two web servers share the requests; one dies, and no request is lost; it comes back, and is used
again. What changes something is sent once, whatever the answer. A back end may be a name; names,
idle tunnels and IPv6 work.
"""

import http.client
import http.server
import os
import shlex
import socket
import ssl
import subprocess
import threading
import time

from slipway_check import PATIENCE

ADDRESS, GATEWAY = os.environ["SLIPWAY_ADDRESS"], os.environ["SLIPWAY_GATEWAY"]


class Server(http.server.ThreadingHTTPServer):
    """A web server that says which one it is, and whether HTTPS was spoken to who came."""

    allow_reuse_address = True
    block_on_close = False

    def __init__(self, port: int) -> None:
        self.posted = 0
        self.hosts: set[str] = set()
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                """Do it, and answer that it went wrong, or nothing."""
                server.posted += 1
                self.rfile.read(int(self.headers["Content-Length"]))
                self.close_connection = True
                if self.path == "/500":
                    self.send_response(500)
                    self.send_header("Content-Length", "0")
                    self.end_headers()

            def do_GET(self) -> None:
                server.hosts.add(f"{self.request_version} {self.headers.get('Host')}")
                if self.headers.get("Upgrade"):
                    self.send_response(101)
                    self.send_header("Upgrade", "echo")
                    self.send_header("Connection", "Upgrade")
                    self.end_headers()
                    while word := self.rfile.readline():
                        self.wfile.write(word)
                    self.close_connection = True
                    return
                content = f"{port} {self.headers.get('X-Forwarded-Proto')}".encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        super().__init__((GATEWAY, port), Handler)
        threading.Thread(
            target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        ).start()

    def die(self) -> None:
        self.shutdown()
        self.server_close()


def get(connection: http.client.HTTPConnection) -> str:
    connection.request("GET", "/", headers={"Host": "example.test", "Connection": "close"})
    answer = connection.getresponse()
    text = answer.read().decode()
    assert answer.status == 200, f"{answer.status}: {text}"
    return text


def ask() -> str:
    return get(http.client.HTTPConnection(ADDRESS, 80, timeout=30 * PATIENCE)).split()[0]


def wait_for(wanted: set[str]) -> None:
    until = time.monotonic() + 60
    while True:
        try:
            seen = {ask() for _ in range(12)}
        except (AssertionError, OSError) as error:
            seen = {str(error)}
        if seen == wanted:
            return
        assert time.monotonic() < until, f"these answer: {seen}"
        time.sleep(0.5)


servers = {port: Server(port) for port in (8081, 8082)}
ssh = shlex.split(os.environ["SLIPWAY_SSH"])
subprocess.run([*ssh, f"traffic-manager backends {GATEWAY}:8081 {GATEWAY}:8082"], check=True)
wait_for({"8081", "8082"})

servers[8081].die()
answers = [ask() for _ in range(200)]  # each has to be a 200
print(f"while one was dead: {len(answers)} answers, {answers.count('8082')} of the other")
assert set(answers) == {"8082"}
servers[8081] = Server(8081)
wait_for({"8081", "8082"})

# Sent once, by one server, whatever that one makes of it
for path in ("/500", "/nothing"):
    before = sum(server.posted for server in servers.values())
    connection = http.client.HTTPConnection(ADDRESS, 80, timeout=30 * PATIENCE)
    connection.request("POST", path, body=b"an order", headers={"Host": "example.test"})
    assert connection.getresponse().status in (500, 502)
    assert sum(server.posted for server in servers.values()) - before == 1, path

# Names, one of which nobody knows; health checks ask for a host
subprocess.run([*ssh, "traffic-manager backends upstream.test:8081 nosuch.test:80"], check=True)
wait_for({"8081"})
assert "HTTP/1.1 upstream.test" in servers[8081].hosts, servers[8081].hosts
subprocess.run(
    [
        *ssh,
        (
            "traffic-manager backends '[2001:db8::1]:80' && grep -q '2001:db8::1' "
            "/etc/haproxy/backends.cfg"
        ),
    ],
    check=True,
)
subprocess.run([*ssh, f"traffic-manager backends {GATEWAY}:8081 {GATEWAY}:8082"], check=True)
wait_for({"8081", "8082"})

# By IPv6
link = "ip -6 -o address show scope link | sed -n 's/.*inet6 \\(fe80[^/]*\\).*/\\1/p' | head -n 1"
local = subprocess.run([*ssh, link], check=True, capture_output=True, text=True).stdout.strip()
assert get(http.client.HTTPConnection(f"{local}%outside", 80, timeout=30 * PATIENCE)).endswith(
    " http"
)

# A tunnel that is idle for longer than an answer may take
with socket.create_connection((ADDRESS, 80), timeout=60 * PATIENCE) as tunnel:
    tunnel.sendall(
        b"GET / HTTP/1.1\r\nHost: example.test\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
    )
    stream = tunnel.makefile("rb")
    assert b"101" in stream.readline()
    while stream.readline() != b"\r\n":
        pass
    time.sleep(65)
    tunnel.sendall(b"still there\n")
    assert stream.readline() == b"still there\n"

authority = subprocess.run(
    [*ssh, "cat /var/lib/slipway/certificates/authority.crt"],
    check=True,
    capture_output=True,
    text=True,
).stdout
context = ssl.create_default_context(cadata=authority)
assert get(
    http.client.HTTPSConnection(ADDRESS, 443, timeout=30 * PATIENCE, context=context)
).endswith(" https")
page = http.client.HTTPSConnection(ADDRESS, 8404, timeout=30 * PATIENCE, context=context)
page.request("GET", "/")
assert page.getresponse().status == 401
