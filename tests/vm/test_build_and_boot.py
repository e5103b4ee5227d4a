"""A new appliance, for real: built, booted by each firmware, checked, published; and killed while
it is built.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.server
import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from apt_repository import make_repository
from once_more import once_more
from slipway.boot.results import Died

ROOT = Path(__file__).parents[2]
KILLS = 20


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A root of its own with one new appliance, and a cache of its own."""
    root = tmp_path_factory.mktemp("project")
    (root / "templates").symlink_to(ROOT / "templates")
    (root / "tmp").mkdir()
    invoke(root, "new", "my-thing")
    yield root


def command(root: Path, *words: str) -> list[str]:
    """The command line of a task."""
    return [sys.executable, "-m", "invoke", "--search-root", str(ROOT), *words, "--root", str(root)]


def environment(root: Path) -> dict[str, str]:
    """This process's environment with a cache below the root, and with temporary files there too,
    by which one knows the processes.
    """
    mine = {
        "SLIPWAY_CACHE": str(root / "cache"),
        "SLIPWAY_KEYS": str(root / "keys"),
        "TMPDIR": str(root / "tmp"),
    }
    # As on a person's machine: where CI is set, a store has to be named.
    mine |= {"PYTHONPATH": str(ROOT / "src")}
    return {name: value for name, value in os.environ.items() if name != "CI"} | mine


def invoke(
    root: Path, *words: str, expect: int = 0, **more: str
) -> subprocess.CompletedProcess[str]:
    """Run a task, which has to end well, or as is expected."""
    done = subprocess.run(
        command(root, *words),
        env=environment(root) | more,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == expect, done.stdout + done.stderr
    return done


def release(root: Path) -> Path:
    """The folder of the newest release."""
    plan = json.loads((root / "build/my-thing/plan.json").read_text())
    return root / "build/my-thing" / str(plan["release"])


def test_a_new_appliance_builds_boots_and_passes_unchanged(project: Path) -> None:
    done = invoke(project, "build", "my-thing", "--publish")
    assert "checks passed" in done.stdout
    folder = release(project)
    subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=folder, check=True)
    (image,) = folder.glob("*.qcow2")
    subprocess.run(["qemu-img", "check", "-q", image], check=True)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["boot"]["passed"] and manifest["boot"]["firmware"] == "bios"
    assert {check["name"] for check in manifest["boot"]["checks"]} >= {
        "system-started",
        "root-grown",
        "10-greeting.sh",
        "20-ssh.py",
    }
    published = sorted(
        path.name for path in (project / "build/store/targets/my-thing" / folder.name).iterdir()
    )
    assert len(published) == 5


def written(project: Path) -> dict[Path, int]:
    """When each file was written; but for what is remembered of files that were read whole
    (slipway.whole).
    """
    files = [
        path
        for path in (project / "build").rglob("*")
        if path.is_file() and not path.name.startswith(".seen-")
    ]
    return {path: path.stat().st_mtime_ns for path in files}


def test_a_second_build_makes_nothing_and_publishes_nothing(project: Path) -> None:
    before = written(project)
    done = invoke(project, "build", "my-thing", "--publish")
    assert "nothing to do: this was built, and is all here" in done.stderr
    assert f"my-thing: nightly has {release(project).name} already, nothing changed" in done.stdout
    assert written(project) == before


@pytest.mark.nightly
def test_a_night_that_finds_nothing_new_publishes_nothing(project: Path) -> None:
    first = invoke(project, "nightly", "my-thing", "--store", str(project / "night"))
    assert f"my-thing: nightly now has {release(project).name} (before: none)" in first.stdout
    second = invoke(project, "nightly", "my-thing", "--store", str(project / "night"))
    assert second.stdout == "* nothing new to publish\n"


@pytest.mark.nightly
@pytest.mark.parametrize("firmware", ["uefi", "secureboot"])
def test_the_same_image_starts_by_other_firmware(project: Path, firmware: str) -> None:
    manifest = json.loads((release(project) / "manifest.json").read_text())
    done = invoke(project, "check", "my-thing", "--firmware", firmware)
    assert done.stdout.count("passed") == len(manifest["boot"]["checks"]) == 6, done.stdout


def test_what_is_rendered_is_what_the_plan_counts(project: Path, tmp_path: Path) -> None:
    invoke(project, "render", "my-thing", "--out", str(tmp_path / "out"))
    scripts = sorted(
        path.relative_to(tmp_path / "out").as_posix()
        for path in (tmp_path / "out").glob("**/build.sh")
    )
    assert scripts == ["base/build.sh", "disk/build.sh", "tree/build.sh"]
    for script in scripts:
        subprocess.run(
            ["shellcheck", "-s", "sh", "-e", "SC1091", tmp_path / "out" / script],
            cwd=(tmp_path / "out" / script).parent,
            check=True,
        )


@contextlib.contextmanager
def started(root: Path, *words: str, end: signal.Signals = signal.SIGINT) -> Iterator[int]:
    """A sandbox that answers by SSH, on the port that this gives; Ctrl-C or SIGTERM ends it."""

    def start() -> tuple[contextlib.ExitStack, int]:
        with contextlib.ExitStack() as stack:
            port = stack.enter_context(sandbox(root, words, end))
            return stack.pop_all(), port

    stack, port = once_more(start)
    with stack:
        yield port


@contextlib.contextmanager
def sandbox(root: Path, words: Sequence[str], end: signal.Signals) -> Iterator[int]:
    """One start of it.

    Raises:
        Died: It does not answer.
    """
    # What is run in the background ignores SIGINT, and what CI runs may be.
    argv = ["env", "--default-signal=INT", *command(root, "start", "my-thing", *words)]
    with subprocess.Popen(argv, env=environment(root), stdout=subprocess.PIPE, text=True) as box:
        try:
            assert box.stdout
            console = Path(
                next(line.split()[1] for line in box.stdout if line.startswith("console:"))
            )
            port = next(
                int(line.rpartition(":")[2]) for line in box.stdout if line.startswith("tcp/22")
            )
            answered = answers_by_ssh(port)
            said = console.read_text(errors="replace")[-5000:]
            if answered:
                yield port
            box.send_signal(end)
            status = 0 if end == signal.SIGINT else 128 + end
            assert box.wait(200) == status or not answered
        finally:
            box.kill()
    if not answered:
        raise Died(f"it does not answer by SSH\n{said}")


def answers_by_ssh(port: int) -> bool:
    """Whether a server of SSH says so on this port of the loopback device, before long."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", port), timeout=5) as connection,
        ):
            if connection.recv(64).startswith(b"SSH-2.0"):
                return True
        select.select([], [], [], 0.5)
    return False


@pytest.mark.nightly
def test_a_sandbox_forwards_ports_keeps_its_state_and_ends_clean(
    project: Path, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    words = ("--keep", "first", "--ssh-key", f"{key}.pub")
    options = [
        "-oStrictHostKeyChecking=no",
        "-oUserKnownHostsFile=/dev/null",
        "-oLogLevel=ERROR",
        "-oIdentitiesOnly=yes",
    ]

    def ssh(port: int, script: str) -> str:
        argv = ["ssh", *options, "-i", str(key), "-p", str(port), "root@127.0.0.1", script]
        return subprocess.run(
            argv, check=True, capture_output=True, text=True, timeout=120
        ).stdout.strip()

    with started(project, *words, end=signal.SIGTERM) as port:
        host = ssh(port, "echo kept > /root/state; cat /etc/ssh/ssh_host_ed25519_key.pub")
    folder = project / "build/my-thing/sandbox"
    assert sorted(path.name for path in folder.iterdir()) == ["first.base.qcow2", "first.qcow2"]
    kept = (folder / "first.qcow2").read_bytes()
    with started(project, *words) as port:
        assert (
            ssh(port, "cat /root/state; cat /etc/ssh/ssh_host_ed25519_key.pub") == "kept\n" + host
        )
        assert leftovers(project)
    assert (folder / "first.qcow2").read_bytes() == kept
    assert not leftovers(project)


def leftovers(root: Path) -> list[str]:
    """Processes that were started for this root, whatever they do, and mounts and temporary files
    there.
    """
    found = [
        line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(root) in line
    ]
    found += [path.name for path in (root / "tmp").iterdir()]
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            started_with = (entry / "environ").read_bytes().split(b"\0")
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state not in "ZX" and f"TMPDIR={root / 'tmp'}".encode() in started_with:
            found.append(words)
    return found


def test_a_build_that_is_killed_leaves_nothing_and_the_next_one_completes_it(project: Path) -> None:
    chance = random.Random(20)
    motd = project / "appliances/my-thing/files/etc/motd.j2"
    for number in range(KILLS):
        motd.write_text(f"my-thing 0.1.{number}: tried\n")
        with subprocess.Popen(
            command(project, "build", "my-thing", "--no-boot"),
            env=environment(project),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as build:
            try:
                build.wait(chance.uniform(0.2, 9))
            except subprocess.TimeoutExpired:
                build.send_signal(signal.SIGKILL)
            build.wait()
        for _ in range(2000):
            if not (left := leftovers(project)):
                break
            os.sched_yield()
        assert not left, left
    invoke(project, "build", "my-thing", "--no-boot")
    subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=release(project), check=True)
    assert not [path for path in (project / "cache/scratch").iterdir()]
    assert not [
        path
        for path in (project / "build/my-thing").iterdir()
        if path.name.startswith(".") and not path.name.startswith(".seen-")
    ]


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of an HTTP server of a folder's files, on the loopback device."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


@pytest.mark.nightly
def test_secrets_downloads_and_packages_from_elsewhere(project: Path, tmp_path: Path) -> None:
    secret, words = "correct-horse-battery", b"one\ntwo\n"
    (tmp_path / "words").write_bytes(words)
    key = make_repository(tmp_path / "vendor", package="vendor-tool", version="1.5", suite="stable")
    other_key = make_repository(
        tmp_path / "other", package="vendor-tool", version="6.6", suite="stable"
    )
    folder = project / "appliances/licensed"
    (folder / "setup").mkdir(parents=True)
    keyring = folder / "files/etc/apt/keyrings/vendor.asc"
    keyring.parent.mkdir(parents=True)
    keyring.write_bytes(other_key)
    (folder / "README.md").write_text("# licensed\n")
    setup = folder / "setup/10-licence.sh"
    setup.write_text(
        "set -eux\nkey=$(cat /run/secrets/LICENCE_KEY)\n"
        'printf %s "$key" | sha256sum >/etc/licence-of\n'
    )
    with served(tmp_path) as address:
        spec = f"""\
schema: 1
name: licensed
version: 1.0.0
summary: Has a download and a secret
category: system
secrets: [LICENCE_KEY]
downloads:
  - url: "{address}/words"
    sha256: {hashlib.sha256(words).hexdigest()}
    path: /usr/share/words
packages: [vendor-tool]
pypi: ["pyyaml==6.0.2"]
sources:
  - name: vendor
    url: "https://vendor.example/apt"
    suite: stable
    signed_by: /etc/apt/keyrings/vendor.asc
formats: [rootfs]
"""
        (folder / "appliance.yaml").write_text(spec)
        with (project / "slipway.toml").open("a") as settings:
            settings.write(f'[mirror]\nvendor = "{address}/vendor"\n')
        assert "NO_PUBKEY" in invoke(project, "lock", "licensed", expect=5).stderr
        keyring.write_bytes(key)
        for name in ("licensed", "my-thing"):
            invoke(project, "lock", name)
        lock = json.loads((folder / "lock.amd64.json").read_text())
        assert (
            lock["base_packages"]
            == json.loads((project / "appliances/my-thing/lock.amd64.json").read_text())[
                "base_packages"
            ]
        )
        (locked,) = lock["packages"]
        assert (locked["archive"], locked["path"], locked["version"]) == (
            "vendor",
            "pool/vendor-tool_1.5_all.deb",
            "1.5",
        )
        assert "LICENCE_KEY" in invoke(project, "build", "licensed", "--no-boot", expect=2).stderr
        invoke(project, "build", "licensed", "--no-boot", SLIPWAY_SECRET_LICENCE_KEY=secret)

        def secret_is_in() -> list[Path]:
            places = (project / "build/licensed", project / "cache/stages", folder)
            files = (path for place in places for path in place.rglob("*") if path.is_file())
            return [path for path in files if secret.encode() in path.read_bytes()]

        assert "key=***" in (project / "build/licensed/logs/tree.log").read_text()
        assert not secret_is_in()
        (root,) = (project / "build/licensed").glob("*/*.rootfs.tar.*")
        tree = tmp_path / "tree"
        tree.mkdir()
        subprocess.run(
            [
                "tar",
                "-C",
                tree,
                "-xf",
                root,
                "usr/share/words",
                "usr/bin/vendor-tool",
                "opt/pypi",
                "etc",
            ],
            check=True,
        )
        assert (
            subprocess.run([tree / "usr/bin/vendor-tool"], check=True, capture_output=True).stdout
            == b"1.5\n"
        )
        (source,) = (tree / "etc/apt/sources.list.d").glob("vendor.*")
        assert (
            "URIs: https://vendor.example/apt\n" in source.read_text()
            and "Signed-By: /etc/apt/keyrings/vendor.asc" in source.read_text()
        )
        assert (tree / "etc/apt/keyrings/vendor.asc").read_bytes() == key
        assert list(tree.glob("opt/pypi/lib/python3.*/site-packages/yaml/_yaml.*.so"))
        assert (tree / "opt/pypi/bin/python3").readlink() == Path("/usr/bin/python3")
        assert (tree / "usr/share/words").read_bytes() == words
        assert (tree / "etc/licence-of").read_text().split()[0] == hashlib.sha256(
            secret.encode()
        ).hexdigest()

        (folder / "appliance.yaml").write_text(spec.replace("suite: stable", "suite: testing"))
        assert (
            "the lock is older than the spec"
            in invoke(project, "build", "licensed", expect=3).stderr
        )
        (folder / "appliance.yaml").write_text(spec)

        setup.write_text("set -eu\ncp /run/secrets/LICENCE_KEY /etc/leak\n")
        refused = invoke(
            project, "build", "licensed", "--no-boot", expect=5, SLIPWAY_SECRET_LICENCE_KEY=secret
        )
        assert "/etc/leak" in refused.stderr and secret not in refused.stdout + refused.stderr
        assert not secret_is_in()
    assert not leftovers(project)


GREETING = """\
The greeting is another one.

Caught-by: guest/10-greeting.sh

--- a/files/etc/motd.j2
+++ b/files/etc/motd.j2
@@ -1 +1 @@
-my-thing 0.1.0: healthy
+Good morning.
"""


@pytest.mark.nightly
def test_a_fault_is_caught_and_leaves_nothing(project: Path) -> None:
    folder = project / "appliances/my-thing"
    (folder / "faults").mkdir()
    (folder / "faults/morning.patch").write_text(GREETING)
    check = folder / "checks/10-greeting.sh"
    check.write_text(check.read_text().replace("timeout: 30", "timeout: 2"))
    (folder / "files/etc/motd.j2").write_text("my-thing 0.1.0: healthy\n")
    invoke(project, "build", "my-thing", "--no-boot", "--format", "qcow2")
    stages = set((project / "cache/stages").iterdir())
    done = invoke(project, "faults", "my-thing")
    assert done.stdout == (
        "morning: The greeting is another one.\n"
        "  caught by guest/10-greeting.sh: + grep -Eq ^[a-z0-9-]+ [0-9.]+ /etc/motd\n"
    )
    assert set((project / "cache/stages").iterdir()) == stages
    assert not list((project / "cache/scratch").iterdir())
    assert (project / "build/my-thing/faults/morning/logs/console.log").exists()
