"""What is wrong on the command line is found before anything else: before a lock, a build, a store,
keys or a question.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from example_release import write_example
from slipway.channels.keys import init
from slipway.spec.library import Library

ROOT = Path(__file__).parents[2]
FORMATS = "choose from: incus, libvirt, oci, ova, proxmox, qcow2, raw, rootfs, vhd, vhdx, vmdk"
ARM = 'the base debian-13 is not for the architecture "arm"'
TWICE, ONCE = 'the parameter "{}" is given twice', "give it once, with --set or --set-file"
PARAMETERS = """
parameters:
  - {name: site, type: hostname, default: web.test, summary: The name of the site}
  - {name: password, type: secret, generate: 24, summary: A password}
"""
#: Runs command lines one after the other in one process: most of a command's time is its start.
SCRIPT = """
import contextlib, io, json, sys
from pathlib import Path
from slipway.commandline.program import main
for words in json.loads(sys.stdin.read()):
    before, said, error, code = set(Path().rglob("*")), io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stderr(error), contextlib.redirect_stdout(said):
        try:
            main(["slipway", "--search-root=.", *words.split()])
        except SystemExit as ended:
            code = ended.code
    made = sorted(str(path) for path in set(Path().rglob("*")) - before if "home" not in path.parts)
    print(json.dumps([code, said.getvalue(), error.getvalue(), made]), flush=True)
"""
#: Words, what is said about them, and the hint.
WRONG = [
    ("start web --set =y", "--set needs name=value", ""),
    ("start web --set y", "--set needs name=value", ""),
    ("start web --set sight=y", 'web has no parameter "sight"', 'did you mean "site"?'),
    ("start web --set site=a..b", 'site: "a..b" is not accepted',
     'it has to be a host name, such as "mail.example.org"'),
    ("start web --set site=a --set site=b", TWICE.format("site"), ONCE),
    ("start web --set password=a --set-file password=secret", TWICE.format("password"), ONCE),
    ("start web --set-file secret", '--set-file needs name=PATH, not "secret"', ""),
    ("start web --set-file password=", '--set-file needs name=PATH, not "password="', ""),
    ("start web --set-file =secret", '--set-file needs name=PATH, not "=secret"', ""),
    ("start web --set-file password=nowhere", "there is no file nowhere",
     "--set-file needs name=PATH"),
    ("start web --set-file password=appliances", "appliances is a folder",
     "--set-file needs name=PATH, with the path of a file"),
    ("start web --set-file password=latin", "latin:2: this is not UTF-8",
     "save it as UTF-8; a value is text"),
    ("start web --set-file password=large", "large has more than 1048576 bytes",
     "a value is a line of text"),
    ("start web --keep ../x", '"../x" is not a name for a snapshot',
     "lower-case letters, digits, dots and hyphens"),
    ("plan web --arch arm", ARM, "it is for: amd64, arm64"),
    ("lock web --arch arm", ARM, "it is for: amd64, arm64"),
    ("build web --arch arm", ARM, "it is for: amd64, arm64"),
    ("nightly web --no-publish --arch arm", ARM, "it is for: amd64, arm64"),
    ("nightly web --builder nope", 'there is no builder "nope"', "choose from: mmdebstrap, packer"),
    ("build web --builder nope", 'there is no builder "nope"', "choose from: mmdebstrap, packer"),
    ("publish web --builder nope", 'there is no builder "nope"', "choose from: mmdebstrap, packer"),
    ("build web --publish --format nope", 'there is no format "nope"', FORMATS),
    ("build web --format qcow2,ova", '"qcow2,ova" is no format',
     "give the option once for each: --format qcow2 --format ova"),
    ("reproduce web --format ovb", 'there is no format "ovb"', 'did you mean "ova"?'),
    ("releases web --format ovb", 'there is no format "ovb"', 'did you mean "ova"?'),
    ("publish web --format ovb", 'there is no format "ovb"', 'did you mean "ova"?'),
    ("fetch web --format ovb", 'there is no format "ovb"', 'did you mean "ova"?'),
    ("export web --format ovb", 'there is no format "ovb"', 'did you mean "ova"?'),
    ("export web --format qcow2,ova", '"qcow2,ova" is no format',
     "give the option once for each: --format qcow2 --format ova"),
    ("render web --source nope", "mmdebstrap builds for no platform in particular",
     "--source goes with --builder packer"),
    ("build web --built nowhere", "there is no folder nowhere",
     "--built needs an existing folder"),
    ("cache prune --limit -1", "--limit goes with cache prune, and needs a number from 0 on", ""),
    ("keys init nightly --role root", "--role does not go with: keys init",
     "it goes with: keys rotate"),
    ("keys show nightly --online", "--online does not go with: keys show",
     "it goes with: keys export"),
    ("keys export nightly --threshold 2", "--threshold does not go with: keys export",
     "it goes with: keys init"),
    ("keys rotate nightly --role rot", 'there is no role "rot"',
     "choose from: root, targets, snapshot, timestamp"),
]  # fmt: skip


def desk(folder: Path) -> Path:
    """Make a checkout with an appliance that has no lock and is not built.

    There is no store, and there are no keys.
    """
    (folder / "templates").symlink_to(ROOT / "templates")
    appliance = Library(folder).new("web")
    text = (appliance / "appliance.yaml").read_text()
    assert "parameters:" not in text
    (appliance / "appliance.yaml").write_text(text + PARAMETERS)
    (folder / "latin").write_bytes(b"first\nGr\xfc\xdfe\n")
    (folder / "secret").write_text("0123456789\n")
    (folder / "large").write_bytes(b"x" * ((1 << 20) + 1))
    return folder


def run(folder: Path, *argv: str, told: str = "") -> subprocess.CompletedProcess[str]:
    """Run Python as somebody whose home is in the folder."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    environment = {**kept, "HOME": str(folder / "home"), "PYTHONPATH": str(ROOT / "src")}
    return subprocess.run(
        [sys.executable, "-P", *argv],
        cwd=folder,
        env=environment,
        input=told,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str, str, list[str]]]:
    """What every wrong command line ends with, prints and leaves."""
    lines = [words for words, _, _ in WRONG]
    done = run(desk(tmp_path_factory.mktemp("desk")), "-c", SCRIPT, told=json.dumps(lines))
    found = [tuple(json.loads(line)) for line in done.stdout.splitlines()]
    return dict(zip(lines, found, strict=True))


@pytest.mark.parametrize(("words", "message", "hint"), WRONG, ids=[words for words, _, _ in WRONG])
def test_wrong_words_are_the_first_thing_that_is_said(
    answers: dict[str, tuple[int, str, str, list[str]]], words: str, message: str, hint: str
) -> None:
    said = f"error: {message}\n" + (f"  hint: {hint}\n" if hint else "")
    assert answers[words] == (2, "", said, [])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("nightly wep", 'error: there is no appliance "wep"\n'),
        ("nightly web --arch arm", f"error: {ARM}\n"),
    ],
)
def test_a_night_of_wrong_words_makes_no_keys(tmp_path: Path, words: str, said: str) -> None:
    folder = desk(tmp_path)
    done = run(folder, "-m", "slipway", *words.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(said)
    assert not (folder / "build").exists()
    assert not list((folder / "home").glob(".config/slipway/keys/*"))


def test_a_night_that_built_nothing_makes_no_keys_and_keeps_a_channel_alive(tmp_path: Path) -> None:
    folder = desk(tmp_path)
    keys = folder / "home/.config/slipway/keys"
    (folder / "appliances/web/appliance.yaml").write_text("schema: 1\n")
    assert run(folder, "-m", "slipway", "nightly", "web").returncode == 3
    assert not (folder / "build").exists()
    assert not keys.exists()
    init("nightly", keys)
    write_example(folder / "builds/1", 1)
    assert run(folder, "-m", "slipway", "publish", "--folder", "builds").returncode == 0
    timestamp = folder / "build/store/metadata/nightly/timestamp.json"
    before = timestamp.read_bytes()
    done = run(folder, "-m", "slipway", "nightly", "web")
    assert (done.returncode, done.stdout) == (3, "* nothing new to publish\n")
    assert timestamp.read_bytes() != before
