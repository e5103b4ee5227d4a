"""Nothing happens that was not asked for: the commands about channels, as people type and mistype
them.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from example_release import write_example
from slipway.channels.keys import init

ROOT = Path(__file__).parents[2]


def at_its_terminal() -> None:
    """Be a program that a person started, whatever started these tests: a shell's background jobs
    ignore Ctrl-C.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Person:
    """Somebody at a shell, with keys of nightly and stable, and releases 1 to 3 and 10 built
    elsewhere.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.store = folder, folder / "store"
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("SLIPWAY_", "AWS_")) and name != "CI"
        }
        self.environment = {
            **kept,
            "SLIPWAY_STORE": str(self.store),
            "SLIPWAY_KEYS": str(folder / "keys"),
        }
        self.environment |= {
            "SLIPWAY_CACHE": str(folder / "cache"),
            "PYTHONPATH": str(ROOT / "src"),
        }
        self.environment["XDG_STATE_HOME"] = str(folder / "state")
        self.argv = [sys.executable, "-P", "-m", "slipway", f"--search-root={folder}"]

    def run(self, words: str, code: int = 0, **variables: str) -> str:
        """Run a command; returns what it printed, or its error without the lines of progress."""
        environment = self.environment | variables
        done = subprocess.run(
            [*self.argv, *words.split()],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == code, (words, done.stdout, done.stderr)
        lines = [
            line
            for line in done.stderr.splitlines()
            if not line.startswith(("  publish ", "  verify "))
        ]
        return done.stdout if code == 0 else "\n".join(lines)

    def state(self) -> dict[str, bytes]:
        """The store's objects that change."""
        return {
            str(path): path.read_bytes()
            for path in self.store.rglob("*")
            if path.is_file() and "targets" not in path.parts
        }

    def answer(self, words: str, keys: bytes) -> tuple[int, str]:
        """Run a command on a terminal, and type something at its question."""
        controller, terminal = pty.openpty()
        child = subprocess.Popen(
            [*self.argv, *words.split()],
            cwd=self.folder,
            env=self.environment,
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
            preexec_fn=at_its_terminal,
        )
        os.close(terminal)
        text = b""
        while b"[y/N]" not in text:
            text += os.read(controller, 4096)
        time.sleep(0.2)  # readline sets the terminal up
        os.write(controller, keys)
        try:
            while more := os.read(controller, 4096):
                text += more
        except OSError:
            pass  # the terminal is closed
        os.close(controller)
        return child.wait(60), text.decode()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a person has before anything is published, and what is there afterwards."""
    folder = tmp_path_factory.mktemp("made")
    before = folder / "before"
    for number in (1, 2, 3, 10):
        write_example(before / f"builds/{number}", number)
    for channel in ("nightly", "stable"):
        init(channel, before / "keys")
    (before / "templates").symlink_to(ROOT / "templates")
    shutil.copytree(before, folder / "published", symlinks=True)
    person = Person(folder / "published")
    person.run("publish --folder=builds")
    person.run("promote example --to=stable --build=b10 --yes")
    person.run("promote example --to=stable --build=b2 --yes")
    return folder


@pytest.fixture
def person(made: Path, tmp_path: Path) -> Person:
    shutil.copytree(made / "before", tmp_path, symlinks=True, dirs_exist_ok=True)
    return Person(tmp_path)


@pytest.fixture
def published(made: Path, tmp_path: Path) -> Person:
    """All four are in nightly; stable had 10, and now has 2."""
    shutil.copytree(made / "published", tmp_path, symlinks=True, dirs_exist_ok=True)
    return Person(tmp_path)


def test_the_newest_of_several_is_current_whatever_its_name(person: Person) -> None:
    assert person.run("publish --folder=builds").startswith(
        "example: nightly now has 1.0.0-b10 (before: none)\n"
    )
    (person.folder / "more").mkdir()
    write_example(person.folder / "more/4", 4)
    (person.folder / "builds/10").rename(person.folder / "more/10")
    assert "nightly now has 1.0.0-b10" in person.run("publish --folder=more")


def test_one_bad_release_does_not_stop_the_others(person: Person) -> None:
    person.run("publish --folder=builds/1")
    person.run("withdraw example --build=b1 --reason=no --yes")
    manifest = person.folder / "builds/2/manifest.json"
    manifest.chmod(0o644)
    manifest.write_text("{}")
    said = person.run("publish --folder=builds", 6)
    assert said.startswith(
        "error: 2 releases were not published:\n"
        "  example 1.0.0-b1: example 1.0.0-b1 was withdrawn from nightly: no\n"
    )
    assert said.endswith("\n  hint: the others were")
    _, held = person.run("channels").splitlines()
    assert held == "nightly  example    1.0.0-b10  2 releases  1 withdrawn"


def test_an_older_release_that_becomes_current_is_said_to_be(published: Person) -> None:
    older = "  1.0.0-b4 is older than {0}; to go back: invoke rollback example --channel {1}\n"
    write_example(published.folder / "more/4", 4)
    said = published.run("publish --folder=more")
    assert said.startswith(
        "example: nightly now has 1.0.0-b4 (before: 1.0.0-b10)\n"
        + older.format("1.0.0-b10", "nightly")
    )
    assert (
        published.run("rollback example --channel=nightly --yes")
        == "example: nightly now has 1.0.0-b10 (before: 1.0.0-b4)\n"
    )
    published.run("promote example --to=stable --yes")
    said = published.run("promote example --to=stable --build=b4 --yes")
    assert said.endswith(
        "example: stable now has 1.0.0-b4 (before: 1.0.0-b10)\n"
        + older.format("1.0.0-b10", "stable")
    )


def test_what_is_withdrawn_is_named_and_from_where(published: Person) -> None:
    withdraw = "withdraw example --reason=clock --yes --build="
    assert published.run(withdraw + "b3") == "example 1.0.0-b3 is withdrawn from nightly\n"
    assert published.run(withdraw + "b3") == "example 1.0.0-b3 was withdrawn already: clock\n"
    assert published.run(withdraw + "b2") == (
        "example 1.0.0-b2 is withdrawn from stable, nightly\n"
        "example: stable now has 1.0.0-b10 (before: 1.0.0-b2)\n"
    )


def test_who_fetches_is_told_of_withdrawn_images_in_the_same_folder(published: Person) -> None:
    published.run("fetch example --out=images")
    published.run("withdraw example --build=b2 --reason=slow --yes")
    command = [*published.argv, "fetch", "example", "--out=images"]
    for words in (command, [*command, "--json"]):
        done = subprocess.run(
            words,
            cwd=published.folder,
            env=published.environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        warning = "warning: images/example-1.0.0-b2.amd64.qcow2 was withdrawn from stable: slow\n"
        assert done.stderr.endswith(warning)
    left = {"path": "images/example-1.0.0-b2.amd64.qcow2", "release": "1.0.0-b2", "reason": "slow"}
    assert json.loads(done.stdout)["withdrawn"] == [left]


DRY: list[tuple[str, str]] = [
    (
        "publish --folder=more",
        "would publish example 1.0.0-b4 into nightly, with 1.0.0-b4 as the current one (before: "
        "1.0.0-b10); 1.0.0-b4 is older than 1.0.0-b10\n",
    ),
    (
        "promote example --build=b1 --to=stable",
        "  nginx 1.2 -> 1.1\nwould promote example 1.0.0-b1 from nightly to stable, in place of "
        "1.0.0-b2; 1.0.0-b1 is older than 1.0.0-b2\n",
    ),
    (
        "rollback example",
        "would roll example in stable back from 1.0.0-b2 to 1.0.0-b10; 1.0.0-b10 is newer\n",
    ),
    (
        "withdraw example --build=b2 --reason=no",
        "would withdraw example 1.0.0-b2 for good, from stable, nightly\n",
    ),
    ("refresh", "would sign stable anew\nwould sign nightly anew\n"),
    ("refresh stable", "would sign stable anew\n"),
    ("channels remove stable --force", "would remove the channel stable from {store} for good: "),
    (
        "catalog",
        (
            "left out: example 1.0.0-b2 in stable: it was made as qcow2, raw, and indexes "
            "show incus and ova\n"
        ),
    ),
    (
        "keys rotate stable --role=targets",
        (
            "would replace the targets key of stable in {keys}/stable; the next refresh "
            "tells the store\n"
        ),
    ),
    ("prune", "nothing to drop from stable, nightly\n"),
    ("gc", "0 objects, 0 B; 0 unfinished uploads\n"),
]


def test_a_dry_run_says_what_the_question_says_and_changes_nothing(published: Person) -> None:
    write_example(published.folder / "more/4", 4)
    keys = {path: path.read_bytes() for path in (published.folder / "keys").rglob("*.pem")}
    before = published.state()
    for words, said in DRY:
        wanted = said.format(store=published.store, keys=published.folder / "keys")
        assert published.run(f"{words} --dry-run").startswith(wanted), words
    assert published.state() == before
    assert {path: path.read_bytes() for path in (published.folder / "keys").rglob("*.pem")} == keys


def test_a_rollback_to_what_is_current_is_none(published: Person) -> None:
    current = "leave example in stable as it is: 1.0.0-b2 is current already"
    assert published.run("rollback example --build=b2 --dry-run") == f"would {current}\n"


def test_rollback_is_what_was_current_before(published: Person) -> None:
    assert (
        published.run("rollback example --yes")
        == "example: stable now has 1.0.0-b10 (before: 1.0.0-b2)\n"
    )
    assert published.run("rollback example --yes", 6) == (
        "error: stable has no release of example to go back to: 1.0.0-b10 is the first\n"
        "  hint: see: invoke channels"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("promote exmaple --to=stable --yes", "nightly has no release of exmaple"),
        ("promote exmaple --to=stable --build=b2 --yes", "nightly has no release b2 of exmaple"),
        ("promote exmaple --to=stable --dry-run", "nightly has no release of exmaple"),
        ("rollback exmaple --yes", "stable has no release of exmaple"),
        ("rollback exmaple --build=b2 --yes", "stable has no release b2 of exmaple"),
        ("withdraw exmaple --build=b2 --reason=x --yes", "no channel has a release b2 of exmaple"),
        ("fetch exmaple", "stable has no exmaple"),
        ("export exmaple --format=ova", "stable has no exmaple"),
    ],
)
def test_a_mistyped_appliance_is_named_as_it_is_in_the_channel(
    published: Person, words: str, message: str
) -> None:
    assert published.run(words, 6) == f'error: {message}\n  hint: did you mean "example"?'


@pytest.mark.parametrize(
    "keys", [b"n\n", b"\n", b"\x03", b"\x04"], ids=["n", "enter", "ctrl-c", "ctrl-d"]
)
def test_no_is_no_however_it_is_said(published: Person, keys: bytes) -> None:
    before = published.state()
    code, said = published.answer("rollback example", keys)
    assert (
        "roll example in stable back from 1.0.0-b2 to 1.0.0-b10; 1.0.0-b10 is newer? [y/N]" in said
    )
    assert (code, said.splitlines()[-1]) == (130, "nothing was changed")
    assert published.state() == before


def test_a_channel_is_made_by_its_keys_and_a_name_by_mistake_is_none(published: Person) -> None:
    store = published.store
    for words in (
        "publish --folder=builds --channel=nightli",
        "promote example --to=nightli",
    ):
        assert published.run(words, 4) == (
            f"error: there is no channel nightli in {store}, and no keys of it\n"
            '  hint: did you mean "nightly"?'
        ), words
    for words in ("refresh nightli", "prune nightli", "verify nightli"):
        assert published.run(words, 6) == (
            f'error: {store} has no channel nightli\n  hint: did you mean "nightly"?'
        ), words
    # What only renews or looks makes no channel, so no hint proposes a new one.
    for words in ("refresh nope", "prune nope", "verify nope", "refresh stable nope"):
        assert published.run(words, 6) == (
            f"error: {store} has no channel nope\n  hint: choose from: stable, nightly"
        ), words
    assert published.run("publish --folder=builds --channel=x", 4).endswith(
        "\n  hint: choose from: stable, nightly; a new one is made by: invoke keys init x"
    )
    assert not (store / "metadata/nightli").exists()
    (published.folder / "keys/stable").rename(published.folder / "elsewhere")
    assert "keys init" not in published.run("refresh stable", 4)


def test_pages_that_are_missing_are_made_where_they_were_looked_for(published: Person) -> None:
    store = published.store
    assert published.run("serve", 6) == (
        f"error: {store} has no pages\n  hint: run: invoke catalog --store={store}"
    )


def test_a_channel_that_is_not_trusted_is_a_line(published: Person) -> None:
    (published.folder / "keys/stable").rename(published.folder / "elsewhere")
    unknown = "no trusted root for channel stable"
    assert published.run("channels") == (
        "CHANNEL  APPLIANCE  CURRENT    RELEASES\nnightly  example    1.0.0-b10  4 releases\n"
        f"stable  not trusted here: {unknown}\n"
    )
    assert published.run("verify").startswith(f"stable: not looked at: {unknown}\nnightly: ")
    assert published.run("gc").endswith(
        f"\nstable  not trusted here, so every release is kept: {unknown}\n"
    )
    assert published.run("catalog").startswith(f"left out: stable: {unknown}\n")
    assert published.run("verify stable", 4).startswith(f"error: {unknown}\n")


@pytest.mark.parametrize("words", ["refresh", "refresh --dry-run", "prune", "verify", "catalog"])
def test_what_can_do_nothing_at_all_is_no_success(published: Person, words: str) -> None:
    """No keys, or no root, of any channel are here: as with an empty secret in CI."""
    before = published.state()
    said = published.run(words, 4, SLIPWAY_KEYS=str(published.folder / "nothing"))
    trusted = f"no channel of {published.store} is trusted here, so"
    root = (
        "\n  hint: put the root of a channel, from its publisher, into "
        f"{published.folder}/trust/CHANNEL.root.json"
    )
    keyless = (
        f"error: no channel of {published.store} has its keys here\n"
        "  hint: they are where they were made: name that folder, --keys DIR or SLIPWAY_KEYS, "
        "or set SLIPWAY_KEY_BUNDLE"
    )
    wanted = {
        "verify": f"error: {trusted} nothing was looked at: stable, nightly{root}",
        "catalog": f"error: {trusted} no index is written: stable, nightly{root}",
    }
    assert said == wanted.get(words, keyless)
    assert published.state() == before


def test_a_channel_can_be_removed_and_leaves_nothing(published: Person) -> None:
    init("odd", published.folder / "keys")
    published.run("publish --folder=builds/1 --channel=odd")
    assert (
        published.run("channels remove od", 6)
        == f'error: {published.store} has no channel od\n  hint: did you mean "odd"?'
    )
    assert published.run("channels remove odd --yes", 6) == (
        "error: the channel odd may still be used: it has releases of example\n"
        "  hint: if nobody relies on it: invoke channels remove odd --force"
    )
    # as far as a removal came that was killed
    (published.store / "metadata/odd/timestamp.json").unlink()
    assert published.run("channels remove odd --yes").startswith("odd is removed")
    assert [path for path in published.store.rglob("*") if "odd" in path.name] == []
    assert published.run("channels").count("\n") == 3
    published.run("verify")


@pytest.mark.parametrize(
    "variables", [{"CI": "true"}, {"SLIPWAY_KEY_BUNDLE": "{}"}], ids=["ci", "bundle"]
)
def test_no_store_is_no_green_night(person: Person, variables: dict[str, str]) -> None:
    reason = next(iter(variables))
    for words in (
        "publish --folder=builds",
        "refresh",
        "prune",
        "channels",
        "verify",
        "gc",
        "nightly",
    ):
        store = "" if words != "channels" else "  "
        assert person.run(words, 4, SLIPWAY_STORE=store, **variables) == (
            f"error: no store is named, and {reason} is set: nothing is kept in a folder "
            "of this machine\n"
            "  hint: set SLIPWAY_STORE, which is empty or unset; or give --store, or store = "
            '"..." in slipway.toml'
        ), words
    assert not (person.folder / "build").exists()


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("SLIPWAY_MIROR", 'did you mean "SLIPWAY_MIRROR"?'),
        ("SLIPWAY_ZZZ", "invoke --help shows which there are"),
    ],
)
def test_a_variable_that_means_nothing_is_named(
    published: Person, variable: str, hint: str
) -> None:
    environment = published.environment | {variable: "x"}
    argv = [sys.executable, "-P", "-m", "slipway", f"--search-root={published.folder}", "channels"]
    done = subprocess.run(
        argv, cwd=published.folder, env=environment, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (
        0,
        f"warning: {variable} is set and means nothing: {hint}\n",
    )


def test_a_channel_named_twice_is_signed_and_read_once(published: Person) -> None:
    timestamp = published.store / "metadata/nightly/timestamp.json"
    before = json.loads(timestamp.read_text())["signed"]["version"]
    assert published.run("refresh nightly nightly").count("nightly") == 1
    assert json.loads(timestamp.read_text())["signed"]["version"] == before + 1
    assert published.run("verify nightly nightly") == published.run("verify nightly")


def test_a_version_that_is_unique_names_its_release(published: Person) -> None:
    assert published.run("promote example --build=1.0.0 --to=stable --yes", 2) == (
        "error: 1.0.0 may be several releases of example\n"
        "  hint: name one: 1.0.0-b1, 1.0.0-b2, 1.0.0-b3, 1.0.0-b10"
    )


def test_the_first_publication_of_a_new_machine_makes_the_default_channel_and_nothing_else_does(
    person: Person,
) -> None:
    (person.folder / "keys").rename(person.folder / "others")
    keys, unnamed = person.folder / "keys/nightly", {"SLIPWAY_STORE": ""}
    place = person.folder / "build/store"
    for words, variables, store in (
        ("publish --folder=builds/1 --channel=stable", unnamed, place),
        ("publish --folder=builds/1", {}, person.store),
        (f"publish --folder=builds/1 --store={place}", unnamed, place),
    ):
        channel = "stable" if "stable" in words else "nightly"
        assert person.run(words, 4, **variables) == (
            f"error: there is no channel {channel} in {store}, and no keys of it\n"
            f"  hint: a new one is made by: invoke keys init {channel}"
        ), words
    assert person.run("publish --folder=builds/1 --dry-run", 0, **unnamed) == (
        f"would make keys of the channel nightly in {keys}\n"
        "would publish example 1.0.0-b1 into nightly, with 1.0.0-b1 as the current one "
        "(before: none)\n"
    )
    assert not keys.parent.exists()
    assert person.run("publish --folder=builds/1", 0, **unnamed).startswith(
        "example: nightly now has 1.0.0-b1 (before: none)\n"
    )
    assert len(list(keys.glob("*.pem"))) == 4
    (person.folder / "keys").rename(person.folder / "lost")
    assert "there are no keys of the channel nightly" in person.run(
        "publish --folder=builds/2", 4, **unnamed
    )
    assert not keys.exists()
