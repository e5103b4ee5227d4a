"""The certificate that an instance makes of its own, by the program of the mix-in."""

from __future__ import annotations

import datetime
import grp
import os
import pwd
import socket
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

PROGRAM = Path(__file__).parents[3] / "templates/mixins/own-certificate/files/usr/lib/slipway/certificate"


def make(folder: Path) -> str:
    owner = pwd.getpwuid(os.getuid()).pw_name
    if grp.getgrgid(os.getgid()).gr_name != owner:
        pytest.skip("the user's group has another name than the user")
    return subprocess.run(["sh", PROGRAM, folder, owner], stdout=subprocess.PIPE, text=True, check=True, timeout=60).stdout


def read(folder: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / "server.crt").read_bytes())


def test_it_is_valid_since_yesterday_as_a_clock_in_local_time_may_be_hours_ahead(tmp_path: Path) -> None:
    printed = make(tmp_path / "tls")
    made = read(tmp_path / "tls")
    now = datetime.datetime.now(datetime.UTC)
    before = now - made.not_valid_before_utc
    assert datetime.timedelta(hours=23) < before < datetime.timedelta(hours=26)
    assert made.not_valid_after_utc - now > datetime.timedelta(days=3649)
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [socket.gethostname()]
    assert printed == made.fingerprint(made.signature_hash_algorithm or pytest.fail()).hex(":").upper() + "\n"
    assert sorted(path.name for path in (tmp_path / "tls").iterdir()) == ["server.crt", "server.key"]


def test_what_is_there_stays_and_what_a_power_cut_left_half_made_is_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "tls"
    first = make(folder)
    assert make(folder) == first
    (folder / "server.crt").write_bytes(b"")
    (folder / ".new").mkdir()
    (folder / ".new/index").write_text("half")
    second = make(folder)
    assert second != first
    key = load_pem_private_key((folder / "server.key").read_bytes(), None)
    assert key.public_key() == read(folder).public_key()
    assert sorted(path.name for path in folder.iterdir()) == ["server.crt", "server.key"]
