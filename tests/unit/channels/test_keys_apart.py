"""Keys apart: what runs every night has no key that could change what a channel holds."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from slipway.channels.expiry import require_fresh
from slipway.channels.keys import (
    BUNDLE,
    ONLINE,
    PASSPHRASE_FILE,
    KeyRing,
    MissingKeys,
    Secret,
    export,
    init,
    load_ring,
    passphrase,
    protect,
    rotate,
    trusted_root,
)
from slipway.channels.moves import publish_all
from slipway.channels.session import Session
from slipway.channels.state import read_channel
from slipway.channels.upkeep import refresh, warnings
from slipway.errors import HostError, UserError, VerificationError
from slipway.stores.directory import DirectoryStore
from store_faults import CountingStore
from tuf_judge import Judge

pytestmark = pytest.mark.integration

Build = Callable[..., Path]
SEEN = {"root": 1, "timestamp": 4, "snapshot": 4, "sha256": "0" * 64, "time": 0, "highest": 1}
DAY = 86400
IMAGE = "example/1.0.0-b1/example.qcow2"


@pytest.fixture(autouse=True)
def _no_passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test begins without an answer."""
    monkeypatch.setattr(passphrase, "_known", {})
    monkeypatch.delenv(PASSPHRASE_FILE, raising=False)


def name_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str = "correct horse\n"
) -> Path:
    path = tmp_path / "passphrase"
    path.write_text(text)
    path.chmod(0o600)
    monkeypatch.setenv(PASSPHRASE_FILE, str(path))
    return path


def private_parts(ring: KeyRing) -> list[str]:
    """The lines of every private key of a folder, and the raw bytes as text."""
    assert ring.folder
    lines = []
    for path in ring.folder.glob("*.pem"):
        lines += [line for line in path.read_text().splitlines() if not line.startswith("-")]
    return lines


# --- online and offline ---------------------------------------------------------------------------


def online(ring: KeyRing, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> KeyRing:
    """The same channel as the nightly schedule has it."""
    monkeypatch.setenv(BUNDLE, export(ring, ONLINE))
    return load_ring(ring.channel, tmp_path / "nowhere")


def test_an_online_export_has_no_private_key_but_those_of_timestamp_and_snapshot(
    stable: KeyRing,
) -> None:
    signers = json.loads(export(stable, ONLINE))["signers"]
    assert {role for role, entries in signers.items() for entry in entries if "pem" in entry} == {
        "snapshot",
        "timestamp",
    }
    signers = json.loads(export(stable, ("targets",)))["signers"]
    assert {role for role, entries in signers.items() for entry in entries if "pem" in entry} == {
        "targets"
    }
    with pytest.raises(UserError, match="a root key is never in a bundle"):
        export(stable, ("root",))


def test_stable_lives_by_refreshes_without_the_targets_key(
    stable: KeyRing,
    store: DirectoryStore,
    build: Build,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = store.now()
    publish_all(store, stable, [build(1)], clock=lambda: start)
    nightly = online(stable, monkeypatch, tmp_path)
    assert not nightly.has("targets")
    for day in range(1, 45, 4):
        done = refresh(store, nightly, clock=lambda day=day: start + day * DAY)  # type: ignore[misc]
        assert warnings(done.channel, nightly, lambda day=day: start + day * DAY) == []  # type: ignore[misc]
    channel = read_channel(store, "stable", stable.roots[0])
    assert channel.shelf("example").current == "1.0.0-b1"
    require_fresh(channel, start + 47 * DAY)


def test_a_refresh_says_in_time_that_the_targets_key_is_needed(
    stable: KeyRing,
    store: DirectoryStore,
    build: Build,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = 1_800_000_000
    publish_all(store, stable, [build(1)], clock=lambda: start)
    nightly = online(stable, monkeypatch, tmp_path)
    now = start
    said: list[str] = []
    session = Session(
        store=store,
        keys=tmp_path / "nowhere",
        trust=tmp_path,
        memory=tmp_path / "seen",
        clock=lambda: now,
    )
    for day in (6, 12, 18, 24, 30, 36, 42, 48):
        now = start + day * DAY
        assert session.refresh(["stable"], said.append) == ["stable"]
    assert said == [
        "the targets metadata of the channel stable ends on 2027-04-15, and the targets key is "
        "not here: where it is kept, run: invoke refresh --channel stable"
    ]
    for day in (54, 60, 66, 72):
        refresh(store, nightly, clock=lambda day=day: start + day * DAY)  # type: ignore[misc]
    now = start + 77 * DAY
    with pytest.raises(HostError) as caught:
        session.refresh(["stable"])
    assert str(caught.value) == (
        "error: the targets metadata of the channel stable ends on 2027-04-15, and the targets "
        "key is not here\n"
        "  hint: where that key is kept, run: invoke refresh --channel stable"
    )
    timestamp = read_channel(store, "stable", stable.roots[0]).timestamp
    assert timestamp
    assert timestamp.signed.expires.timestamp() == now + 7 * DAY  # all that could be done was done
    monkeypatch.delenv(BUNDLE)
    refresh(store, stable, clock=lambda: now)
    require_fresh(read_channel(store, "stable", stable.roots[0]), now)


def test_what_needs_the_targets_key_is_refused_before_anything_is_written(
    keys: Path,
    stable: KeyRing,
    store: DirectoryStore,
    build: Build,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    publish_all(store, stable, [build(1)])
    publish_all(store, stable, [build(2)])
    next((keys / "stable").glob("targets-*.pem")).unlink()
    ring = load_ring("stable", keys)
    counting = CountingStore(store)
    session = Session(store=counting, keys=keys, trust=tmp_path, memory=tmp_path / "seen")
    for act in (
        lambda: publish_all(session.store, ring, [build(3)], **session.around("stable")),
        lambda: session.rollback("example", "stable", "b1"),
    ):
        with pytest.raises(MissingKeys) as caught:
            act()
        assert str(caught.value) == (
            "error: the targets key of the channel stable is not here\n"
            "  hint: do this where it is kept"
        )
    assert counting.writes == []
    refresh(store, ring)


def test_new_online_keys_need_the_root_key_alone(
    keys: Path, stable: KeyRing, store: DirectoryStore, build: Build, tmp_path: Path
) -> None:
    publish_all(store, stable, [build(1)])
    next((keys / "stable").glob("targets-*.pem")).unlink()
    after = rotate("stable", keys, "timestamp")
    refresh(store, after)
    assert Judge(store, "stable", stable.roots[0], tmp_path / "judge").has(IMAGE)


def test_two_bundles_of_a_channel_count_together(
    stable: KeyRing,
    store: DirectoryStore,
    build: Build,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(BUNDLE, f"{export(stable, ONLINE)}\n\n{export(stable, ('targets',))}\n")
    publish_all(store, load_ring("stable", tmp_path / "nowhere"), [build(1)])
    assert Judge(store, "stable", stable.roots[0], tmp_path / "judge").has(IMAGE)
    whole = json.loads(export(stable, ONLINE))
    for wrong in (
        {"channel": "stable"},
        {**whole, "seen": []},
        {**whole, "seen": {store.url: {}}},
        {**whole, "seen": {store.url: {**SEEN, "timestamp": "4"}}},
    ):
        monkeypatch.setenv(BUNDLE, json.dumps(wrong))
        with pytest.raises(HostError) as caught:
            load_ring("stable", tmp_path / "nowhere")
        assert str(caught.value) == (
            f"error: line 1 of {BUNDLE} is not what `invoke keys export` prints\n"
            "  hint: make it with: invoke keys export stable"
        )


# --- the root's end -------------------------------------------------------------------------------


def test_a_refresh_warns_before_a_roots_end_and_fails_after_it(
    keys: Path, store: DirectoryStore, build: Build, tmp_path: Path
) -> None:
    start = 1_800_000_000
    now = start
    ring = init("stable", keys, now=start)
    publish_all(store, ring, [build(1)], clock=lambda: start)
    session = Session(
        store=store, keys=keys, trust=tmp_path, memory=tmp_path / "seen", clock=lambda: now
    )
    said: list[str] = []
    for day in [*range(6, 334, 6), 335]:
        now = start + day * DAY
        session.refresh(["stable"], said.append)
    assert said == []
    for day in range(336, 365, 6):
        now = start + day * DAY
        session.refresh(["stable"], said.append)
    assert {
        re.sub(r", in \d+ days \(this host's clock says [-0-9]+ 08:00 UTC\)", "", line)
        for line in said
    } == {
        "the root of the channel stable ends on 2028-01-15: where its root keys are, run: "
        "invoke keys rotate stable --role root, then: invoke refresh --channel stable"
    }
    before = sorted(status.key for status in store.list(""))
    now = start + 365 * DAY
    with pytest.raises(VerificationError) as caught:
        session.refresh(["stable"])
    assert str(caught.value) == (
        "error: the root of the channel stable ended on 2028-01-15: nobody accepts what is signed "
        "now; this host's clock says 2028-01-15 08:00 UTC\n"
        "  hint: where its root keys are: invoke keys rotate stable --role root, then: "
        "invoke refresh --channel stable"
    )
    assert sorted(status.key for status in store.list("")) == before
    rotate("stable", keys, "root", now=now)
    assert session.refresh(["stable"]) == ["stable"]


# --- passphrases ----------------------------------------------------------------------------------


def test_targets_and_root_are_under_a_passphrase_that_openssl_knows(
    keys: Path, tmp_path: Path
) -> None:
    init("stable", keys, passphrase=Secret(b"correct horse"))
    plain = {
        path.name.partition("-")[0]
        for path in (keys / "stable").glob("*.pem")
        if b"ENCRYPTED" not in path.read_bytes()
    }
    assert plain == {"snapshot", "timestamp"}
    path = next((keys / "stable").glob("targets-*.pem"))
    shown = subprocess.run(
        ["openssl", "asn1parse", "-in", str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert ":scrypt" in shown.stdout or "1.3.6.1.4.1.11591.4.11" in shown.stdout
    argv = ["openssl", "pkey", "-in", str(path), "-noout", "-passin"]
    assert (
        subprocess.run([*argv, "pass:correct horse"], capture_output=True, timeout=60).returncode
        == 0
    )
    assert subprocess.run([*argv, "pass:another"], capture_output=True, timeout=60).returncode != 0


def test_a_passphrase_comes_from_a_file_and_a_wrong_one_is_an_error(
    keys: Path, store: DirectoryStore, build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring = init("stable", keys, passphrase=Secret(b"correct horse"))
    path = name_file(tmp_path, monkeypatch, "wrong\n")
    name = next((keys / "stable").glob("targets-*.pem")).name
    with pytest.raises(HostError) as caught:
        publish_all(store, ring, [build(1)])
    assert caught.value.exit_code == 4
    assert str(caught.value) == (
        f"error: the passphrase of stable/{name} is wrong\n"
        f"  hint: try again, or check the file that {PASSPHRASE_FILE} names"
    )
    path.write_text("correct horse\n")
    publish_all(store, load_ring("stable", keys), [build(1)])
    monkeypatch.setattr(passphrase, "_known", {})
    path.chmod(0o644)
    with pytest.raises(HostError, match="passphrase can be read by others"):
        load_ring("stable", keys).of("targets")
    path.chmod(0o600)
    path.write_text("\n")
    with pytest.raises(HostError, match="has no passphrase in its first line"):
        load_ring("stable", keys).of("targets")


def test_a_refresh_asks_nobody(
    keys: Path, store: DirectoryStore, build: Build, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    start = 1_800_000_000
    path = name_file(tmp_path, monkeypatch)
    publish_all(
        store,
        init("stable", keys, passphrase=Secret(b"correct horse")),
        [build(1)],
        clock=lambda: start,
    )
    monkeypatch.setattr(passphrase, "_known", {})
    monkeypatch.delenv(PASSPHRASE_FILE)
    for day in (6, 12, 18, 24, 30, 36, 42, 48):
        done = refresh(store, load_ring("stable", keys), clock=lambda day=day: start + day * DAY)  # type: ignore[misc]
    assert (
        "the targets key is not here"
        in warnings(done.channel, load_ring("stable", keys), lambda: start + 48 * DAY)[0]
    )
    with pytest.raises(HostError) as caught:
        load_ring("stable", keys).of("targets")
    assert caught.value.message.endswith(".pem cannot be asked for: not a terminal")
    assert path.exists()


def test_keys_get_a_passphrase_later(
    keys: Path, stable: KeyRing, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert [
        name.partition("-")[0] for name in protect("stable", keys, Secret(b"correct horse"))
    ] == ["stable/root", "stable/targets"]
    assert protect("stable", keys, Secret(b"correct horse")) == []
    name_file(tmp_path, monkeypatch)
    assert "pem" in json.loads(export(load_ring("stable", keys)))["signers"]["targets"][0]
    after = rotate("stable", keys, "targets", passphrase=Secret(b"correct horse"))
    assert after.of("targets")


# --- root keys ------------------------------------------------------------------------------------


def test_three_root_keys_are_in_three_folders_and_some_of_them_are_enough(
    keys: Path, tmp_path: Path
) -> None:
    ring = init("stable", keys, root_keys=3, threshold=2)
    assert not list((keys / "stable").glob("root-*"))
    assert len(ring.places) == 3
    assert all(
        [path.name.partition("-")[0] for path in place.iterdir()] == ["root"]
        for place in ring.places
    )
    assert all(stat.S_IMODE(place.stat().st_mode) == 0o700 for place in ring.places)
    moved = [place.rename(tmp_path / f"stick-{number}") for number, place in enumerate(ring.places)]
    with pytest.raises(HostError, match="the root key of the channel stable is not here"):
        rotate("stable", keys, "targets")
    with pytest.raises(HostError, match="2 root keys of the channel stable must sign"):
        rotate("stable", keys, "targets", places=(moved[0],))
    rotate("stable", keys, "targets", places=(moved[0], moved[2]))
    after = rotate("stable", keys, "root", places=(moved[0], moved[1]))
    assert len(list(keys.glob("stable.root-*/root-*.pem"))) == 3
    assert len(after.of("root")) == 3
    # what was moved away is its owner's
    assert all(list(place.glob("root-*.pem")) for place in moved)
    with pytest.raises(UserError, match="there is no folder"):
        load_ring("stable", keys, places=(tmp_path / "none",))


# --- who can write --------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o020, 0o002])
@pytest.mark.parametrize("what", ["signers.json", "1.root.json", ".", ".."])
def test_keys_that_others_can_write_are_refused(
    keys: Path, stable: KeyRing, what: str, mode: int
) -> None:
    path = (keys / "stable" / what).resolve()
    path.chmod(stat.S_IMODE(path.stat().st_mode) | mode)
    for act in (lambda: load_ring("stable", keys), lambda: trusted_root("stable", keys)):
        with pytest.raises(HostError) as caught:
            act()
        assert f"{path} can be written by others" in caught.value.message
        assert f"chmod go-w {path}" in str(caught.value.hint)


def test_a_folder_above_and_a_link_do_not_help(keys: Path, stable: KeyRing, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(HostError, match="can be written by others, who could replace"):
        load_ring("stable", keys)
    tmp_path.chmod(0o700)
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    signers = (keys / "stable/signers.json").rename(tmp_path / "open/signers.json")
    (keys / "stable/signers.json").symlink_to(signers)
    with pytest.raises(HostError, match="can be written by others, who could replace"):
        load_ring("stable", keys)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("what", ["signers.json", "1.root.json", ".", "targets"])
def test_keys_of_another_user_are_refused(keys: Path, stable: KeyRing, what: str) -> None:
    path = (
        next((keys / "stable").glob("targets-*")) if what == "targets" else keys / "stable" / what
    )
    os.chown(path, 12345, 12345)
    with pytest.raises(HostError) as caught:
        load_ring("stable", keys)
    assert str(caught.value) == (
        f"error: {path} belongs to another user: 12345\n"
        "  hint: keep keys in a folder of your own: --keys DIR, or SLIPWAY_KEYS"
    )


def test_a_refresh_of_all_channels_does_not_pass_over_such_keys(
    keys: Path, stable: KeyRing, store: DirectoryStore, build: Build, tmp_path: Path
) -> None:
    publish_all(store, stable, [build(1)])
    (keys / "stable").chmod(0o770)
    with pytest.raises(HostError, match="can be written by others"):
        Session(store=store, keys=keys, trust=tmp_path, memory=tmp_path / "seen").refresh()


def test_a_key_file_that_is_another_key_is_refused(keys: Path, stable: KeyRing) -> None:
    snapshot, timestamp = (next((keys / "stable").glob(f"{role}-*.pem")) for role in ONLINE)
    snapshot.write_bytes(timestamp.read_bytes())
    with pytest.raises(HostError, match="cannot be used: it is another key"):
        load_ring("stable", keys).of("snapshot")


# --- what is shown --------------------------------------------------------------------------------


def locals_of(error: BaseException | None) -> str:
    """What a traceback with local variables shows of the code that is tested."""
    shown = ""
    while error is not None:
        frames = [
            frame
            for frame, _ in traceback.walk_tb(error.__traceback__)
            if frame.f_code.co_filename != __file__
        ]
        shown += "".join(repr(frame.f_locals) for frame in frames)
        error = error.__cause__ or error.__context__
    return shown


def test_no_repr_and_no_traceback_shows_a_private_key(
    stable: KeyRing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = private_parts(stable)
    assert len(secrets) >= 4
    monkeypatch.setenv(BUNDLE, export(stable))
    carried = load_ring("stable", tmp_path / "nowhere")
    carried.of("targets")
    shown = (
        f"{stable!r} {stable} {carried!r} {carried} {carried.signers!r} {carried.of('targets')!r}"
    )
    for text in (
        export(stable).replace('"keyid"', "keyid"),
        export(stable).replace('"roots"', '"rots"'),
    ):
        monkeypatch.setenv(BUNDLE, text)
        with pytest.raises(UserError) as caught:
            load_ring("stable", tmp_path / "nowhere")
        shown += locals_of(caught.value)
    for secret in secrets:
        assert secret not in shown
