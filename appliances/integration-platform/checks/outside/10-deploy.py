#!/usr/bin/env python3
# timeout: 240
"""An application is deployed over HTTPS; what it sends to a queue a STOMP client outside receives, and the other way round.
Wrong passwords are refused by both servers. A message is left for the check after the reboot."""

import base64
import io
import os
import shlex
import ssl
import subprocess
import tempfile
import urllib.error
import urllib.parse
import urllib.request
import zipfile

import stomp

ADDRESS, USER = os.environ["SLIPWAY_ADDRESS"], os.environ["SLIPWAY_PARAMETER_USER"]
ssh = shlex.split(os.environ["SLIPWAY_SSH"])


def on_machine(command: str) -> str:
    return subprocess.run([*ssh, command], check=True, capture_output=True, text=True).stdout


PASSWORD, CERTIFICATE = on_machine("cat /var/lib/slipway/parameters/password"), on_machine("cat /etc/tomcat11/tls/server.crt")
CONTEXT = ssl.create_default_context(cadata=CERTIFICATE)

START = """<%@ page contentType="text/plain; charset=utf-8" import="javax.jms.*, javax.naming.InitialContext" %><%
ConnectionFactory factory = (ConnectionFactory) new InitialContext().lookup("java:comp/env/jms/broker");
Connection connection = factory.createConnection();
try {
    connection.start();
    Session queues = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
"""
END = "\n} finally { connection.close(); } %>"
SEND = """queues.createProducer(queues.createQueue(request.getParameter("queue")))
        .send(queues.createTextMessage(request.getParameter("text")));
    out.print("sent");"""
RECEIVE = """Message message = queues.createConsumer(queues.createQueue(request.getParameter("queue"))).receive(20000);
    if (message instanceof TextMessage) out.print(((TextMessage) message).getText());
    else if (message instanceof BytesMessage) {
        byte[] content = new byte[(int) ((BytesMessage) message).getBodyLength()];
        ((BytesMessage) message).readBytes(content);
        out.print(new String(content, "UTF-8"));
    } else out.print("nothing");"""


def call(path: str, /, *, password: str = "", data: bytes | None = None, **query: str) -> str:
    url = f"https://{ADDRESS}{path}" + (f"?{urllib.parse.urlencode(query)}" if query else "")
    request = urllib.request.Request(url, data=data, method="PUT" if data else "GET")
    if password:
        request.add_header("Authorization", "Basic " + base64.b64encode(f"{USER}:{password}".encode()).decode())
    with urllib.request.urlopen(request, context=CONTEXT, timeout=120) as answer:
        return answer.read().decode().strip()


def refused(password: str) -> int:
    try:
        call("/manager/text/list", password=password)
    except urllib.error.HTTPError as error:
        return error.code
    return 200


class Received(stomp.ConnectionListener):
    def __init__(self) -> None:
        self.bodies: list[str] = []

    def on_message(self, frame: stomp.utils.Frame) -> None:
        self.bodies.append(frame.body)


def broker(password: str) -> stomp.Connection12:
    connection = stomp.Connection12([(ADDRESS, 61612)], timeout=30, reconnect_attempts_max=1)
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as authority:
        authority.write(CERTIFICATE)
        authority.flush()
        # This library compares no name with this setting; HTTPS does, with the same certificate.
        connection.set_ssl([(ADDRESS, 61612)], ca_certs=authority.name, ssl_version=ssl.PROTOCOL_TLS)
        connection.connect(USER, password, wait=True)
    return connection


archive = io.BytesIO()
with zipfile.ZipFile(archive, "w") as war:
    war.writestr("WEB-INF/web.xml", '<web-app xmlns="https://jakarta.ee/xml/ns/jakartaee" version="6.1"/>')
    for name, body in {"send": SEND, "receive": RECEIVE}.items():
        war.writestr(f"{name}.jsp", f"{START}    {body}{END}")
print(call("/manager/text/deploy", password=PASSWORD, data=archive.getvalue(), path="/proof", update="true"))
assert (refused(""), refused("not-" + PASSWORD)) == (401, 401)

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
