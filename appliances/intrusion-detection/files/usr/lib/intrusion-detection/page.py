"""The page of alerts: what Suricata's EVE log says at its end, as HTML at / and as JSON at
/alerts.json.

Only admin is answered, by HTTPS. The key and the hash of the password are systemd's credentials of
the service. Format of the log:
https://docs.suricata.io/en/suricata-7.0.10/output/eve/eve-json-format.html.
"""

import base64
import hashlib
import hmac
import html
import http.server
import json
import os
import pathlib
import socket
import ssl
import threading
import time

LOGS = [pathlib.Path(f"/var/log/suricata/{name}") for name in ("alerts.json", "alerts.json.1")]
STATS = pathlib.Path("/var/log/suricata/stats.json")
CREDENTIALS = pathlib.Path(os.environ["CREDENTIALS_DIRECTORY"])
SHOWN, READ_BYTES = 200, 4 * 2**20
HEAD = """<!doctype html><html lang="en"><meta charset="utf-8">\
<meta name="viewport" content="width=device-width">
<meta http-equiv="refresh" content="30"><title>Alerts</title>
<style>body{font:15px/1.4 system-ui,sans-serif;margin:1rem auto;max-width:75rem;padding:0 1rem}\
table{border-collapse:collapse;width:100%}
td,th{border-bottom:1px solid #ccc;padding:.3rem .5rem;text-align:left;vertical-align:top}\
.blocked{color:#a00;font-weight:600}
@media(max-width:40rem){th:nth-child(4),td:nth-child(4){display:none}}</style>"""


def end(log: pathlib.Path, most: int) -> list[bytes]:
    """The last lines of a log, of which the first may be cut off."""
    try:
        with log.open("rb") as text:
            text.seek(max(0, text.seek(0, os.SEEK_END) - most))
            return text.read().splitlines()
    except FileNotFoundError:
        return []


def capture() -> dict[str, object]:
    """What Suricata says that it got, and what the kernel dropped because it was too slow, since it
    started.
    """
    for line in reversed(end(STATS, 2**17)):
        try:
            counted = json.loads(line)["stats"]
        except (ValueError, KeyError):
            continue
        counters = counted.get("capture", {})
        return {
            "uptime_s": counted.get("uptime"),
            "kernel_packets": counters.get("kernel_packets", 0),
            "kernel_drops": counters.get("kernel_drops", 0),
        }
    return {}


def alerts() -> list[dict[str, object]]:
    """The last alerts, the newest first."""
    found = []
    for line in (line for log in LOGS for line in reversed(end(log, READ_BYTES))):
        try:
            event = json.loads(line)
        except ValueError:
            continue  # cut off at the beginning, or being written
        if event.get("event_type") == "alert":
            alert = event["alert"]
            found.append(
                {
                    "time": event.get("timestamp"),
                    "action": alert.get("action"),
                    "signature": alert.get("signature"),
                    "id": alert.get("signature_id"),
                    "severity": alert.get("severity"),
                    "protocol": event.get("proto"),
                    "source": f"{event.get('src_ip')}:{event.get('src_port', '')}".rstrip(":"),
                    "destination": f"{event.get('dest_ip')}:{event.get('dest_port', '')}".rstrip(
                        ":"
                    ),
                }
            )
            if len(found) == SHOWN:
                break
    return found


def page(rows: list[dict[str, object]]) -> str:
    """The alerts as a table."""
    text = [HEAD, f"<h1>Alerts</h1><p>The last {len(rows)}, the newest first."]
    seen = capture()
    if seen:
        text.append(
            f"<p>Of {seen['kernel_packets']} packets, {seen['kernel_drops']} were missed "
            "since it started."
        )
    text.append("<table><tr><th>Time<th>Action<th>Signature<th>Id<th>From<th>To</tr>")
    for row in rows:
        cells = [
            html.escape(str(row[name]))
            for name in ("time", "action", "signature", "id", "source", "destination")
        ]
        cells[0] = cells[0][:19].replace("T", " ")
        marked = ' class="blocked"' if row["action"] == "blocked" else ""
        text.append(f"<tr><td>{cells[0]}<td{marked}>{'<td>'.join(cells[1:])}</tr>")
    return "\n".join([*text, "</table>"])


class Doors:
    """Who is let in.

    A hash is costly, so it is made for admin alone, one at a time, and for no address that guessed
    much.
    """

    LIMIT, WINDOW_S = 10, 300.0

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._key = os.urandom(32)
        self._known = b""
        self._wrong: dict[str, list[float]] = {}

    def open(self, header: str, source: str, now: float) -> int:
        """Return 200, 401 or 429."""
        if not header.startswith("Basic "):
            return 401
        mark = hmac.digest(self._key, header.encode(), "sha256")
        if self._known and hmac.compare_digest(mark, self._known):
            return 200
        with self._lock:
            recent = [at for at in self._wrong.get(source, []) if now - at < self.WINDOW_S]
            if len(recent) >= self.LIMIT:
                return 429
            if allowed(header, (CREDENTIALS / "password").read_text()):
                self._known = mark
                return 200
            self._wrong[source] = [*recent, now]
            while len(self._wrong) > 10_000:
                del self._wrong[next(iter(self._wrong))]
            return 401


DOORS = Doors()


def allowed(header: str, stored: str) -> bool:
    """Whether an Authorization header is admin's; ``stored`` is the password's salt and scrypt
    hash, in hexadecimal.
    """
    try:
        user, _, password = (
            base64.b64decode(header.removeprefix("Basic "), validate=True).decode().partition(":")
        )
    except ValueError:
        return False
    if user != "admin":
        return False
    salt, _, digest = stored.strip().partition(":")
    given = hashlib.scrypt(password.encode(), salt=bytes.fromhex(salt), n=4096, r=8, p=1)
    return hmac.compare_digest(user.encode(), b"admin") & hmac.compare_digest(
        given, bytes.fromhex(digest)
    )


class Handler(http.server.BaseHTTPRequestHandler):
    """One request."""

    server_version, sys_version, timeout = "alerts", "", 30

    def do_GET(self) -> None:
        """Answer with the page or the JSON."""
        status = DOORS.open(
            self.headers.get("Authorization", ""), self.client_address[0], time.monotonic()
        )
        if status == 429:
            self.answer(429, "text/plain", "too many wrong passwords\n")
        elif status != 200:
            self.answer(
                401, "text/plain", "log in as admin\n", {"WWW-Authenticate": 'Basic realm="alerts"'}
            )
        elif self.path == "/alerts.json":
            self.answer(200, "application/json", json.dumps(alerts()))
        elif self.path == "/capture.json":
            self.answer(200, "application/json", json.dumps(capture()))
        elif self.path == "/":
            self.answer(200, "text/html; charset=utf-8", page(alerts()))
        else:
            self.answer(404, "text/plain", "there is /, /alerts.json and /capture.json\n")

    def answer(self, status: int, kind: str, text: str, more: dict[str, str] | None = None) -> None:
        """Send a whole answer."""
        body = text.encode()
        self.send_response(status)
        headers = {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            **(more or {}),
        }
        headers |= {
            "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
            "X-Content-Type-Options": "nosniff",
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


class Server(http.server.ThreadingHTTPServer):
    """HTTPS; the handshake is each connection's own, so that a silent client holds up nobody."""

    # IPv4 as well.
    address_family = socket.AF_INET6

    def __init__(self) -> None:
        super().__init__(("::", 443), Handler)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain("/etc/alerts-page/server.crt", CREDENTIALS / "key")

    def get_request(self):  # noqa: ANN201 - socketserver's
        """Accept, without waiting for the handshake."""
        connection, address = super().get_request()
        connection.settimeout(Handler.timeout)
        return self.context.wrap_socket(
            connection, server_side=True, do_handshake_on_connect=False
        ), address


Server().serve_forever()
