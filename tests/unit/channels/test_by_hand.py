"""docs/how-to/download-by-hand.md, "To download by hand", word for word: for people who have
nothing but curl, sha256sum and minisign.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pages import blocks
from slipway.channels.keys import KeyRing, rotate
from slipway.channels.minisign import public_key, sign, verify
from slipway.channels.moves import promote, publish_all
from slipway.channels.state import Channel, read_channel
from slipway.stores.directory import DirectoryStore

pytestmark = pytest.mark.integration

Build = Callable[..., Path]
ROOT = Path(__file__).parents[3]
RELEASES = "store/releases"


def key_of(ring: KeyRing) -> str:
    """The line that `keys show` prints."""
    text = public_key(ring.public("targets")[0], ring.channel)
    assert text
    return text.splitlines()[1]


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """What people are told to save as download.sh; current.sh is beside it."""
    texts = [
        block.text
        for block in blocks(ROOT / "docs/how-to/download-by-hand.md")
        if block.language == "sh"
    ]
    assert [len(text.splitlines()) > 15 for text in texts] == [True, False]
    for name, text in zip(("download.sh", "current.sh"), texts, strict=True):
        (tmp_path / name).write_text(f"{text}\n")
    return tmp_path / "download.sh"


@pytest.fixture
def shop(store: DirectoryStore, ring: KeyRing, stable: KeyRing, build: Build) -> DirectoryStore:
    """A store with three releases in nightly and the first in stable, too."""

    def nightly() -> Channel:
        return read_channel(store, "nightly", ring.roots[0])

    publish_all(store, ring, [build(1), build(1, "other")])
    publish_all(store, ring, [build(2)])
    promote(store, stable, nightly, "example", "b1")
    return store


def run(
    script: Path, channel: str, key: str, appliance: str, release: str
) -> subprocess.CompletedProcess[str]:
    argv = ["sh", str(script), f"file://{script.parent}/store", channel, key, appliance, release]
    return subprocess.run(
        argv, cwd=script.parent, capture_output=True, text=True, timeout=60, check=False
    )


def copy(folder: Path, old: str, new: str) -> None:
    """Serve a release under the name of another, as a mirror can that has no key."""
    for kind in ("releases", "targets"):
        target = folder / "store" / kind / new
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(folder / "store" / kind / old, target)


@pytest.mark.parametrize("channel", ["nightly", "stable"])
def test_a_release_is_downloaded_and_right(
    shop: DirectoryStore, script: Path, ring: KeyRing, stable: KeyRing, channel: str
) -> None:
    key = key_of(stable if channel == "stable" else ring)
    done = run(script, channel, key, "example", "1.0.0-b1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(": OK\n") == 5
    folder = script.parent / "example-1.0.0-b1"
    assert (folder / "example.qcow2").read_bytes() == b"image 1" * 1000
    assert sorted(path.name for path in folder.iterdir()) == [
        "SHA256SUMS",
        "example.qcow2",
        "example.raw",
        "manifest.json",
        "provenance.intoto.json",
        "sbom.cdx.json",
        "signature",
    ]
    again = run(script, channel, key, "example", "1.0.0-b1")
    assert again.returncode != 0, "a folder that is there is left alone"


@pytest.mark.parametrize(
    ("other", "signed"),
    [
        ("example/1.0.0-b2", "appliance=example release=1.0.0-b2 channel=nightly"),
        ("other/1.0.0-b1", "appliance=other release=1.0.0-b1 channel=nightly"),
    ],
    ids=["another release", "another appliance"],
)
def test_what_a_mirror_serves_under_another_name_is_noticed(
    shop: DirectoryStore, script: Path, ring: KeyRing, other: str, signed: str
) -> None:
    """Every signature and every hash is right; minisign alone says that all is well."""
    copy(script.parent, other, "example/1.0.0-b1")
    folder = script.parent / RELEASES / "example/1.0.0-b1"
    minisign = [
        "minisign",
        "-V",
        "-P",
        key_of(ring),
        "-x",
        f"{folder}/SHA256SUMS.nightly.minisig",
        "-m",
        f"{folder}/SHA256SUMS",
    ]
    subprocess.run(minisign, check=True, capture_output=True, timeout=20)
    done = run(script, "nightly", key_of(ring), "example", "1.0.0-b1")
    assert done.returncode == 1
    assert done.stderr.startswith(f"WRONG: this is signed as: {signed} time=")
    assert "OK" not in done.stdout
    assert sorted(path.name for path in (script.parent / "example-1.0.0-b1").iterdir()) == [
        "SHA256SUMS",
        "signature",
    ]


def test_the_signature_of_another_channel_is_noticed(
    shop: DirectoryStore, script: Path, ring: KeyRing, stable: KeyRing
) -> None:
    folder = script.parent / RELEASES / "example/1.0.0-b2"
    shutil.copy(folder / "SHA256SUMS.nightly.minisig", folder / "SHA256SUMS.stable.minisig")
    done = run(script, "stable", key_of(stable), "example", "1.0.0-b2")
    assert (done.returncode, done.stdout) == (1, "")
    shutil.rmtree(script.parent / "example-1.0.0-b2")
    done = run(script, "stable", key_of(ring), "example", "1.0.0-b2")
    assert done.stderr.startswith(
        "WRONG: this is signed as: appliance=example release=1.0.0-b2 channel=nightly "
    )


@pytest.mark.parametrize(
    "change", ["the list", "the comment", "an image", "a file that is missing"]
)
def test_what_was_altered_is_noticed(
    shop: DirectoryStore, script: Path, ring: KeyRing, change: str
) -> None:
    folder = script.parent / RELEASES / "example/1.0.0-b1"
    (image,) = (script.parent / "store/targets/example/1.0.0-b1").glob("*.qcow2")
    path, old, new = {
        "the list": (folder / "SHA256SUMS", b"example.raw", b"example.rar"),
        "the comment": (folder / "SHA256SUMS.nightly.minisig", b"expires=2", b"expires=3"),
        "an image": (image, b"image 1", b"image 9"),
        "a file that is missing": (image, b"", b""),
    }[change]
    data = path.read_bytes()
    path.unlink()
    if old:
        path.write_bytes(data.replace(old, new))
    assert run(script, "nightly", key_of(ring), "example", "1.0.0-b1").returncode != 0


@pytest.mark.parametrize(("days", "status"), [(364, 0), (367, 1)])
def test_an_expired_signature_is_noticed(
    store: DirectoryStore, script: Path, ring: KeyRing, build: Build, days: int, status: int
) -> None:
    signed = time.time() - days * 86400
    publish_all(store, ring, [build(1)], clock=lambda: signed)
    done = run(script, "nightly", key_of(ring), "example", "1.0.0-b1")
    assert done.returncode == status
    assert done.stderr.startswith("EXPIRED: do not rely on this signature after ") == bool(status)


@pytest.mark.parametrize(
    "names", [None, {"appliance": "example", "release": "1.0.0-b2", "channel": "nightly"}]
)
def test_a_signature_that_names_nothing_is_renewed(
    shop: DirectoryStore, script: Path, ring: KeyRing, build: Build, names: dict[str, str] | None
) -> None:
    """Or that names something else; the first is what earlier versions signed."""
    folder = script.parent / RELEASES / "example/1.0.0-b1"
    (key,), data = ring.public("targets"), (folder / "SHA256SUMS").read_bytes()
    signature = sign(
        data, ring.of("targets")[0], file="SHA256SUMS", expires=time.time() + 86400, about=names
    )
    path = folder / "SHA256SUMS.nightly.minisig"
    path.unlink()
    path.write_bytes(signature or b"")
    assert run(script, "nightly", key_of(ring), "example", "1.0.0-b1").stderr.startswith(
        "WRONG: this is signed as: "
    )
    publish_all(shop, ring, [build(1)])
    comment = verify(data, path.read_bytes(), key)
    assert comment and comment.startswith(
        "appliance=example release=1.0.0-b1 channel=nightly time="
    )


def current(script: Path, channel: str, appliance: str = "example") -> str:
    argv = [
        "sh",
        str(script.with_name("current.sh")),
        f"file://{script.parent}/store",
        channel,
        appliance,
    ]
    return subprocess.run(
        argv, capture_output=True, text=True, timeout=60, check=True
    ).stdout.strip()


def test_the_current_release_is_found_by_hand(shop: DirectoryStore, script: Path) -> None:
    assert (current(script, "nightly"), current(script, "stable")) == ("1.0.0-b2", "1.0.0-b1")
    assert current(script, "nightly", "other") == "1.0.0-b1"


def test_after_a_rotation_older_releases_have_the_old_key_and_newer_ones_the_new(
    shop: DirectoryStore, script: Path, ring: KeyRing, keys: Path, build: Build
) -> None:
    old = key_of(ring)
    after = rotate("nightly", keys, "targets")
    publish_all(shop, after, [build(3)])
    new = key_of(after)
    assert new != old
    assert current(script, "nightly") == "1.0.0-b3"
    assert run(script, "nightly", old, "example", "1.0.0-b2").returncode == 0
    assert run(script, "nightly", new, "example", "1.0.0-b3").returncode == 0
    shutil.rmtree(script.parent / "example-1.0.0-b3")
    assert run(script, "nightly", old, "example", "1.0.0-b3").returncode != 0
