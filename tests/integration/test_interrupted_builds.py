"""Real builds that are stopped at each of their stages: nothing of them is left, and the next one
makes what a whole one makes.

It needs a mirror, and takes minutes; no machine is started.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SPEC = """\
schema: 1
name: stopped
version: 1.0.0
summary: An image whose build is stopped
category: base
base: debian-13
formats: [qcow2, raw, rootfs]
packages: [tree]
resources: {cpus: 1, memory_mib: 512, disk_gib: 4}
"""
_PR_SET_CHILD_SUBREAPER = 36


def begin(root: Path, cache: Path, *words: str) -> subprocess.Popen[str]:
    """Start a task as a terminal's shell does: what is run in the background ignores SIGINT, and
    what CI runs may be.
    """
    argv = [
        sys.executable,
        "-P",
        "-m",
        "slipway",
        "--search-root",
        str(ROOT),
        *words,
        "--root",
        str(root),
    ]
    environment = {name: value for name, value in os.environ.items() if name != "CI"} | {
        "SLIPWAY_CACHE": str(cache)
    }
    pipe = subprocess.PIPE
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(
            argv,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=pipe,
            stderr=subprocess.STDOUT,
            text=True,
        )
    finally:
        signal.signal(signal.SIGINT, before)


def finish(task: subprocess.Popen[str], *, status: int) -> str:
    said, _ = task.communicate(timeout=1500)
    assert task.returncode == status, said
    return said


@pytest.fixture(scope="module")
def whole(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Path, Path, list[tuple[str, bytes]]]]:
    """A root and a cache after a whole build, and what it made.

    Orphans of what is started become this process' children.
    """
    root = tmp_path_factory.mktemp("project")
    (root / "templates").symlink_to(ROOT / "templates")
    (root / "appliances/stopped").mkdir(parents=True)
    (root / "appliances/stopped/appliance.yaml").write_text(SPEC)
    cache = root / "cache"
    cache.mkdir(mode=0o700)
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    finish(begin(root, cache, "lock", "stopped"), status=0)
    finish(begin(root, cache, "build", "stopped", "--no-boot"), status=0)
    yield root, cache, artifacts(root)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def artifacts(root: Path) -> list[tuple[str, bytes]]:
    """What a build made, but for when."""
    sums = next((root / "build/stopped").glob("1.0.0-*/SHA256SUMS")).read_text()
    return [
        (line.split()[1], bytes.fromhex(line.split()[0]))
        for line in sums.splitlines()
        if "json" not in line
    ]


def children() -> list[str]:
    """The processes below this one, as far as they are not those of pytest's workers."""
    found = []
    for name in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
        state = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[0]
        if state != "Z":
            found.append(
                Path(f"/proc/{name}/cmdline")
                .read_bytes()
                .replace(b"\0", b" ")
                .decode(errors="replace")
            )
    return found


def log(name: str) -> Callable[[Path, Path], bool]:
    return lambda root, cache: (root / f"build/stopped/logs/{name}.log").exists()


def unpacked(root: Path, cache: Path) -> bool:
    """The plan is made, and the work has begun."""
    return (
        any(path.is_dir() for path in (cache / "scratch").glob("*"))
        if (cache / "scratch").is_dir()
        else False
    )


def packed(root: Path, cache: Path) -> bool:
    """A layer is being packed."""
    return any(not (folder / "entry").exists() for folder in (cache / "stages").glob("*"))


def formats(root: Path, cache: Path) -> bool:
    """The disk is there, and two formats are being made of it."""
    return any((cache / "scratch").glob("*/.qcow2*"))


STOPPED_AT: dict[str, Callable[[Path, Path], bool]] = {
    "unpacking": unpacked,
    "packages": log("packages"),
    "packing": packed,
    "tree": log("tree"),
    "disk": log("disk"),
    "formats": formats,
}


@pytest.mark.nightly
@pytest.mark.timeout(3000)
@pytest.mark.parametrize(
    "how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda how: how.name
)
@pytest.mark.parametrize("stage", STOPPED_AT)
def test_a_build_that_is_stopped_leaves_nothing_and_the_next_one_makes_it_all(
    stage: str,
    how: signal.Signals,
    whole: tuple[Path, Path, list[tuple[str, bytes]]],
    tmp_path: Path,
) -> None:
    root, first, expected = whole
    cache = tmp_path / "cache"
    cache.mkdir(mode=0o700)
    subprocess.run(["cp", "-al", first / "pool", first / "stages", cache], check=True, timeout=60)
    for folder in (cache / "stages").iterdir():
        if '"kind": "base"' not in (folder / "entry").read_text():
            shutil.rmtree(folder)
    shutil.rmtree(root / "build")
    before = set(children())

    task = begin(root, cache, "build", "stopped", "--no-boot")
    try:
        until = time.monotonic() + 600
        while not STOPPED_AT[stage](root, cache):
            assert task.poll() is None and time.monotonic() < until, task.communicate(timeout=60)
            time.sleep(0.01)
        task.send_signal(how)
        started = time.monotonic()
        said, _ = task.communicate(timeout=600)
    finally:
        task.kill()
    # The two formats that are being made are finished first.
    assert time.monotonic() - started < (300 if stage == "formats" else 30), said
    words = {
        signal.SIGINT: (130, "interrupted\n"),
        signal.SIGTERM: (143, "terminated by SIGTERM\n"),
        signal.SIGKILL: (-9, ""),
    }[how]
    assert (task.returncode, said[len(said) - len(words[1]) :]) == words, said
    assert "Traceback" not in said

    until = time.monotonic() + 10
    while set(children()) - before and time.monotonic() < until:
        time.sleep(0.05)
    assert set(children()) - before == set()
    assert str(cache) not in Path("/proc/self/mounts").read_text()
    assert how == signal.SIGKILL or not list((cache / "scratch").glob("*"))

    finish(begin(root, cache, "build", "stopped", "--no-boot"), status=0)
    assert artifacts(root) == expected
    finish(begin(root, cache, "cache", "prune"), status=0)
    assert not list((cache / "scratch").glob("*"))
    assert [
        folder.name for folder in (cache / "stages").glob("*") if not (folder / "entry").exists()
    ] == []
