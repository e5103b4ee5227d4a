#!/usr/bin/env python3
# timeout: 180
"""Two web servers share the requests; one dies, and no request is lost; it comes back, and is used again."""

import http.client
import http.server
import os
import shlex
import ssl
import subprocess
import threading
import time

ADDRESS, GATEWAY = os.environ["SLIPWAY_ADDRESS"], os.environ["SLIPWAY_GATEWAY"]


class Server(http.server.ThreadingHTTPServer):
    """A web server that says which one it is, and whether HTTPS was spoken to who came."""

    allow_reuse_address = True
    block_on_close = False

    def __init__(self, port: int) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                content = f"{port} {self.headers.get('X-Forwarded-Proto')}".encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        super().__init__((GATEWAY, port), Handler)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

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
    return get(http.client.HTTPConnection(ADDRESS, 80, timeout=30)).split()[0]


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

context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
assert get(http.client.HTTPSConnection(ADDRESS, 443, timeout=30, context=context)).endswith(" https")
page = http.client.HTTPSConnection(ADDRESS, 8404, timeout=30, context=context)
page.request("GET", "/")
assert page.getresponse().status == 401
