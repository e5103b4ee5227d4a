#!/usr/bin/env python3
# timeout: 400
"""Whoever has no password reaches no phone and takes no port, however it asks.

Guessers are shut out, an office is not.

Phones of our own speak SIP (RFC 3261) here: what each of them got is what is asserted. They also
call across IP versions, are heard through the relay alone, and without the relay there is no call.
"""

import contextlib
import hashlib
import ipaddress
import os
import queue
import re
import secrets
import shlex
import socket
import struct
import subprocess
import threading
import time

from slipway_check import PATIENCE

ADDRESS, HERE = os.environ["SLIPWAY_ADDRESS"], os.environ["SLIPWAY_GATEWAY"]
DEVICE, DOMAIN = os.environ["SLIPWAY_INTERFACE"], os.environ["SLIPWAY_PARAMETER_SIP_DOMAIN"]
SERVER6, HERE6 = "2001:db8:77::2", "2001:db8:77::1"
NETWORK = ipaddress.ip_network(f"{HERE}/24", strict=False)
STRANGER, GUESSER, OFFICE, THIRD = (str(NETWORK[number]) for number in (201, 202, 203, 204))
ssh = shlex.split(os.environ["SLIPWAY_SSH"])


def on_server(command: str) -> str:
    return subprocess.run(
        [*ssh, command], check=True, capture_output=True, text=True, timeout=60 * PATIENCE
    ).stdout.strip()


def md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def digest(challenge: str, method: str, uri: str, name: str, password: str, count: int = 1) -> str:
    """Answer a challenge (RFC 7616, with qop=auth)."""
    found = dict(re.findall(r'(\w+)="?([^",]+)"?', challenge))
    assert found.get("qop") == "auth", f"a challenge without qop: {challenge}"
    fresh, nc = secrets.token_hex(4), f"{count:08x}"
    mine = md5(f"{name}:{found['realm']}:{password}")
    proof = md5(f"{mine}:{found['nonce']}:{nc}:{fresh}:auth:{md5(f'{method}:{uri}')}")
    return (
        f'Digest username="{name}", realm="{found["realm"]}", nonce="{found["nonce"]}", '
        f'uri="{uri}", qop=auth, nc={nc}, cnonce="{fresh}", response="{proof}"'
    )


class Message:
    """What came: the first line, the headers, the body."""

    def __init__(self, text: str) -> None:
        head, _, self.body = text.partition("\r\n\r\n")
        self.first, *lines = head.split("\r\n")
        self.lines = [line.partition(":")[::2] for line in lines]

    def all(self, name: str) -> list[str]:
        return [value.strip() for key, value in self.lines if key.strip().lower() == name]

    def __getitem__(self, name: str) -> str:
        return (self.all(name) or [""])[0]

    @property
    def code(self) -> int:
        return int(self.first.split()[1]) if self.first.startswith("SIP/") else 0


class Phone:
    """A phone at an address of this side.

    It answers what it is asked, and remembers it in `asked`.
    """

    def __init__(
        self, name: str, password: str = "", here: str = HERE, server: str = ADDRESS
    ) -> None:
        self.name, self.password = name, password
        self.socket = socket.socket(
            socket.AF_INET6 if ":" in here else socket.AF_INET, socket.SOCK_DGRAM
        )
        self.socket.bind((here, 0))
        self.port = self.socket.getsockname()[1]
        self.host = f"[{here}]" if ":" in here else here
        self.here, self.server = here, (server, 5060)
        self.media = socket.socket(self.socket.family, socket.SOCK_DGRAM)
        self.media.bind((here, 0))
        self.media.settimeout(0.3)
        self.asked: list[Message] = []
        self.only_rings = False
        self.answers: queue.Queue[Message] = queue.Queue()
        self.tag = secrets.token_hex(4)
        threading.Thread(target=self._listen, daemon=True).start()

    def sdp(self) -> str:
        return (
            f"v=0\r\no=- 1 1 IN IP{6 if ':' in self.here else 4} {self.here}\r\ns=-\r\n"
            f"c=IN IP{6 if ':' in self.here else 4} {self.here}\r\nt=0 0\r\n"
            f"m=audio {self.media.getsockname()[1]} RTP/AVP 0\r\na=sendrecv\r\n"
        )

    def _listen(self) -> None:
        while True:
            with contextlib.suppress(UnicodeDecodeError, OSError):
                data = self.socket.recvfrom(65535)[0]
                if data.strip():
                    self._take(Message(data.decode()))

    def _take(self, message: Message) -> None:
        if message.code:
            self.answers.put(message)
            return
        again = any(
            all(message[name] == earlier[name] for name in ("via", "cseq"))
            for earlier in self.asked
        )
        if not again and "sip:keepalive@" not in message["from"]:
            self.asked.append(message)
        if message.first.startswith("ACK"):
            return
        to = message["to"] if "tag=" in message["to"] else f"{message['to']};tag={self.tag}"
        lines = [f"Via: {via}" for via in message.all("via")] + [
            f"Record-Route: {way}" for way in message.all("record-route")
        ]
        lines += [
            f"From: {message['from']}",
            f"To: {to}",
            f"Call-ID: {message['call-id']}",
            f"CSeq: {message['cseq']}",
        ]
        lines.append(f"Contact: <sip:{self.name}@{self.host}:{self.port}>")
        body = self.sdp() if message.first.startswith("INVITE") else ""
        ringing = self.only_rings and message.first.startswith("INVITE")
        self._send(
            "SIP/2.0 180 Ringing" if ringing else "SIP/2.0 200 OK", lines, "" if ringing else body
        )

    def _send(self, first: str, lines: list[str], body: str = "") -> None:
        if body:
            lines = [*lines, "Content-Type: application/sdp"]
        text = "\r\n".join([first, *lines, f"Content-Length: {len(body)}", "", body])
        self.socket.sendto(text.encode(), self.server)

    def request(
        self, method: str, uri: str, to: str, call: str, *more: str, number: int = 1, body: str = ""
    ) -> None:
        """Send a request, once."""
        via = f"Via: SIP/2.0/UDP {self.host}:{self.port};rport;branch=z9hG4bK{secrets.token_hex(8)}"
        lines = [
            via,
            f"From: <sip:{self.name}@{DOMAIN}>;tag={self.tag}",
            f"To: {to}",
            f"Call-ID: {call}",
            f"CSeq: {number} {method}",
        ]
        lines += [f"Contact: <sip:{self.name}@{self.host}:{self.port}>", "Max-Forwards: 20", *more]
        self._send(f"{method} {uri} SIP/2.0", lines, body)

    def answer(self, timeout: float = 8.0, call: str = "") -> Message | None:
        """The next final answer, of one call if it is named, or None."""
        until = time.monotonic() + timeout
        while (left := until - time.monotonic()) > 0:
            with contextlib.suppress(queue.Empty):
                found = self.answers.get(timeout=left)
                if found.code >= 200 and call in ("", found["call-id"]):
                    return found
        return None

    def ask(
        self,
        method: str,
        uri: str,
        to: str,
        call: str = "",
        *more: str,
        body: str = "",
        timeout: float = 8.0,
    ) -> Message | None:
        """Ask, with the password where it is asked for, and return the final answer."""
        call = call or secrets.token_hex(8)
        self.request(method, uri, to, call, *more, body=body)
        got = self.answer(timeout, call)
        if got and got.code in (401, 407):
            self.request("ACK", uri, got["to"], call) if method == "INVITE" else None
            header = "Authorization" if got.code == 401 else "Proxy-Authorization"
            challenge = got["www-authenticate"] or got["proxy-authenticate"]
            credentials = f"{header}: {digest(challenge, method, uri, self.name, self.password)}"
            self.request(method, uri, to, call, *more, credentials, number=2, body=body)
            got = self.answer(timeout, call)
        return got

    def register(self, *more: str, timeout: float = 8.0) -> int:
        me = f"<sip:{self.name}@{DOMAIN}>"
        got = self.ask("REGISTER", f"sip:{DOMAIN}", me, "", "Expires: 600", *more, timeout=timeout)
        return got.code if got else 0

    def call(self, other: str) -> "Call":
        call = secrets.token_hex(8)
        uri = f"sip:{other}@{DOMAIN}"
        got = self.ask("INVITE", uri, f"<{uri}>", call, body=self.sdp(), timeout=15)
        return Call(self, call, got)

    def close(self) -> None:
        self.socket.close()


class Call:
    """A call that a phone made: what it may say within it."""

    def __init__(self, phone: Phone, call: str, got: Message | None) -> None:
        self.phone, self.id, self.got, self.code = phone, call, got, got.code if got else 0
        if got and self.code == 200:
            self.routes = [f"Route: {way}" for way in reversed(got.all("record-route"))]
            self.contact = re.findall(r"<(.+?)>", got["contact"])[0]
            self.number = 2
            self.say("ACK")

    def say(
        self,
        method: str,
        uri: str = "",
        by: Phone | None = None,
        body: str = "",
        routes: list[str] | None = None,
    ) -> None:
        if method != "ACK":
            self.number += 1
        assert self.got
        lines = self.routes if routes is None else routes
        sender = by or self.phone
        tag, name, sender.tag, sender.name = (
            sender.tag,
            sender.name,
            self.phone.tag,
            self.phone.name,
        )
        sender.request(
            method,
            uri or self.contact,
            self.got["to"],
            self.id,
            *lines,
            number=self.number,
            body=body,
        )
        sender.tag, sender.name = tag, name

    def media(self) -> tuple[str, int]:
        """Where the caller is to send its audio."""
        assert self.got
        return re.findall(r"c=IN IP\d (\S+)", self.got.body)[0], int(
            re.findall(r"m=audio (\d+)", self.got.body)[0]
        )


def count(phone: Phone, method: str) -> int:
    return sum(message.first.startswith(f"{method} ") for message in phone.asked)


def wait_for(what: str, true: object, seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while not true():  # type: ignore[operator]
        assert time.monotonic() < until, what
        time.sleep(0.2)


def relay_ports() -> int:
    return len(on_server("ss -Hlnu 'sport >= :30000 and sport <= :30999'").splitlines())


def add(name: str) -> str:
    with contextlib.suppress(subprocess.CalledProcessError):
        on_server(f"phone remove {name}")
    return on_server(f"phone add {name}")


def strangers(alice: Phone, bob: Phone) -> None:
    """No way in without a password: with a made-up tag, routes, the ids of a call of others."""
    victim, stranger = Phone("victim", here=THIRD), Phone("stranger", here=STRANGER)
    before, ports = len(bob.asked), relay_ports()
    target = f"sip:victim@{victim.host}:{victim.port}"
    server = f"Route: <sip:{ADDRESS};lr>"
    for method in (
        "INVITE",
        "MESSAGE",
        "SUBSCRIBE",
        "NOTIFY",
        "BYE",
        "UPDATE",
        "INFO",
        "OPTIONS",
        "REFER",
        "PRACK",
        "PUBLISH",
        "ACK",
    ):
        for uri in (target, f"sip:bob@{DOMAIN}", f"sip:bob@{bob.host}:{bob.port}"):
            for tag in ("", ";tag=123"):
                for routes in (
                    [server],
                    [server, f"Route: <{target};lr>"],
                    [],
                    [f"Route: <sip:{ADDRESS};lr;did=1.1;ftag=1>"],
                ):
                    stranger.request(
                        method,
                        uri,
                        f"<{uri}>{tag}",
                        secrets.token_hex(8),
                        *routes,
                        body=stranger.sdp(),
                    )
                    if method != "ACK":
                        got = stranger.answer()
                        assert got and got.code in (401, 407, 481), (
                            f"{method} {uri} {tag} {routes}: {got and got.first}"
                        )
    assert relay_ports() == ports, "a stranger's offers hold ports of the relay"
    call = alice.call("bob")
    assert call.code == 200, call.got and call.got.first
    wait_for("bob got no ACK", lambda: count(bob, "ACK") == 1)
    call.say("BYE", by=stranger)
    got = stranger.answer()
    assert got and got.code == 407, f"a BYE with a call's ids, from elsewhere: {got and got.first}"
    further = [*call.routes, f"Route: <{target};lr>"]
    for uri, routes in (
        (target, call.routes),
        (target, further),
        (call.contact.partition(";")[0], further),
    ):
        call.say("INFO", uri, routes=routes)
        got = alice.answer()
        assert got and got.code == 403, f"out of a call to {uri}: {got and got.first}"
    call.say("INFO")
    got = alice.answer()
    assert got and got.code == 200, f"within a call: {got and got.first}"
    call.say("BYE")
    got = alice.answer()
    assert got and got.code == 200, f"BYE: {got and got.first}"
    methods = [message.first.split()[0] for message in bob.asked[before:]]
    assert methods == ["INVITE", "ACK", "INFO", "BYE"], f"bob got {methods}"
    assert not victim.asked, f"a third got {[message.first for message in victim.asked]}"
    spoof = alice.ask(
        "MESSAGE",
        f"sip:bob@{DOMAIN}",
        f"<sip:bob@{DOMAIN}>",
        "",
        "P-Asserted-Identity: <sip:boss@elsewhere.test>",
    )
    assert spoof and spoof.code == 200 and not bob.asked[-1]["p-asserted-identity"], (
        "a phone claims to be another"
    )
    print("strangers: nothing let through; within a call only the two of it")


def guessing(secret: str) -> None:
    """More than ten wrong passwords: not answered, but for a phone that is known there, and only
    there.
    """
    known = Phone("alice", secret, here=GUESSER)
    assert known.register() == 200
    guesser = Phone("bob", "wrong-password-1", here=GUESSER)
    codes = [guesser.register(timeout=3) for _ in range(13)]
    assert codes[:11] == [403] * 11 and codes[-1] == 0, f"13 wrong passwords: {codes}"
    guesser.name, guesser.password = "carol", secret
    assert guesser.register(timeout=3) == 0, "a guesser may go on with other names"
    assert known.register() == 200, "a phone that is known there is shut out with the guesser"
    elsewhere = Phone("alice", secret, here=OFFICE)
    assert elsewhere.register() == 200, "another address is shut out with the guesser"
    print("guesser: answered 11 times, then no more")


def replay(secret: str) -> None:
    """An answer to a challenge, sent again, is refused, as is one that was meant for another
    address.
    """
    phone, sniffer = Phone("alice", secret, here=OFFICE), Phone("alice", here=THIRD)
    me, uri = f"<sip:alice@{DOMAIN}>", f"sip:{DOMAIN}"
    phone.request("REGISTER", uri, me, "one")
    got = phone.answer()
    assert got and got.code == 401
    credentials = (
        f"Authorization: {digest(got['www-authenticate'], 'REGISTER', uri, 'alice', secret)}"
    )
    for sender, code in ((phone, 200), (phone, 401), (sniffer, 401)):
        sender.request("REGISTER", uri, me, "one", credentials, number=2)
        got = sender.answer()
        assert got and got.code == code, f"{sender.here}: {got and got.first} instead of {code}"
    assert "stale=true" in got["www-authenticate"].lower(), (
        "an old answer counts as a wrong password"
    )
    phone.request("REGISTER", uri, me, "two")
    got = phone.answer()
    assert got and got.code == 401
    credentials = (
        f"Authorization: {digest(got['www-authenticate'], 'REGISTER', uri, 'alice', secret)}"
    )
    sniffer.request("REGISTER", uri, me, "two", credentials, number=2)
    got = sniffer.answer()
    assert got and got.code == 401, f"from another address: {got and got.first}"


def office(secret: str) -> None:
    """An office comes back at once: 300 requests in a moment, and its phones are answered."""
    phones = [Phone("dora", secret, here=OFFICE) for _ in range(4)]
    for number in range(300):
        phones[0].request("REGISTER", f"sip:{DOMAIN}", f"<sip:dora@{DOMAIN}>", f"burst-{number}")
    # As phones do that hear nothing: ask again. A slow machine takes seconds for the 300.
    assert all(any(phone.register() == 200 for _ in range(8)) for phone in phones[1:]), (
        "an office is shut out"
    )


def hear(call: Call, callee: Phone, injected: bool) -> None:
    """Send audio both ways; each hears the other, and nobody hears a third."""
    caller, (host, port) = call.phone, call.media()
    offered = next(
        message.body for message in reversed(callee.asked) if message.first.startswith("INVITE")
    )
    there = (
        re.findall(r"c=IN IP\d (\S+)", offered)[0],
        int(re.findall(r"m=audio (\d+)", offered)[0]),
    )
    assert host != callee.here and there[0] != caller.here, "the audio goes past the relay"
    heard = {caller: set(), callee: set()}
    third = socket.socket(caller.media.family, socket.SOCK_DGRAM)
    for number in range(250):
        for phone, target, mark in (
            (caller, (host, port), b"a" * 160),
            (callee, there, b"b" * 160),
        ):
            phone.media.sendto(
                struct.pack("!BBHII", 0x80, 0, number, number * 160, len(mark) + ord(mark[:1]))
                + mark,
                target,
            )
        if injected and number > 200:
            third.sendto(
                struct.pack("!BBHII", 0x80, 0, number, number * 160, 7) + b"c" * 160, (host, port)
            )
        time.sleep(0.02)
    for phone, marks in heard.items():
        with contextlib.suppress(TimeoutError):
            while packet := phone.media.recv(2000):
                marks.add(packet[12:13])
    assert heard[caller] == {b"b"} and heard[callee] == {b"a"}, (
        f"heard: { {phone.name: marks for phone, marks in heard.items()} }"
    )


def versions(alice: Phone, bob: Phone, secret: str) -> None:
    """An address that comes later is listened on.

    Phones of both versions of IP call each other, also where both ring.
    """
    device = on_server("ip -o route get " + HERE).split(" dev ")[1].split()[0]
    on_server(f"ip address replace {SERVER6}/64 dev {device}")
    subprocess.run(["ip", "address", "replace", f"{HERE6}/64", "dev", DEVICE, "nodad"], check=True)
    wait_for("not on IPv6", lambda: f"[{SERVER6}]:5060" in on_server("ss -Hlnu"), 60)
    carol = Phone("carol", secret, here=HERE6, server=SERVER6)
    wait_for("no registration by IPv6", lambda: carol.register() == 200, 60)
    desk = Phone("carol", secret)
    desk.only_rings = True
    assert desk.register() == 200
    for caller, callee in ((alice, carol), (carol, bob)):
        call = caller.call(callee.name)
        assert call.code == 200, f"{caller.host} to {callee.host}: {call.got and call.got.first}"
        hear(call, callee, injected=False)
        call.say("BYE")
        wait_for("no BYE", lambda callee=callee: count(callee, "BYE") > 0)
    assert count(desk, "INVITE") == 1, [message.first for message in desk.asked]
    print("IPv4 and IPv6 hear each other")


def without_relay(alice: Phone) -> None:
    """No relay, no call; when it is back, there are calls again. It comes back by itself."""
    process = on_server("pgrep -x rtpengine | head -n 1")
    on_server(f"kill -STOP {process}")
    try:
        call = alice.call("bob")
        assert call.code == 503, f"without the relay: {call.got and call.got.first}"
    finally:
        on_server(f"kill -KILL {process}")

    def works() -> bool:
        call = alice.call("bob")
        if call.code == 200:
            call.say("BYE")
            alice.answer()
        return call.code == 200

    wait_for("no calls after the relay died", works, 60)
    print("without the relay: 503, and calls again when it is back")


def late(alice: Phone) -> None:
    """Started without an address, which comes half a minute later: phones that were registered are
    called again.
    """
    device = on_server("ip -o route get " + HERE).split(" dev ")[1].split()[0]
    parts = (
        "sleep 2",
        f"ip -4 address flush dev {device} scope global",
        "systemctl restart --no-block rtpengine-daemon kamailio",
        "sleep 25",
        f"networkctl reconfigure {device}",
    )
    on_server(f"systemd-run --collect sh -c '{'; '.join(parts)}'")
    time.sleep(20)
    assert alice.ask("OPTIONS", f"sip:{ADDRESS}", f"<sip:{ADDRESS}>", timeout=2) is None, (
        "it answers without an address"
    )

    def answers() -> bool:
        got = alice.ask("MESSAGE", f"sip:bob@{DOMAIN}", f"<sip:bob@{DOMAIN}>", timeout=3)
        return got is not None and got.code == 200

    wait_for("nothing works after the address came late", answers, 90)
    print("the address came late, and phones are called")


def removed(alice: Phone) -> None:
    """A phone that is removed is called no more, at once."""
    on_server("phone remove bob")
    got = alice.ask("MESSAGE", f"sip:bob@{DOMAIN}", f"<sip:bob@{DOMAIN}>")
    assert got and got.code == 480, f"a phone that was removed: {got and got.first}"


for extra in (STRANGER, GUESSER, OFFICE, THIRD):
    subprocess.run(
        ["ip", "address", "replace", f"{extra}/{NETWORK.prefixlen}", "dev", DEVICE], check=True
    )
words = {name: add(name) for name in ("alice", "bob", "carol", "dora")}
chosen = f"{secrets.token_hex(8)} & $(id) 'x'"
on_server("phone remove bob")
subprocess.run(
    [*ssh, "phone add bob -"],
    input=f"{chosen}\n",
    check=True,
    text=True,
    capture_output=True,
    timeout=60 * PATIENCE,
)
alice, bob = Phone("alice", words["alice"]), Phone("bob", chosen)
assert (alice.register(), bob.register()) == (200, 200)
strangers(alice, bob)
call = alice.call("bob")
hear(call, bob, injected=True)
call.say("BYE")
replay(words["alice"])
office(words["dora"])
guessing(words["alice"])
without_relay(alice)
versions(alice, bob, words["carol"])
late(alice)
removed(alice)
