"""Folders of somebody else, or on media that are read-only: one line that names the place, and no
work before it.

Root could write everywhere, so these run without that right (CAP_DAC_OVERRIDE), as everybody else
does.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from example_release import write_example
from slipway.channels.keys import init

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
#: The appliance that is built, and its place in the words below.
NAME = min(path.name for path in (ROOT / "appliances").iterdir())
#: Root without root's way around modes.
PLAIN = (
    ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"]
    if os.geteuid() == 0
    else []
)
DENIED = (
    "permission denied\n  hint: look at its owner and mode, and at those of the folders above it\n"
)

#: Runs command lines one after the other in one process: most of a command's time is its start.
SCRIPT = """
import contextlib, io, json, sys
from slipway.commandline.program import main
for words in json.loads(sys.argv[1]):
    said, error, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stderr(error), contextlib.redirect_stdout(said):
        try:
            main(["slipway", "--search-root=root", *words.split()])
        except SystemExit as ended:
            code = ended.code
    print(json.dumps([code, said.getvalue(), error.getvalue()]), flush=True)
"""


class Desk:
    """A checkout, a cache, a store and keys, each of which can be closed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("root/appliances", "cache", "store", "keys", "home", "out"):
            (folder / name).mkdir(parents=True, mode=0o700)
        (folder / "root/templates").symlink_to(ROOT / "templates")
        shutil.copytree(
            ROOT / "appliances" / NAME,
            folder / "root/appliances" / NAME,
            ignore=shutil.ignore_patterns("faults"),
        )
        places = {
            "SLIPWAY_CACHE": "cache",
            "SLIPWAY_STORE": "store",
            "SLIPWAY_KEYS": "keys",
            "HOME": "home",
            "XDG_STATE_HOME": "home",
        }
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("SLIPWAY_", "XDG_"))
        }
        self.environment = {
            **kept,
            **{name: str(folder / place) for name, place in places.items()},
            "PYTHONPATH": str(ROOT / "src"),
        }

    def close(self, place: str) -> Path:
        path = self.folder / place
        for each in (
            path,
            *(entry for entry in path.rglob("*") if entry.is_dir() and not entry.is_symlink()),
        ):
            each.chmod(0o500)
        return path

    def open(self) -> None:
        for path in self.folder.rglob("*"):
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o700)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        argv = [
            *PLAIN,
            sys.executable,
            "-P",
            "-m",
            "slipway",
            f"--search-root={self.folder}/root",
            *(NAME if word == "NAME" else word for word in words),
        ]
        return subprocess.run(
            argv,
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def run_all(self, lines: list[str]) -> dict[str, tuple[int, str, str]]:
        """Run command lines; return how each ended and what it printed.

        `publish`, which starts its process again, comes first.
        """
        argv = [*PLAIN, sys.executable, "-P", "-c", SCRIPT, json.dumps(lines)]
        done = subprocess.run(
            argv,
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        found = [tuple(json.loads(line)) for line in done.stdout.splitlines()]
        return dict(zip(lines, found, strict=True))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.open()


@pytest.mark.parametrize(
    "words", [("list",), ("validate", "NAME"), ("schema",), ("cache",), ("list", "--json")]
)
def test_what_only_reads_wants_to_write_nowhere(desk: Desk, words: tuple[str, ...]) -> None:
    if words == ("schema",):
        (desk.folder / "root/docs").mkdir()
        (desk.folder / "root/src/slipway").mkdir(parents=True)
        written = desk.run(*words)
        assert written.returncode == 0, written.stderr
    for place in ("root", "cache", "store", "keys", "home"):
        desk.close(place)
    done = desk.run(*words)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("closed", "words", "place"),
    [
        ("root", ("new", "thing"), "root/appliances/.new-"),
        ("root/appliances", ("new", "thing"), "root/appliances/.new-"),
        ("root/appliances", ("lock", "NAME"), "root/appliances/NAME: "),
        ("cache", ("lock", "NAME"), "cache/"),
        ("cache", ("plan", "NAME"), "cache/"),
        ("cache", ("build", "NAME"), "cache/"),
        ("root", ("render", "NAME"), "root/build"),
        ("store", ("build", "NAME", "--publish"), "store: "),
        ("store", ("nightly", "NAME"), "store: "),
        ("keys", ("keys", "init", "nightly"), "keys/nightly"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else value.replace("/", "-"),
)
def test_what_cannot_be_written_is_a_line_before_work(
    desk: Desk, closed: str, words: tuple[str, ...], place: str
) -> None:
    if closed == "store":
        assert desk.run("keys", "init", "nightly").returncode == 0
    desk.close(closed)
    before = sorted(desk.folder.rglob("*.deb"))
    done = desk.run(*words)
    line = done.stderr.partition("error: ")[2]
    assert done.returncode == 4, (done.stdout, done.stderr)
    assert line.startswith(str(desk.folder / place.replace("NAME", NAME))), done.stderr
    assert line.endswith(DENIED), done.stderr
    assert "Traceback" not in done.stderr
    # Nothing was fetched or made first.
    assert " made" not in done.stderr
    assert sorted(desk.folder.rglob("*.deb")) == before


@pytest.fixture
def stocked(desk: Desk) -> Desk:
    """With two releases in a channel, the older of which is current in another one."""
    for channel in ("nightly", "stable"):
        init(channel, desk.folder / "keys")
    for number in (1, 2):
        write_example(desk.folder / f"builds/{number}", number)
    lines = [
        "publish --folder builds",
        "promote example --build b1 --to stable --yes",
        "promote example --build b2 --to stable --yes",
    ]
    assert {line: code for line, (code, _, _) in desk.run_all(lines).items()} == dict.fromkeys(
        lines, 0
    )
    return desk


def test_a_store_that_takes_nothing_is_said_before_a_question_and_can_be_read(
    stocked: Desk,
) -> None:
    store = stocked.close("store")
    changing = [
        "publish --folder builds", "catalog", "promote example --to stable", "rollback example",
        "refresh", "prune", "gc", "withdraw example --build b1 --reason no",
        "channels remove nightly --force",
    ]  # fmt: skip
    reading = [
        "channels", "verify", "fetch example --out out", "catalog --dry-run",
        "rollback example --dry-run", "withdraw example --build b1 --reason no --dry-run",
        "refresh --dry-run", "prune --dry-run", "gc --dry-run",
    ]  # fmt: skip
    ended = stocked.run_all([*changing, *reading])
    for line in changing:
        assert ended[line] == (4, "", f"error: {store}: {DENIED}"), line
    assert {line: ended[line][0] for line in reading} == dict.fromkeys(reading, 0), ended


def test_a_folder_for_downloads_that_takes_nothing_is_said_before_the_store_is_asked(
    stocked: Desk,
) -> None:
    (stocked.folder / "file").touch()
    out, root = stocked.close("out"), stocked.close("root")
    away = "--store=/nonexistent"
    lines = [
        f"fetch example --out out {away}", f"fetch example --out out/new/folder {away}",
        f"fetch example {away}", f"fetch example --out file {away}",
        "export example --format vhd --out out", "export example --format vhd",
        "export builds/1 --format vhd --out out", "export example --format vhd --out home",
    ]  # fmt: skip
    ended = stocked.run_all(lines)
    denied = {
        line: (4, "", f"error: {root if 'out' not in line else out}: {DENIED}") for line in lines
    }
    denied[lines[3]] = (
        4,
        "",
        (
            f"error: {stocked.folder}/file: not a directory\n"
            "  hint: name a folder, or move away what is in its place\n"
        ),
    )
    denied[lines[7]] = (4, "", f"error: {root}: {DENIED}")  # where logs go
    assert ended == denied
    assert not (stocked.folder / "cache/downloads").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts")
def test_a_store_on_media_that_are_read_only(desk: Desk) -> None:
    store = desk.folder / "store"
    assert desk.run("keys", "init", "nightly").returncode == 0
    script = f'mount --bind {store} {store} && mount -o remount,bind,ro {store} && exec "$@"'
    argv = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        script,
        "sh",
        sys.executable,
        "-P",
        "-m",
        "slipway",
        f"--search-root={desk.folder}/root",
    ]
    done = subprocess.run(
        [*argv, "build", NAME, "--publish"],
        cwd=desk.folder,
        env=desk.environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 4
    assert done.stderr.endswith(
        f"error: {store}: read-only file system\n"
        "  hint: mount it read-write, or use another folder\n"
    ), done.stderr


def test_keys_that_publishing_would_make(desk: Desk) -> None:
    for name in ("SLIPWAY_STORE", "CI", "SLIPWAY_KEY_BUNDLE"):
        desk.environment.pop(name, None)
    desk.close("keys")
    done = desk.run("build", "NAME", "--publish")
    assert done.returncode == 4
    assert done.stderr == f"error: {desk.folder}/keys: {DENIED}"
    assert not (desk.folder / "root/build").exists()


def test_json_says_it_too(desk: Desk) -> None:
    desk.close("root/appliances")
    done = desk.run("lock", "NAME", "--json")
    assert done.returncode == 4
    assert done.stderr == f"error: {desk.folder}/root/appliances/{NAME}: {DENIED}"
    assert json.loads(done.stdout or "{}").get("locks", []) == []
