"""The certificates that an instance makes of its own, by the program of the mix-in, with openssl
for real.
"""

from __future__ import annotations

import datetime
import grp
import importlib.machinery
import importlib.util
import ipaddress
import os
import pwd
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

PROGRAM = (
    Path(__file__).parents[3] / "templates/mixins/own-certificate/files/usr/lib/slipway/certificate"
)
OWNER = pwd.getpwuid(os.getuid()).pw_name


def load() -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("certificate", str(PROGRAM))
    spec = importlib.util.spec_from_loader("certificate", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    kept, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = kept
    return module


class Machine:
    """A machine's certificates below a folder, with names and addresses of the test's choice."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        if grp.getgrgid(os.getgid()).gr_name != OWNER:
            pytest.skip("the user's group has another name than the user")
        self.root, self.program, self.monkeypatch = root, load(), monkeypatch
        self.folder, self.state, self.log = root / "etc/own/tls", root / "state", root / "log"
        self.called("vm", "192.0.2.7")
        monkeypatch.setattr(self.program, "NAMES", root / "certificate_names")

    def called(self, *words: str) -> None:
        names = {word for word in words if not word[0].isdigit()}
        self.monkeypatch.setattr(self.program, "own_names", lambda: names)
        self.monkeypatch.setattr(self.program, "addresses", lambda: set(words) - names)

    def certificates(self, machine: str = "one") -> object:
        return self.program.Certificates(self.state, machine)

    def keep(self, machine: str = "one", *names: str) -> str:
        command = ["sh", "-c", f"echo again >>{self.log}"]
        self.certificates(machine).keep(self.folder, OWNER, names, command)  # type: ignore[attr-defined]
        return str(self.program.fingerprint(self.folder / "server.crt"))

    def renew(self, machine: str = "one") -> str:
        """Do what the timer does; return what went wrong."""
        here = self.certificates(machine)
        return "; ".join(self.program.renewed(here, record) for record in here.records())  # type: ignore[attr-defined]

    def read(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate((self.folder / "server.crt").read_bytes())

    def again(self) -> int:
        return self.log.read_text().count("again") if self.log.exists() else 0


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    umask = os.umask(0o077)  # first boot's, and the service's
    yield Machine(tmp_path, monkeypatch)
    os.umask(umask)


def names_of(certificate: x509.Certificate) -> list[str]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [
        *names.get_values_for_type(x509.DNSName),
        *map(str, names.get_values_for_type(x509.IPAddress)),
    ]


def test_it_has_the_names_that_clients_use_and_what_clients_ask_of_it(machine: Machine) -> None:
    machine.called("vm", "vm.example.org", "192.0.2.7", "2001:db8::7")
    machine.program.NAMES.write_text("www.example.org 198.51.100.1")
    printed = machine.keep("one", "Mail.example.org")
    made = machine.read()
    assert names_of(made) == [
        *("mail.example.org", "vm", "vm.example.org", "www.example.org"),
        *("192.0.2.7", "198.51.100.1", "2001:db8::7"),
    ]
    assert list(made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [
        ExtendedKeyUsageOID.SERVER_AUTH
    ]
    assert (
        printed == made.fingerprint(made.signature_hash_algorithm or pytest.fail()).hex(":").upper()
    )
    now = datetime.datetime.now(datetime.UTC)
    # Valid since yesterday: a clock in local time may be hours ahead. Clients refuse more than 398
    # days.
    assert (
        datetime.timedelta(hours=23)
        < now - made.not_valid_before_utc
        < datetime.timedelta(hours=26)
    )
    assert datetime.timedelta(days=396) < made.not_valid_after_utc - now
    assert made.not_valid_after_utc - made.not_valid_before_utc <= datetime.timedelta(days=398)
    assert sorted(path.name for path in machine.folder.iterdir()) == ["server.crt", "server.key"]
    assert [
        (machine.folder / name).stat().st_mode & 0o777
        for name in ("..", ".", "server.key", "server.crt")
    ] == [0o755, 0o755, 0o600, 0o644]
    assert [
        (machine.state / name).stat().st_mode & 0o777
        for name in (".", "authority.key", "authority.crt")
    ] == [0o755, 0o600, 0o644]


def test_a_client_that_trusts_the_authority_verifies_it_by_name_and_by_address(
    machine: Machine,
) -> None:
    machine.keep()
    for trusted in (machine.state / "authority.crt", machine.folder / "server.crt"):
        for host in ("vm", "192.0.2.7"):
            assert handshake(machine, trusted, host)
        with pytest.raises(ssl.SSLCertVerificationError, match="elsewhere"):
            handshake(machine, trusted, "elsewhere.test")


def handshake(machine: Machine, trusted: Path, host: str) -> bool:
    """Shake hands in memory with full verification."""
    client_context = ssl.create_default_context(cafile=trusted)
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(machine.folder / "server.crt", machine.folder / "server.key")
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server, server_hostname=host)
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    ends, done = [client, server], set()
    for _ in range(10):
        for end in ends:
            try:
                end.do_handshake()
                done.add(end)
            except ssl.SSLWantReadError:
                continue
    return len(done) == 2


def test_what_is_right_stays(machine: Machine) -> None:
    first = machine.keep()
    machine.called("vm")  # an address that is gone for a while is no reason
    assert machine.renew() == "" and machine.keep() == first
    assert machine.again() == 0


@pytest.mark.integration
def test_a_new_address_and_a_new_name_are_in_the_next_one_and_the_service_is_told(
    machine: Machine,
) -> None:
    first = machine.keep()
    authority = (machine.state / "authority.crt").read_bytes()
    machine.called("vm", "192.0.2.7", "192.0.2.99")
    assert machine.renew() == ""
    assert "192.0.2.99" in names_of(machine.read()) and machine.again() == 1
    machine.program.NAMES.write_text("www.example.org\n")
    assert machine.renew() == ""
    assert "www.example.org" in names_of(machine.read()) and machine.again() == 2
    assert machine.keep() != first
    assert (machine.state / "authority.crt").read_bytes() == authority


@pytest.mark.integration
def test_it_is_made_again_a_month_before_its_end(machine: Machine) -> None:
    machine.monkeypatch.setattr(machine.program, "DAYS", 31)
    first = machine.keep()
    assert machine.renew() == "" and machine.keep() == first
    machine.monkeypatch.setattr(machine.program, "LEFT_DAYS", 32)
    assert machine.renew() == "" and machine.again() == 1
    machine.monkeypatch.setattr(machine.program, "LEFT_DAYS", 30)
    assert machine.keep() != first


@pytest.mark.integration
def test_a_clone_has_another_authority_and_another_key(machine: Machine) -> None:
    machine.keep("one")
    key, authority = (
        (machine.folder / "server.key").read_bytes(),
        (machine.state / "authority.key").read_bytes(),
    )
    machine.keep("two")
    assert (machine.folder / "server.key").read_bytes() != key
    assert (machine.state / "authority.key").read_bytes() != authority
    assert handshake(machine, machine.state / "authority.crt", "vm")


@pytest.mark.integration
def test_somebodys_own_stays_and_only_its_service_reads_the_key(
    machine: Machine, tmp_path: Path
) -> None:
    machine.keep()
    other = Machine(tmp_path / "elsewhere", machine.monkeypatch)
    other.root.mkdir()
    other.keep("another")
    for name in ("server.key", "server.crt"):
        (machine.folder / name).write_bytes((other.folder / name).read_bytes())
    (machine.folder / "server.key").chmod(0o644)
    mine = machine.program.fingerprint(machine.folder / "server.crt")
    machine.called("another-name", "192.0.2.99")
    assert machine.renew() == "" and machine.again() == 1
    assert (machine.folder / "server.key").stat().st_mode & 0o777 == 0o600
    assert machine.renew() == "" and machine.again() == 1
    assert machine.keep() == mine


@pytest.mark.integration
def test_a_pair_is_installed_and_one_that_is_none_is_refused(
    machine: Machine, tmp_path: Path
) -> None:
    first = machine.keep()
    other = Machine(tmp_path / "elsewhere", machine.monkeypatch)
    other.root.mkdir()
    theirs = other.keep("another")
    key, certificate = other.folder / "server.key", other.folder / "server.crt"
    here = machine.certificates()
    with pytest.raises(
        machine.program.Refused,
        match="are no pair of a key without a passphrase and its certificate",
    ):
        here.install(machine.folder / "server.key", certificate)  # type: ignore[attr-defined]
    assert machine.keep() == first
    here.install(key, certificate)  # type: ignore[attr-defined]
    assert machine.keep() == theirs and machine.again() == 1
    assert machine.renew() == "" and machine.keep() == theirs


@pytest.mark.integration
@pytest.mark.parametrize("cut", range(1, 9))
def test_a_power_cut_leaves_a_pair_or_both_are_made_again(machine: Machine, cut: int) -> None:
    machine.keep()
    machine.called("vm", "192.0.2.99")
    puts, put = iter(range(1, 100)), machine.program.put

    def cut_off(*words: object) -> None:
        if next(puts) == cut:
            raise OSError("the power is cut")
        put(*words)

    machine.monkeypatch.setattr(machine.program, "put", cut_off)
    machine.renew("two")  # everything is made again: authority and pair
    machine.monkeypatch.setattr(machine.program, "put", put)
    assert machine.renew("two") == ""
    key = load_pem_private_key((machine.folder / "server.key").read_bytes(), None)
    assert key.public_key() == machine.read().public_key()
    assert "192.0.2.99" in names_of(machine.read())
    assert handshake(machine, machine.state / "authority.crt", "vm")
    assert [path.name for path in machine.folder.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize(
    "word",
    [
        "-x.example",
        "a..b",
        "a_b",
        "x" * 64,
        "1.2.3.4/24",
        "*",
        "a,DNS:b",
        "ä.example",
        "/",
        "$(id)",
    ],
)
def test_what_is_neither_a_name_nor_an_address_is_refused_with_the_parameters_name(
    machine: Machine, word: str
) -> None:
    machine.program.NAMES.write_text(f"www.example.org {word}")
    with pytest.raises(machine.program.Refused) as caught:
        machine.keep()
    assert str(caught.value) == f"certificate_names: {word!r} is neither a name nor an address"


def test_the_machines_addresses_are_those_that_others_reach_it_by() -> None:
    for address in load().addresses():
        assert (
            not ipaddress.ip_address(address).is_loopback
            and not ipaddress.ip_address(address).is_link_local
        )


def test_the_program_says_what_it_wants() -> None:
    ended = subprocess.run(
        [sys.executable, "-I", PROGRAM, "/nowhere"], capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 2 and ended.stderr.endswith(
        "error: name a folder and the user that reads it\n"
    )
