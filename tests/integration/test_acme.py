"""Certificates from an ACME server: the mix-in's programs, uacme and Pebble (Let's Encrypt's test
server), on loopback.

All of it runs in namespaces of its own, so the paths are the guest's, the ports are 80, 402 and
14000, and nothing stays.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509

from real_tools import need
from web_server import certificate

LIBRARY = Path(__file__).parents[2] / "templates/mixins/own-certificate/files/usr/lib/slipway"
DIRECTORY = "https://127.0.0.1:14000/dir"
NAME = "www.example.test"
#: What runs first: places for the guest's paths, and its own network and host name.
SETUP = """\
set -eu
ip link set lo up
hostname vm
mount -t tmpfs none /var/lib
mount -t tmpfs none /run
mkdir -p /var/lib/slipway/parameters /var/lib/slipway-acme
mount --bind "$1/trusted.pem" /etc/ssl/certs/ca-certificates.crt
mount --bind "$1/machine-id" /etc/machine-id
echo ready
exec sleep 900
"""


class Machine:
    """A machine with the mix-in's programs, and Pebble beside it."""

    def __init__(self, root: Path, pid: int) -> None:
        self.root, self.pid = root, pid

    def run(self, *words: str | Path, ok: bool = True) -> subprocess.CompletedProcess[str]:
        inside = ["nsenter", "-t", str(self.pid), "-U", "-m", "-n", "-u", "--preserve-credentials"]
        ended = subprocess.run(
            [*inside, *words], capture_output=True, text=True, timeout=200, stdin=subprocess.DEVNULL
        )
        assert not ok or ended.returncode == 0, ended.stderr
        return ended

    def start(self, *words: str | Path, **environment: str) -> subprocess.Popen[bytes]:
        inside = [
            "nsenter",
            "-t",
            str(self.pid),
            "-U",
            "-m",
            "-n",
            "-u",
            "--preserve-credentials",
            "env",
        ]
        with (self.root / "log").open("ab") as log:
            more = [f"{name}={value}" for name, value in environment.items()]
            return subprocess.Popen(
                [*inside, *more, *words], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def give(self, **parameters: str) -> None:
        for name, value in parameters.items():
            self.run(
                "sh", "-c", 'printf %s "$1" >"/var/lib/slipway/parameters/$2"', "sh", value, name
            )

    def read(self, path: str) -> str:
        return self.run("cat", path).stdout

    def acme(self, mode: str, *clock: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a mode of the program; with a shift, as ``+2h``, for another time."""
        shifted = ["faketime", "-f", *clock] if clock else []
        return self.run(*shifted, LIBRARY / "acme", f"--{mode}", ok=ok)

    def turn(self, *clock: str) -> subprocess.CompletedProcess[str]:
        """Do what the units do in one turn; return what was said about the answer."""
        self.acme("due", *clock)
        print(self.acme("ask", ok=False).stderr)  # shown if the test fails
        taken = self.acme("take", *clock, ok=False)
        print(taken.stdout, taken.stderr)
        self.run(LIBRARY / "certificate", "--renew")
        return taken

    def keep(self) -> str:
        """Do what first boot does; return the fingerprint."""
        command = ("--", "sh", "-c", "echo told >>/var/lib/told")
        return self.run(LIBRARY / "certificate", "/var/lib/tls", "root", *command).stdout.strip()

    def names(self) -> list[str]:
        """Return the names of the certificate in use, whose key is there."""
        of_both = (
            "openssl x509 -in server.crt -noout -pubkey >/run/a; openssl pkey -in server.key "
            "-pubout | cmp - /run/a"
        )
        self.run("sh", "-c", f"cd /var/lib/tls; {of_both}")
        made = x509.load_pem_x509_certificate(self.read("/var/lib/tls/server.crt").encode())
        names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return names.get_values_for_type(x509.DNSName)

    def told(self) -> bool:
        """Tell whether the service has been told of another certificate."""
        return self.run("test", "-s", "/var/lib/told", ok=False).returncode == 0

    @contextmanager
    def server(self) -> Iterator[None]:
        """Pebble, and a DNS server by which every name leads here."""
        only_dns = (
            "-http01",
            "",
            "-https01",
            "",
            "-tlsalpn01",
            "",
            "-dns01",
            "127.0.0.1:8053",
            "-management",
            "127.0.0.1:8055",
        )
        started = [
            self.start("pebble-challtestsrv", *only_dns, "-defaultIPv6", ""),
            self.start(
                "pebble",
                "-config",
                self.root / "pebble.json",
                "-dnsserver",
                "127.0.0.1:8053",
                PEBBLE_VA_NOSLEEP="1",
                PEBBLE_WFE_NONCEREJECT="0",
            ),
        ]
        try:
            self.wait_for(14000)
            yield
        finally:
            for process in started:
                process.terminate()
                process.wait(timeout=20)

    def wait_for(self, port: int) -> None:
        until = time.monotonic() + 30
        while f":{port} " not in self.run("ss", "-Hltn").stdout:
            assert time.monotonic() < until, (self.root / "log").read_text()
            time.sleep(0.1)


def stop(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait(timeout=20)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    need(
        "pebble", "pebble-challtestsrv", "uacme", "faketime", "openssl", "unshare", "nsenter", "ip"
    )
    both = certificate(tmp_path).read_text()
    (tmp_path / "server.pem").write_text(both)
    (tmp_path / "trusted.pem").write_text(
        "-----BEGIN CERTIFICATE-----"
        + both.partition("-----BEGIN CERTIFICATE-----")[2].partition("-----BEGIN")[0]
    )
    (tmp_path / "machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    settings = {
        "listenAddress": "127.0.0.1:14000",
        "managementListenAddress": "127.0.0.1:15000",
        "certificate": str(tmp_path / "server.pem"),
        "privateKey": str(tmp_path / "server.pem"),
        "httpPort": 80,
        "tlsPort": 443,
        "certificateValidityPeriod": 43200,
    }
    (tmp_path / "pebble.json").write_text(json.dumps({"pebble": settings}))
    spaces = [
        "unshare",
        "--map-root-user",
        "--mount",
        "--net",
        "--uts",
        "sh",
        "-c",
        SETUP,
        "sh",
        str(tmp_path),
    ]
    with subprocess.Popen(spaces, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            assert process.stdout.readline() == "ready\n"
            made = Machine(tmp_path, process.pid)
            made.give(
                certificate_names=NAME, acme_directory=DIRECTORY, acme_email="admin@example.test"
            )
            yield made
        finally:
            process.kill()


def test_it_is_got_used_renewed_and_given_up(machine: Machine) -> None:
    own = machine.keep()
    with machine.server():
        taken = machine.turn()
        assert taken.stdout == f"acme: a certificate of {DIRECTORY} for {NAME}\n"
        assert machine.names() == [NAME] and machine.told()
        first = machine.keep()
        assert first != own
        assert ":80 " not in machine.run("ss", "-Hltn").stdout
        key = machine.run(
            "sh", "-c", "sha256sum /var/lib/slipway-acme/account-*/private/key.pem"
        ).stdout
        assert machine.acme("due", ok=False).returncode == 1  # nothing to do
        assert machine.acme("due", "+470m", ok=False).returncode == 1
        machine.turn("+490m")  # two thirds of twelve hours
        assert machine.names() == [NAME] and machine.keep() not in (own, first)
        assert (
            machine.run(
                "sh", "-c", "sha256sum /var/lib/slipway-acme/account-*/private/key.pem"
            ).stdout
            == key
        )
        assert (machine.root / "log").read_text().count("There are now 1 accounts in memory") == 1
    machine.give(acme_directory="")
    machine.run(LIBRARY / "certificate", "--renew")
    assert sorted(machine.names()) == ["vm", NAME]


def test_a_server_that_is_down_is_said_and_asked_again_later_and_later(machine: Machine) -> None:
    own = machine.keep()
    # In the middle stand curl's own words, which differ from version to version.
    failed = f"acme: no certificate from {DIRECTORY}: .+; failed to fetch directory at {DIRECTORY}"
    said = failed + r" \(next try: "
    for shift, hours in (("+0", 1), ("+2h", 2)):
        assert re.search(said, machine.turn(shift).stderr)
        assert json.loads(machine.read("/var/lib/slipway/certificates/acme/state.json"))["error"]
        assert re.match(said, machine.read("/run/issue.d/65-acme.issue"))
        assert machine.keep() == own and not machine.told()
        begun = int(shift.strip("+h"))
        assert machine.acme("due", f"+{(begun + hours) * 60 - 2}m", ok=False).returncode == 1
    with machine.server():
        assert machine.turn("+5h").stdout == f"acme: a certificate of {DIRECTORY} for {NAME}\n"
    assert machine.read("/run/issue.d/65-acme.issue") == ""


@pytest.mark.nightly
def test_a_wrong_directory_is_said_and_a_right_one_is_asked_at_once(machine: Machine) -> None:
    own = machine.keep()
    wrong = "https://127.0.0.1:14000/nothing"
    machine.give(acme_directory=wrong)
    with machine.server():
        assert (
            f"acme: no certificate from {wrong}: failed to fetch directory at {wrong} (next try: "
            in machine.turn().stderr
        )
        assert machine.keep() == own
        machine.give(acme_directory=DIRECTORY)
        assert machine.turn().returncode == 0
    assert machine.names() == [NAME]


@pytest.mark.nightly
@pytest.mark.parametrize("passes", [True, False])
def test_a_web_server_of_the_machines_own_passes_challenges_on(
    machine: Machine, passes: bool
) -> None:
    own = machine.keep()
    web = machine.start("python3", "-c", PASSING if passes else DEAF)
    try:
        machine.wait_for(80)
        with machine.server():
            taken = machine.turn()
    finally:
        stop(web)
    if passes:
        assert machine.names() == [NAME]
    else:
        assert (
            "Non-200 status code from HTTP: http://www.example.test:80/.well-known/acme-challenge/"
            in taken.stderr
        )
        assert machine.keep() == own


DEAF = "import http.server as h; h.HTTPServer(('', 80), h.BaseHTTPRequestHandler).serve_forever()"
PASSING = """\
import http.server, urllib.request
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        with urllib.request.urlopen("http://127.0.0.1:402" + self.path) as answer:
            content = answer.read()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(content)
http.server.HTTPServer(("", 80), Handler).serve_forever()
"""


def test_a_clone_uses_nothing_of_the_first_one(machine: Machine) -> None:
    machine.keep()
    with machine.server():
        machine.turn()
        first, key = machine.keep(), machine.read("/var/lib/tls/server.key")
        account = machine.run(
            "sh", "-c", "cat /var/lib/slipway-acme/account-*/private/key.pem"
        ).stdout
        (machine.root / "machine-id").write_text("f" * 32 + "\n")
        assert machine.keep() != first
        assert machine.read("/var/lib/tls/server.key") != key
        assert machine.run("find", "/var/lib/slipway", "-name", "acme").stdout == ""
        assert machine.turn().returncode == 0
        assert (
            machine.run("sh", "-c", "cat /var/lib/slipway-acme/account-*/private/key.pem").stdout
            != account
        )
    assert machine.names() == [NAME] and machine.keep() != first


def test_where_somebody_has_put_a_pair_none_is_asked_for(machine: Machine) -> None:
    machine.keep()
    words = (
        "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=theirs -keyout /run/key -out "
        "/run/crt 2>/dev/null"
    )
    machine.run("sh", "-c", words)
    machine.run(LIBRARY / "certificate", "--install", "/run/key", "/run/crt")
    theirs = machine.keep()
    assert machine.acme("due", ok=False).returncode == 1
    machine.run(LIBRARY / "certificate", "--renew")
    assert machine.keep() == theirs


def test_an_answer_for_another_key_is_refused(machine: Machine) -> None:
    own = machine.keep()
    machine.acme("due")
    other = (
        "openssl req -x509 -newkey rsa:2048 -nodes -subj / -keyout /run/key -out "
        "/var/lib/slipway-acme/answer.pem"
    )
    machine.run("sh", "-c", f"{other} -addext subjectAltName=DNS:{NAME} 2>/dev/null")
    assert (
        f"acme: no certificate from {DIRECTORY}: it answered with another certificate: "
        in machine.acme("take", ok=False).stderr
    )
    machine.run(LIBRARY / "certificate", "--renew")
    assert machine.keep() == own


def test_without_a_name_that_has_a_domain_that_is_said(machine: Machine) -> None:
    machine.give(certificate_names="192.0.2.7")
    machine.keep()
    assert machine.acme("due", ok=False).returncode == 1
    expected = "no name with a domain to ask for: certificate_names has none, nor has this machine"
    assert (
        machine.read("/run/issue.d/65-acme.issue")
        == f"acme: no certificate from {DIRECTORY}: {expected}\n"
    )


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (
            {"acme_directory": "http://ca.example.test/"},
            "acme_directory: must be the https:// address of an ACME server's directory, or empty",
        ),
        (
            {"acme_directory": "https://ca.example.test/a b"},
            "acme_directory: must be the https:// address of an ACME server's directory, or empty",
        ),
        (
            {"acme_email": "-x@example.test"},
            "acme_email: must be an address of electronic mail, or empty",
        ),
        (
            {"certificate_names": "*.example.test"},
            (
                "certificate_names: '*.example.test' would need a challenge by DNS; "
                "with acme_directory, write each name"
            ),
        ),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_made(
    machine: Machine, parameters: dict[str, str], message: str
) -> None:
    machine.give(**parameters)
    ended = machine.acme("check", ok=False)
    assert (ended.returncode, ended.stderr) == (1, f"acme: {message}\n")


def test_what_it_is_given_by_default_is_accepted_and_asks_nobody(machine: Machine) -> None:
    machine.give(certificate_names="*.example.test", acme_directory="", acme_email="")
    machine.acme("check")
    machine.keep()
    assert machine.acme("due", ok=False).returncode == 1
    assert machine.run("ls", "/var/lib/slipway-acme").stdout == ""
