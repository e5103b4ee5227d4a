"""A download made one's own, as people type it: `fetch --set` writes a seed, `verify FILE` reads
it.
"""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from example_release import write_example
from own_environment import environment_of
from slipway.channels.keys import init, load_ring
from slipway.channels.moves import withdraw
from slipway.seeds.seed import read_seed
from slipway.stores.directory import DirectoryStore

Invoke = Callable[..., tuple[str, str]]
PARAMETERS = (
    {"name": "domain", "type": "hostname", "summary": "Its name"},
    {"name": "password", "type": "secret", "generate": 20, "summary": "For its administrator"},
)
ONE = "example-1.0.0-b1.amd64"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A root without appliances, two builds with parameters, and the keys of nightly."""
    for number in (1, 2):
        write_example(tmp_path / f"builds/{number}", number, parameters=PARAMETERS)
    init("nightly", tmp_path / "keys")
    return tmp_path


@pytest.fixture
def invoke(project: Path) -> Invoke:
    environment = environment_of(
        project, SLIPWAY_STATE=str(project / "state"), SLIPWAY_STORE=str(project / "store")
    )

    def invoke(*words: str, status: int = 0) -> tuple[str, str]:
        """Return what a task prints to standard output and to standard error."""
        argv = [sys.executable, "-P", "-m", "slipway", f"--search-root={project}", *words]
        done = subprocess.run(
            argv, env=environment, cwd=project, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout, done.stderr

    invoke("publish", "--folder=builds/1")
    return invoke


def fetch(invoke: Invoke, *words: str, status: int = 0) -> tuple[str, str]:
    return invoke("fetch", "example", "--channel=nightly", "--out=out", *words, status=status)


def test_a_seed_is_written_beside_its_image_and_said_to_be_right(
    project: Path, invoke: Invoke
) -> None:
    (project / "secret").write_text("a secret of mine\n")
    words = ("--set=domain=example.org", "--set-file=password=secret")
    out, err = fetch(invoke, *words)
    assert out == f"out/{ONE}.qcow2\nout/{ONE}.seed.iso\n"
    path = project / f"out/{ONE}.seed.iso"
    seed = read_seed(path)
    assert seed.values == {"domain": "example.org", "password": "a secret of mine"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert err.splitlines()[-4:] == [
        f"seed {seed.id} for example 1.0.0-b1 sets: domain, password (secret)",
        f"virt-install: --disk out/{ONE}.seed.iso,device=cdrom",
        f"QEMU: -drive file=out/{ONE}.seed.iso,media=cdrom,format=raw,readonly=on",
        (
            f"Proxmox VE: cp out/{ONE}.seed.iso /var/lib/vz/template/iso/; "
            f"qm set ID --ide2 local:iso/{ONE}.seed.iso,media=cdrom"
        ),
    ]
    listed = "release 1.0.0-b1 of example (nightly)"
    sets = f"seed {seed.id} for example 1.0.0-b1 sets: domain, password (secret)"
    assert invoke("verify", f"out/{ONE}.qcow2")[0] == (
        f"out/{ONE}.qcow2: {listed}, seed changed\nout/{ONE}.seed.iso: {sets}\n"
    )
    assert invoke("verify", f"out/{ONE}.seed.iso")[0] == f"out/{ONE}.seed.iso: {sets}\n"
    told = json.loads(invoke("verify", f"out/{ONE}.qcow2", "--json")[0])
    record = {
        "path": f"out/{ONE}.seed.iso",
        "id": seed.id,
        "parameters": ["domain", "password"],
        "secrets": ["password"],
    }
    assert told["files"] == [
        {
            "path": f"out/{ONE}.qcow2",
            "appliance": "example",
            "release": "1.0.0-b1",
            "channels": ["nightly"],
            "seed": record,
        }
    ]
    inode = path.stat().st_ino
    assert json.loads(fetch(invoke, *words, "--json")[0])["seed"] == record
    assert path.stat().st_ino == inode
    fetch(invoke, "--set=domain=example.com")
    assert read_seed(path).values == {"domain": "example.com"}
    # another image, and the channel as well
    path.unlink()
    said = invoke("verify", f"out/{ONE}.qcow2", "nightly")[0].splitlines()
    assert said[0] == f"out/{ONE}.qcow2: {listed}, no seed"
    assert said[1].startswith("nightly: 5 objects, ")


def test_what_cannot_be_a_seed_is_said_before_anything_is_fetched(
    project: Path, invoke: Invoke
) -> None:
    for words, message in {
        ("--set=domian=example.org",): (
            'error: example has no parameter "domian"\n  hint: did you mean "domain"?\n'
        ),
        ("--set=domain=a b",): (
            'error: domain: "a b" is not accepted\n  hint: it has to be a host name, such as '
            '"mail.example.org"\n'
        ),
        ("--set=password=a secret of mine",): (
            "error: password is a secret, and others on this host can read a command line\n"
            "  hint: give it by a file: --set-file password=PATH\n"
        ),
        ("--set=domain",): "error: --set needs name=value\n",
    }.items():
        assert fetch(invoke, *words, status=2)[1] == message
    assert not (project / "out").exists()


def test_what_is_not_as_it_was_signed_is_named(project: Path, invoke: Invoke) -> None:
    fetch(invoke, "--set=domain=example.org")
    image, path = project / f"out/{ONE}.qcow2", project / f"out/{ONE}.seed.iso"
    other = project / "out/mine.qcow2"
    other.write_bytes(image.read_bytes()[:-1] + b"!")
    hint = "  hint: use none of them; invoke fetch NAME gets what is signed\n"
    none = f"error: {other} is not a file of a release in nightly\n"
    assert invoke("verify", str(other), status=7)[1].endswith(none + hint)
    # renamed, it is what it was, and its seed goes with it
    image.rename(other)
    path.rename(project / "out/mine.seed.iso")
    said = invoke("verify", "out/mine.qcow2")[0]
    assert said.startswith("out/mine.qcow2: release 1.0.0-b1 of example (nightly), seed changed\n")
    # the seed of another release
    seed = read_seed(project / "out/mine.seed.iso")
    (project / "out/mine.seed.iso").write_bytes(replace(seed, release="1.0.0-b2").to_iso())
    assert invoke("verify", "out/mine.qcow2", status=7)[1].endswith(
        "error: out/mine.seed.iso is a seed for example 1.0.0-b2, not for example 1.0.0-b1\n" + hint
    )
    assert invoke("verify", "out/mine.seed.iso", status=7)[1].endswith(
        "error: out/mine.seed.iso is a seed for example 1.0.0-b2, which is in none of nightly\n"
        + hint
    )
    (project / "out/mine.seed.iso").write_bytes(
        seed.to_iso().replace(b"example.org", b"evil.test!!")
    )
    assert invoke("verify", "out/mine.qcow2", status=7)[1].endswith(
        "error: out/mine.seed.iso is damaged: it is not what its id says\n" + hint
    )
    wrong = replace(seed, values={"colour": "red"})
    (project / "out/mine.seed.iso").write_bytes(wrong.to_iso())
    assert invoke("verify", "out/mine.seed.iso", status=7)[1].endswith(
        'error: out/mine.seed.iso: example has no parameter "colour"\n' + hint
    )


def test_a_withdrawn_release_is_said_to_be(project: Path, invoke: Invoke) -> None:
    fetch(invoke, "--set=domain=example.org")
    invoke("publish", "--folder=builds/2")
    invoke("withdraw", "example", "--build=b1", "--reason=it eats disks", "--yes")
    gone = "; example 1.0.0-b1 was withdrawn: it eats disks\n"
    said = invoke("verify", f"out/{ONE}.qcow2", f"out/{ONE}.seed.iso", status=7)[1]
    assert f"out/{ONE}.qcow2 is not a file of a release in nightly{gone}" in said
    assert (
        f"out/{ONE}.seed.iso is a seed for example 1.0.0-b1, which is in none of nightly{gone}"
        in said
    )


@pytest.mark.parametrize("days", [0, 8], ids=["now", "before it expired"])
def test_what_one_channel_has_withdrawn_is_right_in_no_other(
    project: Path, invoke: Invoke, days: int
) -> None:
    """The others may not have been reached yet."""
    fetch(invoke, "--set=domain=example.org")
    invoke("keys", "init", "stable", "--no-passphrase")
    invoke("promote", "example", "--to=stable", "--yes")
    path = f"out/{ONE}.qcow2"
    assert "of example (stable, nightly), seed" in invoke("verify", path)[0]
    stable = load_ring("stable", project / "keys")
    then = time.time() - days * 86400
    store = DirectoryStore(project / "store")
    withdraw(store, stable, "example", "b1", "it eats\ndisks", clock=lambda: then)
    said = invoke("verify", path, f"out/{ONE}.seed.iso", status=7)[1]
    for file in (path, f"out/{ONE}.seed.iso"):
        assert (
            f"{file} is of example 1.0.0-b1, which was withdrawn from stable: it eats\\ndisks\n"
            in said
        )


def test_nothing_is_vouched_for_where_nothing_is_trusted(project: Path, invoke: Invoke) -> None:
    fetch(invoke)
    said = invoke("verify", f"out/{ONE}.qcow2", f"--keys={project}/none", status=4)[1]
    assert said.startswith(
        f"error: no channel of {project}/store can vouch for a file: "
        "no trusted root for channel nightly\n  hint: "
    )
    for word, message in {
        "out/none.qcow2": "there is no file out/none.qcow2",
        "out/": "out is a folder",
    }.items():
        assert invoke("verify", word, status=2)[1].startswith(f"error: {message}\n")
