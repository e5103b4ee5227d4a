"""Seeds: which bytes they are, what is refused, and what is kept."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from example_release import write_release_folder
from slipway.errors import HostError, UsageError, VerificationError
from slipway.records.manifest import Manifest
from slipway.seeds.iso9660 import read_iso, write_iso
from slipway.seeds.seed import Seed, make_seed, read_seed, require_made_for, seed_path, write_seed

PARAMETERS: tuple[dict[str, Any], ...] = (
    {"name": "domain", "type": "hostname", "summary": "Its name"},
    {"name": "mode", "type": "string", "choices": ["a", "b"], "default": "a", "summary": "How"},
    {"name": "password", "type": "secret", "generate": 20, "summary": "For its administrator"},
    {"name": "note", "type": "string", "summary": "Shown at the prompts"},
)
SEED = Seed(appliance="example", release="1.0.0-b1", values={"domain": "example.org"})


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return write_release_folder(
        tmp_path / "release", {"qcow2": b"image"}, parameters=PARAMETERS
    ).manifest


def given(manifest: Manifest, **values: str) -> Seed:
    return make_seed(manifest, values)


def test_the_id_is_the_hash_of_release_and_values() -> None:
    text = '{"appliance":"example","parameters":{"domain":"example.org"},"release":"1.0.0-b1"}'
    assert SEED.id == hashlib.sha256(text.encode()).hexdigest()
    others = (
        replace(SEED, release="1.0.0-b2"),
        replace(SEED, appliance="another"),
        replace(SEED, values={"domain": "example.com"}),
    )
    assert len({SEED.id, *(each.id for each in others)}) == 4


def test_values_in_any_order_are_the_same_bytes(manifest: Manifest) -> None:
    one = given(manifest, domain="example.org", mode="b").to_iso()
    assert given(manifest, mode="b", domain="example.org").to_iso() == one


@pytest.mark.parametrize(
    "text",
    [
        "0775",
        "true",
        "12:30",
        "Käse & 😀 'x' \"y\" \\ {}: #",
        "\ufffe\uffff\ufeff",
        " ",
        "~",
        "Mime-Version: 1.0",
    ],
)
def test_first_boot_reads_the_text_that_was_given(manifest: Manifest, text: str) -> None:
    """cloud-init reads YAML, by this library."""
    _, files = read_iso(given(manifest, note=text).to_iso())
    assert files["user-data"].startswith(b"#cloud-config\n")
    # cloud-init reads what has this anywhere as a message
    assert b"mime-version:" not in files["user-data"].lower()
    assert yaml.safe_load(files["user-data"]) == {"slipway": {"parameters": {"note": text}}}


def test_cloud_init_sees_another_instance_for_each_seed(manifest: Manifest) -> None:
    seed = given(manifest, domain="example.org", password="a secret of mine")
    volume, files = read_iso(seed.to_iso())
    assert volume == "cidata"
    assert yaml.safe_load(files["meta-data"]) == {
        "instance-id": f"slipway-{seed.id}",
        "slipway": {
            "appliance": "example",
            "release": "1.0.0-b1",
            "parameters": ["domain", "password"],
            "secrets": ["password"],
        },
    }


def test_a_secret_is_in_no_id_as_it_is(manifest: Manifest) -> None:
    """Who knows the id cannot try passwords as fast as SHA-256 is."""
    seed = given(manifest, password="a secret of mine")
    plain = {
        "appliance": "example",
        "parameters": {"password": "a secret of mine"},
        "release": "1.0.0-b1",
    }
    text = json.dumps(plain, separators=(",", ":"), sort_keys=True)
    assert seed.id != hashlib.sha256(text.encode()).hexdigest()
    plain["parameters"] = {
        "password": hashlib.scrypt(
            b"a secret of mine", salt=b"example 1.0.0-b1 password", n=16384, r=8, p=1, dklen=32
        ).hex()
    }
    text = json.dumps(plain, separators=(",", ":"), sort_keys=True)
    assert seed.id == hashlib.sha256(text.encode()).hexdigest()
    assert given(manifest, password="another secret").id != seed.id


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"domian": "x"}, 'example has no parameter "domian"\n  hint: did you mean "domain"?'),
        (
            {"domain": "a b"},
            'domain: "a b" is not accepted\n  hint: it has to be a host name, such as '
            '"mail.example.org"',
        ),
        ({"mode": "c"}, 'mode: "c" is not accepted\n  hint: it has to be one of a, b'),
        (
            {"password": "short"},
            "password: its value is not accepted\n  hint: it has to be at least 8 characters",
        ),
    ],
)
def test_what_first_boot_would_refuse_is_refused(
    manifest: Manifest, values: dict[str, str], message: str
) -> None:
    with pytest.raises(UsageError) as error:
        make_seed(manifest, values)
    assert str(error.value).removeprefix("error: ") == message


def test_a_secret_is_not_given_on_a_command_line(manifest: Manifest) -> None:
    with pytest.raises(UsageError) as error:
        make_seed(manifest, {"password": "a secret of mine"}, public=["password"])
    assert str(error.value).removeprefix("error: ") == (
        "password is a secret, and others on this host can read a command line\n"
        "  hint: give it by a file: --set-file password=PATH"
    )


def test_a_seed_lies_beside_its_image_and_is_its_owners_alone(tmp_path: Path) -> None:
    path = seed_path(tmp_path / "example-1.0.0-b1.amd64.raw.zst")
    assert path == seed_path(tmp_path / "example-1.0.0-b1.amd64.qcow2")
    assert path == tmp_path / "example-1.0.0-b1.amd64.seed.iso"
    write_seed(path, SEED)
    assert read_seed(path) == SEED
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_same_again_changes_nothing_and_another_one_replaces_it(tmp_path: Path) -> None:
    path = tmp_path / "a.seed.iso"
    write_seed(path, SEED)
    path.chmod(0o644)
    before = path.stat()
    write_seed(path, SEED)
    after = path.stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert stat.S_IMODE(after.st_mode) == 0o600
    another = replace(SEED, values={"domain": "example.com"})
    write_seed(path, another)
    assert read_seed(path) == another
    assert path.stat().st_ino != before.st_ino
    assert [each.name for each in tmp_path.iterdir()] == ["a.seed.iso"]


def test_what_is_no_seed_of_this_release_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.seed.iso"
    for content in (b"mine", replace(SEED, release="1.0.0-b2").to_iso()):
        path.write_bytes(content)
        with pytest.raises(HostError) as error:
            write_seed(path, SEED)
        assert str(error.value).removeprefix("error: ") == (
            f"{path} exists, is not a seed of example 1.0.0-b1, and is unchanged\n"
            "  hint: move it away, or give another folder: --out DIR"
        )
        assert path.read_bytes() == content
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(HostError) as error:
        write_seed(path, SEED)
    assert str(error.value).removeprefix("error: ") == (
        f"{path} exists and is not a regular file\n"
        "  hint: move it away, or give another folder: --out DIR"
    )
    assert not (tmp_path / "elsewhere").exists()


def test_any_change_of_a_seed_is_noticed(tmp_path: Path) -> None:
    content = SEED.to_iso()
    path = tmp_path / "a.seed.iso"
    places = [place for place, byte in enumerate(content) if byte or place % 512 == 0]
    for place in places:
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(VerificationError):
            read_seed(path)
    for changed in (content[:-2048], content + b"\0", b""):
        path.write_bytes(changed)
        with pytest.raises(VerificationError):
            read_seed(path)


def test_what_a_damaged_seed_is_called(tmp_path: Path) -> None:
    path = tmp_path / "a.seed.iso"
    path.write_bytes(SEED.to_iso().replace(b"example.org", b"example.com"))
    with pytest.raises(VerificationError) as error:
        read_seed(path)
    again = "  hint: make it again: invoke fetch NAME --set name=value"
    assert (
        str(error.value).removeprefix("error: ")
        == f"{path} is damaged: it is not what its id says\n{again}"
    )
    path.write_bytes(write_iso("cidata", {"meta-data": b"", "user-data": b"#cloud-config\n"}))
    with pytest.raises(VerificationError) as error:
        read_seed(path)
    assert (
        str(error.value).removeprefix("error: ") == f"{path} is not a seed, or is damaged\n{again}"
    )


@pytest.mark.parametrize(
    ("meta", "user"),
    [
        ('{"appliance":1,"release":"r","secrets":[]}', '{"parameters":{}}'),
        ('{"appliance":"a","release":"r","secrets":[]}', '{"parameters":{"a":1}}'),
        ('{"appliance":"a","release":"r","secrets":[]}', '{"parameters":[]}'),
        ('{"appliance":"a","release":"r","secrets":[]}', '{"parameters":{"a":"\\ud800"}}'),
        ('{"appliance":"a","release":"r","secrets":[[]]}', '{"parameters":{}}'),
        ("{" * 99_999 + "}", '{"parameters":{}}'),
        ("{}", "{}"),
    ],
)
def test_nothing_in_a_seed_ends_in_a_traceback(tmp_path: Path, meta: str, user: str) -> None:
    path = tmp_path / "a.seed.iso"
    files = {
        "meta-data": f"instance-id: slipway-{'0' * 64}\nslipway: {meta}\n".encode(),
        "user-data": f"#cloud-config\nslipway: {user}\n".encode(),
    }
    path.write_bytes(write_iso("cidata", files))
    with pytest.raises(VerificationError, match="is not a seed, or is damaged"):
        read_seed(path)


def test_a_seed_with_more_secrets_than_there_are_takes_no_time(tmp_path: Path) -> None:
    """Each is hashed, slowly: a file of a megabyte could take hours."""
    path = tmp_path / "a.seed.iso"
    names = [f"s{number}" for number in range(64)]
    most = replace(SEED, values=dict.fromkeys(names, "x"), secrets=frozenset(names[:2]))
    path.write_bytes(most.to_iso())
    assert read_seed(path) == most
    names = [f"s{number}" for number in range(20_000)]
    about = {"appliance": "a", "release": "r", "parameters": names, "secrets": names}
    given = {"parameters": dict.fromkeys(names, "x")}
    files = {
        "meta-data": f"instance-id: slipway-{'0' * 64}\nslipway: {json.dumps(about)}\n".encode(),
        "user-data": f"#cloud-config\nslipway: {json.dumps(given)}\n".encode(),
    }
    path.write_bytes(write_iso("cidata", files))
    begun = time.process_time()
    with pytest.raises(VerificationError, match="is not a seed, or is damaged"):
        read_seed(path)
    assert time.process_time() - begun < 5


def test_a_pipe_is_no_seed_and_nobody_waits_for_it(tmp_path: Path) -> None:
    path = tmp_path / "a.seed.iso"
    os.mkfifo(path)
    for link in (path, tmp_path / "b.seed.iso"):
        with pytest.raises(VerificationError) as error:
            read_seed(link)
        assert str(error.value) == (
            f"error: {link} is not a regular file\n"
            "  hint: make it again: invoke fetch NAME --set name=value"
        )
        (tmp_path / "b.seed.iso").unlink(missing_ok=True)
        (tmp_path / "b.seed.iso").symlink_to("/dev/zero")


def test_what_stands_in_a_seed_adds_no_line_to_a_message(manifest: Manifest) -> None:
    wrong = replace(SEED, appliance="example 1\nerror: none")
    with pytest.raises(VerificationError) as error:
        require_made_for(wrong, manifest, "X")
    assert error.value.message == (
        "X is a seed for example 1\\nerror: none 1.0.0-b1, not for example 1.0.0-b1"
    )
    with pytest.raises(VerificationError) as error:
        require_made_for(replace(SEED, values={"a\nb": ""}), manifest, "X")
    assert error.value.message == 'X: example has no parameter "a\\nb"'


def test_a_seed_is_compared_with_its_release(manifest: Manifest) -> None:
    require_made_for(given(manifest, domain="a.test", password="a secret of mine"), manifest, "X")
    wrong = {
        "X is a seed for example 1.0.0-b2, not for example 1.0.0-b1": replace(
            SEED, release="1.0.0-b2"
        ),
        'X: example has no parameter "colour"': replace(SEED, values={"colour": "red"}),
        "X: password: its value is not accepted": replace(SEED, values={"password": "short"}),
        "X does not name the secrets of example 1.0.0-b1": replace(
            SEED, values={"password": "a secret of mine"}
        ),
    }
    for message, seed in wrong.items():
        with pytest.raises(VerificationError) as error:
            require_made_for(seed, manifest, "X")
        assert str(error.value).removeprefix("error: ") == (
            f"{message}\n  hint: make it again: invoke fetch NAME --set name=value"
        )
