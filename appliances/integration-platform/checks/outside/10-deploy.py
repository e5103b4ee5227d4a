#!/usr/bin/env python3
# timeout: 400
"""An application is deployed over HTTPS; what it sends to a queue a STOMP client outside receives,
and the other way round. Wrong passwords are refused by both servers, and the manager by networks
and roles. A message is left for the check after the reboot.
"""

import base64
import contextlib
import io
import os
import shlex
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile

import stomp
from slipway_check import PATIENCE, eventually

ADDRESS, USER = os.environ["SLIPWAY_ADDRESS"], os.environ["SLIPWAY_PARAMETER_USER"]
ssh = shlex.split(os.environ["SLIPWAY_SSH"])


def on_machine(command: str) -> str:
    return subprocess.run([*ssh, command], check=True, capture_output=True, text=True).stdout


DEPLOY = on_machine("cat /var/lib/slipway/parameters/deploy_password")
PASSWORD, CERTIFICATE = (
    on_machine("cat /var/lib/slipway/parameters/password"),
    on_machine("cat /etc/tomcat11/tls/server.crt"),
)
CONTEXT = ssl.create_default_context(cadata=CERTIFICATE)

START = """<%@ page contentType="text/plain; charset=utf-8" \
import="javax.jms.*, javax.naming.InitialContext" %><%
ConnectionFactory factory = \
(ConnectionFactory) new InitialContext().lookup("java:comp/env/jms/broker");
Connection connection = factory.createConnection();
try {
    connection.start();
    Session queues = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
"""
END = "\n} finally { connection.close(); } %>"
SEND = """queues.createProducer(queues.createQueue(request.getParameter("queue")))
        .send(queues.createTextMessage(request.getParameter("text")));
    out.print("sent");"""
RECEIVE = """Message message = \
queues.createConsumer(queues.createQueue(request.getParameter("queue"))).receive(20000);
    if (message instanceof TextMessage) out.print(((TextMessage) message).getText());
    else if (message instanceof BytesMessage) {
        byte[] content = new byte[(int) ((BytesMessage) message).getBodyLength()];
        ((BytesMessage) message).readBytes(content);
        out.print(new String(content, "UTF-8"));
    } else out.print("nothing");"""


def call(
    path: str,
    /,
    *,
    user: str = "deploy",
    password: str = "",
    data: bytes | None = None,
    method: str = "",
    **query: str,
) -> str:
    url = f"https://{ADDRESS}{path}" + (f"?{urllib.parse.urlencode(query)}" if query else "")
    request = urllib.request.Request(url, data=data, method=method or ("PUT" if data else "GET"))
    if password:
        request.add_header(
            "Authorization", "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        )
    with urllib.request.urlopen(request, context=CONTEXT, timeout=120 * PATIENCE) as answer:
        return answer.read().decode().strip()


def refused(
    password: str, path: str = "/manager/text/list", user: str = "deploy", method: str = ""
) -> int:
    """Return the status of an answer: a server that is busy cuts off a slow handshake."""

    def status() -> int:
        try:
            call(path, user=user, password=password, method=method)
        except urllib.error.HTTPError as error:
            return error.code
        return 200

    return eventually(status)


class Received(stomp.ConnectionListener):
    def __init__(self) -> None:
        self.bodies: list[str] = []

    def on_message(self, frame: stomp.utils.Frame) -> None:
        self.bodies.append(frame.body)


def broker(password: str) -> stomp.Connection12:
    connection = stomp.Connection12(
        [(ADDRESS, 61612)], timeout=30 * PATIENCE, reconnect_attempts_max=1
    )
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as authority:
        authority.write(CERTIFICATE)
        authority.flush()
        # This library compares no name with this setting; HTTPS does, with the same certificate.
        connection.set_ssl(
            [(ADDRESS, 61612)], ca_certs=authority.name, ssl_version=ssl.PROTOCOL_TLS
        )
        connection.connect(USER, password, wait=True)
    return connection


archive = io.BytesIO()
with zipfile.ZipFile(archive, "w") as war:
    war.writestr(
        "WEB-INF/web.xml", '<web-app xmlns="https://jakarta.ee/xml/ns/jakartaee" version="6.1"/>'
    )
    for name, body in {"send": SEND, "receive": RECEIVE}.items():
        war.writestr(f"{name}.jsp", f"{START}    {body}{END}")
print(
    call(
        "/manager/text/deploy",
        password=DEPLOY,
        data=archive.getvalue(),
        path="/proof",
        update="true",
    )
)
assert (refused(""), refused("not-" + DEPLOY)) == (401, 401)
# Whoever has the page in a browser carries out no command of a script, and the other way round;
# strangers see nothing at /.
assert (refused(PASSWORD, user=USER), refused(DEPLOY, "/manager/html")) == (403, 403)
assert (refused(PASSWORD, "/manager/html", USER), refused("", "/")) == (200, 404)

try:
    broker("not-" + PASSWORD)
    raise SystemExit("the broker takes a wrong password")
except stomp.exception.ConnectFailedException:
    pass
client, received = broker(PASSWORD), Received()
client.set_listener("", received)
client.subscribe("/queue/out", "1")
assert call("/proof/send.jsp", queue="out", text="grüße, from inside") == "sent"
client.send("/queue/in", "from outside", headers={"persistent": "true", "receipt": "1"})
assert call("/proof/receive.jsp", queue="in") == "from outside"
assert received.bodies == ["grüße, from inside"], received.bodies
assert call("/proof/send.jsp", queue="later", text="a message that lasts") == "sent"
client.disconnect()

# Who has the page sees what waits, and only scripts move or remove it
for text in ("one", "two"):
    assert call("/proof/send.jsp", queue="wrong", text=text) == "sent"
waiting = {
    line.split("\t")[2]: line.split("\t")[0]
    for line in call("/queues/", user=USER, password=PASSWORD).splitlines()
}
assert (waiting["later"], waiting["wrong"]) == ("1", "2"), waiting
shown = [
    line.split("\t")[2]
    for line in call("/queues/", user=USER, password=PASSWORD, queue="wrong").splitlines()
]
assert shown == ["one", "two"], shown
assert [
    refused(*who, method="POST")
    for who in ((PASSWORD, "/queues/?queue=wrong", USER), ("", "/queues/?queue=wrong"))
] == [403, 401]
assert call("/queues/", password=DEPLOY, method="POST", queue="wrong", to="right") == "2"
assert call("/proof/receive.jsp", queue="right") == "one"
assert call("/queues/", password=DEPLOY, method="POST", queue="right") == "1"
assert call("/queues/", user=USER, password=PASSWORD, queue="right") == ""

# A stranger who announces 120 MB by OpenWire is cut off, again and again, and the broker serves
# others
for _ in range(3):
    link = socket.create_connection((ADDRESS, 61617), timeout=60 * PATIENCE)
    with (
        CONTEXT.wrap_socket(link, server_hostname=ADDRESS) as stranger,
        contextlib.suppress(ConnectionError, ssl.SSLError),
    ):
        stranger.sendall((120_000_000).to_bytes(4, "big") + b"\x01" * 4096)
        while stranger.recv(65536):
            pass
broker(PASSWORD).disconnect()

# Only networks that may use the manager do; applications are for everybody.
CONTEXT_FILE = "/etc/tomcat11/Catalina/localhost/manager.xml"


def allow(networks: str) -> None:
    on_machine(f'sed -i \'s#allow="[^"]*"#allow="{networks}"#\' {CONTEXT_FILE}')


before = on_machine(f'sed -n \'s#.*allow="\\([^"]*\\)".*#\\1#p\' {CONTEXT_FILE}').strip()
try:
    allow("198.51.100.0/24")
    until = time.monotonic() + 120 * PATIENCE
    while refused(DEPLOY) != 403:
        assert time.monotonic() < until, "the manager answers a stranger's network"
        time.sleep(2)
    assert call("/proof/send.jsp", queue="out", text="still here") == "sent"
finally:
    allow(before)
until = time.monotonic() + 120 * PATIENCE
while refused(DEPLOY) != 200:
    assert time.monotonic() < until, "the manager does not answer its own network"
    time.sleep(2)
