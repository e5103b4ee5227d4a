"""An audit finds what people who trust a store would fall for, names all of it, and looks at the
rest whatever it finds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from slipway.channels.audit import audit, examine, examine_rest
from slipway.channels.commit import commit
from slipway.channels.keys import KeyRing, rotate
from slipway.channels.layout import signature_key, sums_key, target_key
from slipway.channels.minisign import sign, verify
from slipway.channels.moves import promote, publish_all, withdraw
from slipway.channels.publish import publish
from slipway.channels.session import Session
from slipway.channels.state import Channel, Listed, read_channel
from slipway.channels.upkeep import refresh
from slipway.errors import StoreError, VerificationError
from slipway.records.reference import ReleaseRef
from slipway.records.release import Release
from slipway.stores import Store
from slipway.stores.directory import DirectoryStore

pytestmark = pytest.mark.integration

Build = Callable[..., Path]
MakeRelease = Callable[..., Release]
T = 1_800_000_000.0
DAY = 86400.0
SUMS = "releases/example/1.0.0-b1/SHA256SUMS"
SIGNATURE, STABLES = f"{SUMS}.nightly.minisig", f"{SUMS}.stable.minisig"


def channel_of(store: Store, ring: KeyRing) -> Channel:
    return read_channel(store, ring.channel, ring.roots[0])


def put(store: DirectoryStore, key: str, data: bytes) -> None:
    """Overwrite whatever is there."""
    path = store.directory / key
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def problems(store: Store, ring: KeyRing) -> list[str]:
    return [
        problem.removeprefix(f"{ring.channel}: ")
        for problem in examine(store, channel_of(store, ring), T).all_problems
    ]


def key_of(store: Store, file: str, release: str = "1.0.0-b1") -> str:
    (key,) = [
        status.key
        for status in store.list(f"targets/example/{release}/")
        if status.key.endswith(f".{file}")
    ]
    return key


@pytest.fixture
def whole(store: DirectoryStore, ring: KeyRing, stable: KeyRing, build: Build) -> DirectoryStore:
    """Two releases in nightly, one of them in stable: nothing is wrong."""
    for number in (1, 2):
        publish_all(store, ring, [build(number)], clock=lambda: T)
    promote(store, stable, lambda: channel_of(store, ring), "example", "b1", clock=lambda: T)
    for each in (ring, stable):
        found = examine(store, channel_of(store, each), T)
        assert (found.all_problems, found.warnings) == ([], ())
    assert examine_rest(store, [channel_of(store, ring), channel_of(store, stable)]) == ([], 0)
    return store


# --- what people download by hand -----------------------------------------------------------------


def test_a_list_of_other_hashes(whole: DirectoryStore, ring: KeyRing, stable: KeyRing) -> None:
    sums = whole.read(SUMS).data
    put(whole, SUMS, sums.replace(sums[:64], b"e" * 64, 1))
    file = sums.split()[1].decode()
    for each in (ring, stable):
        assert problems(whole, each) == [
            f"{SUMS} is not what its channel lists: {file}",
            f"{SUMS} has no signature by the key of the channel {each.channel}",
        ]


@pytest.mark.parametrize("change", ["a file more", "a file less", "no list", "another format"])
def test_a_list_that_is_not_the_channels(whole: DirectoryStore, ring: KeyRing, change: str) -> None:
    lines = whole.read(SUMS).data.splitlines(keepends=True)
    texts = {
        "a file more": (
            b"".join([*lines, b"0" * 64 + b"  more\n"]),
            f"{SUMS} is not what its channel lists: more",
        ),
        "a file less": (
            b"".join(lines[1:]),
            f"{SUMS} is not what its channel lists: {lines[0].split()[1].decode()}",
        ),
        "no list": (
            b"\xff\n",
            f"{SUMS}:1: not a SHA-256 hash and a file name: '\N{REPLACEMENT CHARACTER}'",
        ),
        "another format": (
            b"".join(lines) + b"\n",
            f"{SUMS}:6: not a SHA-256 hash and a file name: ''",
        ),
    }
    text, said = texts[change]
    put(whole, SUMS, text)
    assert said in problems(whole, ring)


def test_a_list_that_is_gone(whole: DirectoryStore, ring: KeyRing) -> None:
    whole.delete(SUMS)
    assert problems(whole, ring) == [f"{SUMS} is missing"]


@pytest.mark.parametrize(
    "damage", ["gone", "nothing", "anothers", "altered", "an altered comment", "of another list"]
)
def test_a_signature_that_is_none(
    whole: DirectoryStore, ring: KeyRing, stable: KeyRing, tmp_path: Path, damage: str
) -> None:
    good = whole.read(STABLES).data
    lines = good.splitlines(keepends=True)
    other = sign(whole.read(SUMS).data, ring.of("targets")[0], file="SHA256SUMS", expires=T)
    assert other
    bad = {
        "gone": None,
        "nothing": b"",
        "anothers": other,
        "altered": good.replace(lines[1][20:24], b"AAAA"),
        "an altered comment": good.replace(b"SHA256SUMS", b"SHA256SUNS"),
        "of another list": whole.read("releases/example/1.0.0-b2/SHA256SUMS.nightly.minisig").data,
    }[damage]
    if bad is None:
        whole.delete(STABLES)
    else:
        put(whole, STABLES, bad)
    assert problems(whole, stable) == [f"{SUMS} has no signature by the key of the channel stable"]
    assert problems(whole, ring) == []
    rest, _ = examine_rest(whole, [channel_of(whole, ring), channel_of(whole, stable)])
    assert rest == (
        [] if bad is None else [f"{STABLES} is not a signature by a key of the channel stable"]
    )


def test_a_signature_for_another_release(whole: DirectoryStore, ring: KeyRing) -> None:
    """Its comment, which people compare, names something else."""
    from slipway.channels import minisign

    good = minisign.sign(
        whole.read(SUMS).data, ring.of("targets")[0], file="SHA256SUMS\trelease:2.0.0-b9", expires=T
    )
    assert good
    put(whole, SIGNATURE, good)
    (problem,) = problems(whole, ring)
    assert problem.startswith(
        f"a signature of {SUMS} is for another release: file:SHA256SUMS\trelease:2.0.0-b9"
    )


def test_what_minisign_accepts_is_what_is_accepted_here(
    whole: DirectoryStore, ring: KeyRing, stable: KeyRing
) -> None:
    data, signature = whole.read(SUMS).data, whole.read(SIGNATURE).data
    (key,) = ring.public("targets")
    comment = verify(data, signature, key)
    assert comment and comment.startswith(
        "appliance=example release=1.0.0-b1 channel=nightly time="
    )
    assert verify(data + b"\n", signature, key) is None
    assert verify(data, signature, stable.public("targets")[0]) is None
    for broken in (
        b"",
        signature[:-5],
        signature.replace(b"\ntrusted comment: ", b"\n", 1),
        b"\xff" * 200,
    ):
        assert verify(data, broken, key) is None


def test_a_list_that_nobody_signed_is_named(
    whole: DirectoryStore, ring: KeyRing, stable: KeyRing
) -> None:
    """A planted release, for whom downloads by hand; what was pruned or withdrawn was signed."""
    withdraw(whole, ring, "example", "b2", "a test", clock=lambda: T)
    channels = [channel_of(whole, ring), channel_of(whole, stable)]
    assert examine_rest(whole, channels) == ([], 5)
    planted = "releases/evil/1.0.0-b1/SHA256SUMS"
    put(whole, planted, b"0" * 64 + b"  evil.qcow2\n")
    assert examine_rest(whole, channels)[0] == [
        f"{planted} belongs to no channel, and no channel's key has signed it"
    ]
    put(whole, f"{planted}.minisig", whole.read(SIGNATURE).data)
    assert examine_rest(whole, channels)[0] == [
        f"{planted}.minisig is not a signature by a key of any channel",
        f"{planted} belongs to no channel, and no channel's key has signed it",
    ]


def test_a_signature_by_a_key_that_was_replaced_counts(
    whole: DirectoryStore, ring: KeyRing, stable: KeyRing, keys: Path
) -> None:
    refresh(whole, rotate("nightly", keys, "targets"), clock=lambda: T)
    assert problems(whole, ring) == []


def test_a_signature_that_names_nothing_is_none(whole: DirectoryStore, ring: KeyRing) -> None:
    """Nor is one in the place where all channels' once were, whatever it names."""
    key = ring.of("targets")[0]
    bare = sign(whole.read(SUMS).data, key, file="SHA256SUMS", expires=T)
    good = whole.read(SIGNATURE).data
    assert bare
    put(whole, SIGNATURE, bare)
    said = (
        f"{SIGNATURE} does not say of which appliance and channel and release it is: "
        "publish or promote that release again"
    )
    assert problems(whole, ring) == [said]
    whole.delete(SIGNATURE)
    put(whole, f"{SUMS}.minisig", good)
    assert problems(whole, ring) == [f"{SUMS} has no signature by the key of the channel nightly"]


# --- objects and records --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "file",
    ["example.qcow2", "example.raw", "manifest.json", "sbom.cdx.json", "provenance.intoto.json"],
)
def test_every_object_is_read(whole: DirectoryStore, ring: KeyRing, file: str) -> None:
    key = key_of(whole, file)
    data = whole.read(key).data
    for bad in (data[:-1], data + b"\n", b"E" + data[1:]):
        put(whole, key, bad)
        assert problems(whole, ring) == [f"{key} is not what was published"]
    whole.delete(key)
    assert problems(whole, ring) == [f"{key} is missing"]


def list_by_hand(store: Store, ring: KeyRing, release: str, files: Mapping[str, bytes]) -> None:
    """List any files as a release, as somebody can who has the channel's keys."""
    listed = {}
    for file, data in files.items():
        sha256 = hashlib.sha256(data).hexdigest()
        store.create(target_key(ReleaseRef("example", release), file, sha256), data)
        listed[file] = (len(data), sha256)
    text = "".join(f"{sha256}  {file}\n" for file, (_, sha256) in sorted(listed.items())).encode()
    store.create(sums_key(ReleaseRef("example", release)), text)
    about = {"appliance": "example", "release": release, "channel": ring.channel}
    signature = sign(text, ring.of("targets")[0], file="SHA256SUMS", expires=T, about=about)
    assert signature
    store.create(signature_key(ring.channel, ReleaseRef("example", release)), signature)

    def add(channel: Channel) -> None:
        channel.shelf("example").add(release, Listed(created=int(T), added=int(T), files=listed))

    commit(store, ring, add, clock=lambda: T)


def files_of(release: Release) -> dict[str, bytes]:
    return {file: (release.folder / file).read_bytes() for file in release.hashes}


@pytest.mark.parametrize("record", ["manifest.json", "sbom.cdx.json", "provenance.intoto.json"])
def test_a_release_without_a_record(
    store: DirectoryStore, ring: KeyRing, make_release: MakeRelease, record: str
) -> None:
    files = files_of(make_release())
    del files[record]
    list_by_hand(store, ring, "1.0.0-b1", files)
    found = problems(store, ring)
    assert f"example 1.0.0-b1 lists no {record}" in found
    assert len(found) == (1 if record == "manifest.json" else 2)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"appliance": "another"}, "{key} is about another 1.0.0-b1, not example 1.0.0-b1"),
        (
            {"build": "b2", "release": "1.0.0-b2"},
            "{key} is about example 1.0.0-b2, not example 1.0.0-b1",
        ),
        ({"boot": None}, "{key} has no passing boot report"),
    ],
)
def test_a_manifest_that_is_about_something_else(
    store: DirectoryStore,
    ring: KeyRing,
    make_release: MakeRelease,
    changes: dict[str, Any],
    said: str,
) -> None:
    list_by_hand(store, ring, "1.0.0-b1", files_of(make_release(**changes)))
    assert said.format(key=key_of(store, "manifest.json")) in problems(store, ring)


def test_files_that_the_manifest_does_not_know(
    store: DirectoryStore, ring: KeyRing, make_release: MakeRelease
) -> None:
    files = files_of(make_release()) | {"example.raw": b"another disk", "more": b"more"}
    list_by_hand(store, ring, "1.0.0-b1", files)
    key = key_of(store, "manifest.json")
    assert problems(store, ring) == [
        f"{key} is about other files than its channel lists: example.raw, more"
    ]


def test_a_first_root_that_is_another_is_named(
    store: DirectoryStore, ring: KeyRing, stable: KeyRing, make_release: MakeRelease
) -> None:
    """Nobody who has a root reads it, and a newcomer may begin with it."""
    list_by_hand(store, ring, "1.0.0-b1", files_of(make_release()))
    first = "metadata/nightly/1.root.json"
    assert problems(store, ring) == []
    put(store, first, stable.roots[0])
    assert problems(store, ring) == [f"{first} is another root than the trusted one"]
    put(store, first, b"{}")
    assert problems(store, ring) == [f"{first} is not TUF metadata"]
    store.delete(first)
    assert problems(store, ring) == []


# --- time -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("days", "expired"),
    [
        (6, []),
        (8, ["timestamp"]),
        (15, ["timestamp", "snapshot"]),
        (91, ["timestamp", "snapshot", "targets", "example"]),
        (366, ["root", "timestamp", "snapshot", "targets", "example"]),
    ],
)
def test_all_that_has_expired_is_named(
    store: DirectoryStore, keys: Path, build: Build, days: int, expired: list[str]
) -> None:
    from slipway.channels.keys import init

    ring = init("nightly", keys, now=T)
    publish_all(store, ring, [build(1)], clock=lambda: T)
    found = examine(store, channel_of(store, ring), T + days * DAY).all_problems
    assert [problem.split()[2] for problem in found] == expired
    assert all(
        problem.startswith("nightly: its ") and " metadata expired on 202" in problem
        for problem in found
    )


@pytest.mark.parametrize(
    ("left", "warned"), [(31, False), (29.5, True), (0.5, True), (-0.5, False)]
)
def test_a_root_that_ends_soon_is_warned_of(
    store: DirectoryStore, keys: Path, build: Build, left: float, warned: bool
) -> None:
    from slipway.channels.keys import init

    ring = init("nightly", keys, now=T - (365 - left) * DAY)
    publish_all(store, ring, [build(1)], clock=lambda: T)
    found = examine(store, channel_of(store, ring), T)
    assert [problem.split()[2] for problem in found.expired] == (["root"] if left < 0 else [])
    assert not found.problems
    assert list(found.warnings) == (
        [
            "the root of the channel nightly ends on "
            f"{channel_of(store, ring).root.signed.expires:%Y-%m-%d}, "
            f"{'in 29 days' if left > 1 else 'within a day'} (this host's clock says 2027-01-15 "
            "08:00 UTC): where its root keys are, run: invoke keys rotate nightly --role root, "
            "then: invoke refresh --channel nightly"
        ]
        if warned
        else []
    )


# --- all of a store -------------------------------------------------------------------------------


def test_what_is_wrong_in_one_channel_hides_nothing_in_the_others(
    whole: DirectoryStore, ring: KeyRing, stable: KeyRing, keys: Path, tmp_path: Path
) -> None:
    session = Session(
        store=whole,
        keys=keys,
        trust=tmp_path / "trust",
        memory=tmp_path / "clients",
        clock=lambda: T,
    )
    audited = audit(session, [], lambda key: None)
    assert audited.all_problems == []
    assert [line.split()[0] for line in audited.lines] == ["stable:", "nightly:", "0"]
    put(whole, "metadata/stable/timestamp.json", b"{}")
    put(whole, "metadata/bogus/timestamp.json", b"{}")
    whole.delete(key_of(whole, "example.qcow2", "1.0.0-b2"))
    audited = audit(session, [], lambda key: None)
    assert [line.split(": ")[:2] for line in audited.lines] == [["bogus", "not looked at"]]
    assert [problem.split(":")[0] for problem in audited.all_problems] == ["stable", "nightly"]


def test_a_channel_that_there_is_not_is_no_problem_of_the_store(
    whole: DirectoryStore, ring: KeyRing, stable: KeyRing, keys: Path, tmp_path: Path
) -> None:
    session = Session(
        store=whole,
        keys=keys,
        trust=tmp_path / "trust",
        memory=tmp_path / "clients",
        clock=lambda: T,
    )
    looked_at: list[str] = []
    for name, hint in (
        ("nightli", 'did you mean "nightly"?'),
        ("other", "choose from: stable, nightly"),
    ):
        with pytest.raises(StoreError) as caught:
            audit(session, ["stable", name], looked_at.append)
        assert looked_at == [], "said after the work"
        assert str(caught.value) == f"error: {whole.url} has no channel {name}\n  hint: {hint}"
    for status in list(whole.list("metadata/stable/")):
        whole.delete(status.key)
    assert [
        problem.split(":")[0] for problem in audit(session, ["stable"], lambda key: None).problems
    ] == ["stable"]


def test_the_objects_of_a_stopped_publication_are_counted(
    whole: DirectoryStore, ring: KeyRing, stable: KeyRing, build: Build
) -> None:
    publish(whole, build(3))
    whole.delete("releases/example/1.0.0-b3/SHA256SUMS")
    assert examine_rest(whole, [channel_of(whole, ring), channel_of(whole, stable)]) == ([], 5)


def test_problems_are_lines(whole: DirectoryStore, ring: KeyRing) -> None:
    whole.delete(SUMS)
    key = key_of(whole, "example.qcow2", "1.0.0-b2")
    whole.delete(key)
    with pytest.raises(VerificationError) as caught:
        examine(whole, channel_of(whole, ring), T).require_sound()
    assert str(caught.value) == (
        f"error: 2 problems in the store:\n  nightly: {SUMS} is missing\n"
        f"  nightly: {key} is missing\n"
        "  hint: somebody or something else than slipway changed the store: publish those builds "
        "again, or withdraw them"
    )
