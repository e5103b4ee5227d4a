"""Metadata that is validly signed and makes no sense: a thief has nightly's keys, or a bug had
them.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.formats import encode_canonical

from slipway.channels.audit import audit
from slipway.channels.client import Client
from slipway.channels.collect import collect
from slipway.channels.keys import KeyRing
from slipway.channels.moves import promote, publish_all
from slipway.channels.report import holding_rows
from slipway.channels.session import Session, require_none
from slipway.channels.shelf import MAX_RECORD
from slipway.channels.state import Channel, read_channel
from slipway.errors import StoreError, UserError, VerificationError
from slipway.stores import Store
from slipway.stores.directory import DirectoryStore

pytestmark = pytest.mark.integration

Build = Callable[..., Path]
Change = Callable[[dict[str, Any]], None]
WEEKS = 40 * 86400


@pytest.fixture
def session(
    store: DirectoryStore, keys: Path, tmp_path: Path, ring: KeyRing, stable: KeyRing, build: Build
) -> Session:
    """Nightly has b1 and b2, stable has b1; another appliance is in nightly alone."""
    opened = Session(store=store, keys=keys, trust=tmp_path / "trust", memory=tmp_path / "memory")
    publish_all(store, ring, [build(1), build(1, "other")])
    publish_all(store, ring, [build(2)])
    promote(store, stable, lambda: channel_of(store, ring), "example", "b1")
    return opened


def channel_of(store: Store, ring: KeyRing) -> Channel:
    return read_channel(store, ring.channel, ring.roots[0])


def put(store: DirectoryStore, key: str, data: bytes) -> None:
    path = store.directory / key
    path.unlink(missing_ok=True)
    path.write_bytes(data)


def sign(document: dict[str, Any], ring: KeyRing, role: str) -> bytes:
    """Sign any JSON that has a canonical form, as a thief would."""
    (signer,) = ring.of(role)
    content = str(encode_canonical(document["signed"])).encode("utf-8", "surrogatepass")
    signature = signer.sign(content)
    return json.dumps({"signed": document["signed"], "signatures": [signature.to_dict()]}).encode()


def forge(store: DirectoryStore, ring: KeyRing, role: str, change: Change) -> None:
    """Change metadata of nightly where it is, and sign all that lists it anew."""
    channel = channel_of(store, ring)
    assert channel.snapshot and channel.timestamp
    number = channel.snapshot.signed.version
    keys = {
        "timestamp": "metadata/nightly/timestamp.json",
        "snapshot": f"metadata/nightly/{number}.snapshot.json",
    }
    listed = channel.snapshot.signed.meta.get(f"{role}.json")
    key = keys.get(role) or f"metadata/nightly/{listed and listed.version}.{role}.json"
    document = json.loads(store.read(key).data)
    change(document["signed"])
    put(store, key, sign(document, ring, role if role in ("timestamp", "snapshot") else "targets"))
    for outer, what in (("snapshot", role), ("timestamp", "snapshot")):
        if role in (outer, "timestamp") or (role == "snapshot" and outer == "snapshot"):
            continue
        document = json.loads(store.read(keys[outer]).data)
        document["signed"]["meta"][f"{what}.json"].pop("hashes", None)
        put(store, keys[outer], sign(document, ring, outer))
    forget(ring)


def forget(ring: KeyRing) -> None:
    """Be a publisher who has not seen the channel: one who has would refuse it for that."""
    assert ring.folder
    shutil.rmtree(ring.folder / "seen", ignore_errors=True)


def own(**changes: Any) -> Change:
    def change(signed: dict[str, Any]) -> None:
        signed["x-slipway"].update(changes)

    return change


def replace_own(value: Any) -> Change:
    def change(signed: dict[str, Any]) -> None:
        signed["x-slipway"] = value

    return change


def entry(**changes: Any) -> Change:
    def change(signed: dict[str, Any]) -> None:
        signed["x-slipway"]["releases"][0].update(changes)

    return change


def target(**changes: Any) -> Change:
    def change(signed: dict[str, Any]) -> None:
        signed["targets"]["example/1.0.0-b1/example.qcow2"].update(changes)

    return change


def path(name: str) -> Change:
    def change(signed: dict[str, Any]) -> None:
        signed["targets"][name] = signed["targets"]["example/1.0.0-b1/example.qcow2"]

    return change


def stone(**changes: Any) -> Change:
    item = {"reason": "a test", "replacement": None, "time": 1, **changes}
    return own(withdrawn={"1.0.0-b9": item})


MALFORMED: dict[str, tuple[Change, str]] = {
    "own is a list": (replace_own([]), "x-slipway is list, not dict"),
    "own is a text": (replace_own("x"), "x-slipway is str, not dict"),
    "own is missing": (
        lambda signed: signed.pop("x-slipway"),
        "there are files of 1.0.0-b1, which is not one of its releases",
    ),
    "releases are a text": (own(releases="x"), "releases is str, not list"),
    "releases are numbers": (own(releases=[1]), "a release is int, not dict"),
    "a release without a name": (
        entry(release=None),
        "a release has no name that it can have: 'None'",
    ),
    "a release's name goes up": (
        entry(release=".."),
        "a release has no name that it can have: '..'",
    ),
    "a release's name is a number": (
        entry(release=1),
        "a release has no name that it can have: '1'",
    ),
    "a release twice": (entry(release="1.0.0-b2"), "1.0.0-b2 is repeated"),
    "a release without files": (entry(release="1.0.0-b7"), "1.0.0-b7 has no files"),
    "made never": (
        entry(created=None),
        "created of 1.0.0-b1 is not a number from 0 to 253402300799",
    ),
    "made at a text": (
        entry(created="now"),
        "created of 1.0.0-b1 is not a number from 0 to 253402300799",
    ),
    "made at truth": (
        entry(created=True),
        "created of 1.0.0-b1 is not a number from 0 to 253402300799",
    ),
    "came before all time": (
        entry(added=-1),
        "added of 1.0.0-b1 is not a number from 0 to 253402300799",
    ),
    "came after all time": (
        entry(added=10**30),
        "added of 1.0.0-b1 is not a number from 0 to 253402300799",
    ),
    "current is not there": (
        own(current="1.0.0-b9"),
        "its current release is not one of its releases: '1.0.0-b9'",
    ),
    "current is a list": (
        own(current=["1.0.0-b1"]),
        "its current release is not one of its releases: \"['1.0.0-b1']\"",
    ),
    "withdrawn is a list": (own(withdrawn=[1]), "withdrawn is list, not dict"),
    "a tombstone is a text": (
        own(withdrawn={"1.0.0-b9": "x"}),
        "the tombstone of 1.0.0-b9 is str, not dict",
    ),
    "listed and withdrawn": (
        own(withdrawn={"1.0.0-b1": {"reason": "a test", "replacement": None, "time": 1}}),
        "1.0.0-b1 is listed and withdrawn",
    ),
    "withdrawn without a reason": (
        stone(reason=None),
        "the reason for withdrawing 1.0.0-b9 is not text of at most 4000 characters",
    ),
    "withdrawn at a text": (
        stone(time="x"),
        "the time of withdrawing 1.0.0-b9 is not a number from 0 to 253402300799",
    ),
    "replaced by a path": (
        stone(replacement="../x"),
        "the replacement of 1.0.0-b9 has no name that it can have: '../x'",
    ),
    "a path without slashes": (path("example"), "no path of a file of it: 'example'"),
    "a path with one": (path("example/1.0.0-b1"), "no path of a file of it: 'example/1.0.0-b1'"),
    "a path with three": (
        path("example/1.0.0-b1/a/b"),
        "no path of a file of it: 'example/1.0.0-b1/a/b'",
    ),
    "a path that goes up": (path("example/../x"), "no path of a file of it: 'example/../x'"),
    "a path of another": (path("other/1.0.0-b1/x"), "no path of a file of it: 'other/1.0.0-b1/x'"),
    "a path with an escape": (
        path("example/1.0.0-b1/\x1b[2J"),
        "no path of a file of it: 'example/1.0.0-b1/\\x1b[2J'",
    ),
    "files of no release": (
        path("example/1.0.0-b8/x"),
        "there are files of 1.0.0-b8, which is not one of its releases",
    ),
    "a huge file": (
        target(length=10**30),
        "the size of example/1.0.0-b1/example.qcow2 is not a number from 0 to 17592186044416",
    ),
    "another hash": (
        target(hashes={"sha512": "0" * 128}),
        "example/1.0.0-b1/example.qcow2 has no SHA-256",
    ),
    "a hash that is none": (
        target(hashes={"sha256": "../../x"}),
        "example/1.0.0-b1/example.qcow2 has no SHA-256",
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_list_that_makes_no_sense_is_refused(
    session: Session, store: DirectoryStore, ring: KeyRing, tmp_path: Path, name: str
) -> None:
    change, problem = MALFORMED[name]
    forge(store, ring, "example", change)
    message = f"the list of example of the channel nightly is signed, but malformed: {problem}"
    with pytest.raises(VerificationError) as caught:
        channel_of(store, ring).shelf("example")
    assert str(caught.value) == (
        f"error: {message}\n  hint: slipway never wrote this: somebody else may have its keys; "
        "see: invoke keys rotate nightly"
    )
    with pytest.raises(VerificationError) as caught:
        Client(store, "nightly", ring.roots[0], tmp_path / "client").shelf("example")
    assert caught.value.message == message
    assert list(channel_of(store, ring).shelf("other").releases) == ["1.0.0-b1"]


#: What python-tuf itself does not take, or what lists the lists, by the role that is forged.
STRANGE: list[tuple[str, Change]] = [
    ("example", target(length=-1)),
    ("example", target(length="x")),
    ("example", target(length=None)),
    ("example", target(hashes={})),
    ("example", target(hashes=[1])),
    ("example", lambda signed: signed.update(targets=[])),
    ("example", lambda signed: signed.update(version=0)),
    ("example", lambda signed: signed.update(version="1")),
    ("example", lambda signed: signed.update(expires="never")),
    ("example", lambda signed: signed.update(expires=1)),
    ("example", lambda signed: signed.update(_type="root")),
    ("example", lambda signed: signed.update(spec_version="99.0")),
    ("targets", lambda signed: signed.update(delegations=None)),
    ("targets", lambda signed: signed.update(delegations=[])),
    ("targets", lambda signed: signed.pop("delegations")),
    ("targets", lambda signed: signed["delegations"].update(keys={})),
    ("targets", lambda signed: signed["delegations"].update(roles=[])),
    ("targets", lambda signed: signed["delegations"]["roles"][0].update(name="../x")),
    ("targets", lambda signed: signed["delegations"]["roles"][0].update(name="a\x1b[2J")),
    ("targets", lambda signed: signed["delegations"]["roles"][0].update(name="\ud800")),
    ("targets", lambda signed: signed["delegations"]["roles"][0].update(name="root")),
    ("targets", lambda signed: signed["delegations"]["roles"][0].update(name="")),
    ("targets", lambda signed: signed["delegations"]["roles"][0].update(threshold=10**30)),
    ("targets", lambda signed: signed["delegations"]["roles"][0].update(keyids=["x"])),
    ("snapshot", lambda signed: signed.update(meta={})),
    ("snapshot", lambda signed: signed.update(meta=[])),
    ("snapshot", lambda signed: signed["meta"].pop("targets.json")),
    ("snapshot", lambda signed: signed["meta"]["example.json"].update(version=99)),
    ("snapshot", lambda signed: signed["meta"]["example.json"].update(version=10**300)),
    ("snapshot", lambda signed: signed["meta"]["example.json"].update(version=True)),
    ("snapshot", lambda signed: signed["meta"]["example.json"].update(length=-1)),
    ("snapshot", lambda signed: signed["meta"]["example.json"].update(length="x")),
    ("snapshot", lambda signed: signed["meta"]["example.json"].update(hashes={"md9": "0"})),
    ("snapshot", lambda signed: signed["meta"]["example.json"].update(hashes={"sha256": 1})),
    ("snapshot", lambda signed: signed["meta"].update({"../../x": {"version": 1}})),
    ("snapshot", lambda signed: signed["meta"].update({"\ud800": {"version": 1}})),
    ("snapshot", replace_own([])),
    ("snapshot", replace_own({"previous": "x"})),
    ("snapshot", replace_own({"previous": -1})),
    ("snapshot", replace_own({"previous": 10**30})),
    ("snapshot", lambda signed: signed["x-slipway"].update(previous=signed["version"])),
    ("snapshot", lambda signed: signed.pop("x-slipway")),
    ("snapshot", lambda signed: signed["x-slipway"].update(sha256=1)),
    ("snapshot", lambda signed: signed.update(version=10**300)),
    ("timestamp", lambda signed: signed.update(meta={})),
    ("timestamp", lambda signed: signed["meta"]["snapshot.json"].update(version=10**300)),
    ("timestamp", lambda signed: signed["meta"]["snapshot.json"].update(version=-1)),
    ("timestamp", lambda signed: signed.update(version=10**300)),
    ("timestamp", lambda signed: signed.update(version=None)),
]


def deeds(
    session: Session, ring: KeyRing, stable: KeyRing, folder: Path, out: Path
) -> Iterator[Callable[[], object]]:
    """Everything that reads a channel."""
    yield lambda: channel_of(session.store, ring).shelf("example")
    yield lambda: require_none(session.holdings()[1])
    yield lambda: audit(session, [], lambda key: None)
    yield lambda: Client(session.store, "nightly", ring.roots[0], out).shelf("example")
    yield lambda: session.promotion("example", "b2", "nightly", "stable")[2]()
    yield lambda: session.rollback("example", "nightly", None)
    yield lambda: publish_all(session.store, ring, [folder], **session.around("nightly"))
    yield lambda: session.prune(["nightly"])
    yield lambda: session.refresh(["nightly"])
    yield lambda: require_none(session.collect(dry_run=True).problems)
    yield lambda: session.withdraw("example", "b1", "a test").require_whole()
    yield lambda: session.recover(session.findings("nightly"))


@pytest.mark.parametrize("number", range(len(STRANGE)))
def test_nothing_that_is_signed_ends_in_a_traceback(
    session: Session,
    store: DirectoryStore,
    ring: KeyRing,
    stable: KeyRing,
    build: Build,
    tmp_path: Path,
    number: int,
) -> None:
    role, change = STRANGE[number]
    forge(store, ring, role, change)
    for deed in deeds(session, ring, stable, build(3), tmp_path / "client"):
        try:
            deed()
        except UserError as error:
            str(error).encode()
    assert "1.0.0-b1" in channel_of(store, stable).shelf("example").withdrawn


@pytest.mark.parametrize("name", ["timestamp", "2.snapshot", "1.targets", "2.example"])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b"null",
        b'{"signed": 1, "signatures": []}',
        b'{"signed": {"_type": [1]}, "signatures": [{}]}',
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b"9" * 5_000,
    ],
    ids=range(10),
)
def test_nothing_at_all_ends_in_a_traceback(
    session: Session,
    store: DirectoryStore,
    ring: KeyRing,
    stable: KeyRing,
    build: Build,
    tmp_path: Path,
    name: str,
    content: bytes,
) -> None:
    """Whoever can write to the store needs no keys for this."""
    put(store, f"metadata/nightly/{name}.json", content)
    forget(ring)
    for deed in deeds(session, ring, stable, build(3), tmp_path / "client"):
        try:
            deed()
        except UserError as error:
            str(error).encode()
    assert "1.0.0-b1" in channel_of(store, stable).shelf("example").withdrawn


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "example"])
@pytest.mark.parametrize("value", ["1.5", "NaN", "1e400", '"\\ud800"', "[" * 500 + "]" * 500])
def test_what_has_no_canonical_form_is_not_signed(
    session: Session, store: DirectoryStore, ring: KeyRing, role: str, value: str
) -> None:
    names = {
        "timestamp": "timestamp",
        "snapshot": "2.snapshot",
        "targets": "1.targets",
        "example": "2.example",
    }
    key = f"metadata/nightly/{names[role]}.json"
    text = store.read(key).data.decode()
    put(store, key, text.replace('"signed":{', f'"signed":{{"x":{value},', 1).encode())
    with pytest.raises(VerificationError):
        channel_of(store, ring).shelf("example")


# --- what goes on ---------------------------------------------------------------------------------


def age(store: DirectoryStore) -> None:
    """Everything was written long ago."""
    then = time.time() - WEEKS
    for status in store.list():
        os.utime(store.directory / status.key, (then, then))


def test_what_is_sound_is_listed_and_the_rest_named(
    session: Session, store: DirectoryStore, ring: KeyRing
) -> None:
    forge(store, ring, "example", own(current=1))
    (store.directory / "metadata/bogus").mkdir()
    put(store, "metadata/bogus/timestamp.json", b"x")
    read, problems = session.holdings()
    assert [(row["channel"], row["current"]) for row in holding_rows(read, problems)] == [
        ("stable", "1.0.0-b1")
    ]
    assert list(problems) == ["bogus", "nightly"]
    with pytest.raises(VerificationError) as caught:
        require_none(problems)
    assert str(caught.value).startswith("error: 1 channel cannot be read:\n")
    assert (
        "\n  nightly: the list of example of the channel nightly is signed, but malformed"
        in str(caught.value)
    )
    require_none({"bogus": problems["bogus"]})  # it is merely not trusted here
    with pytest.raises(StoreError):
        require_none({"bogus": problems["bogus"], "gone": StoreError("it is gone")})
    require_none({})


def test_nothing_is_collected_that_an_unreadable_channel_may_refer_to(
    session: Session, store: DirectoryStore, ring: KeyRing, stable: KeyRing, build: Build
) -> None:
    """Old metadata of the channels that can be read is still removed."""
    session.withdraw("example", "b1", "a test")
    session.refresh(["stable"])
    age(store)
    before = {status.key for status in store.list()}
    good = store.read("metadata/nightly/timestamp.json").data
    put(store, "metadata/nightly/timestamp.json", b"{}")
    collected = session.collect()
    assert list(collected.problems) == ["nightly"]
    gone = before - {status.key for status in store.list()}
    assert gone
    assert all(key.startswith("metadata/stable/") for key in gone)
    put(store, "metadata/nightly/timestamp.json", good)
    age(store)
    assert any(
        status.key.startswith("targets/example/1.0.0-b1/") for status in session.collect().removed
    )


@pytest.mark.parametrize(
    "name", ["a path without slashes", "another hash", "own is a list", "current is not there"]
)
def test_nothing_is_collected_beside_a_malformed_list(
    session: Session, store: DirectoryStore, ring: KeyRing, name: str
) -> None:
    forge(store, ring, "example", MALFORMED[name][0])
    age(store)
    before = {
        status.key for status in store.list() if not status.key.startswith("metadata/stable/")
    }
    collected = session.collect()
    assert "malformed" in collected.problems["nightly"].message
    assert before <= {status.key for status in store.list()}


def test_nothing_is_collected_by_a_list_that_nobody_signed(
    session: Session, store: DirectoryStore, ring: KeyRing
) -> None:
    """It makes sense, has the right number, and refers to nothing."""
    document = json.loads(store.read("metadata/nightly/2.example.json").data)
    document["signed"] |= {
        "targets": {},
        "x-slipway": {"current": None, "releases": [], "withdrawn": {}},
    }
    put(store, "metadata/nightly/2.example.json", json.dumps(document).encode())
    age(store)
    collected = collect(store, {name: session.root(name) for name in session.channels()})
    assert "is not the one that its channel lists" in collected.problems["nightly"].message
    assert not [status for status in collected.removed if status.key.startswith("targets/")]


def test_a_past_that_goes_round_in_circles_is_no_past(
    session: Session, store: DirectoryStore, ring: KeyRing
) -> None:
    forge(
        store,
        ring,
        "snapshot",
        lambda signed: signed["x-slipway"].update(previous=signed["version"]),
    )
    collected = session.collect(dry_run=True)
    assert collected.problems["nightly"].message == (
        "snapshot 2 of the channel nightly is signed, but malformed: the number of the one before "
        "is not a number from 0 to 1"
    )


def test_records_have_a_limit(session: Session, store: DirectoryStore, ring: KeyRing) -> None:
    def change(signed: dict[str, Any]) -> None:
        signed["targets"]["example/1.0.0-b1/manifest.json"]["length"] = MAX_RECORD + 1

    forge(store, ring, "example", change)
    with pytest.raises(
        VerificationError,
        match=r"the size of example/1.0.0-b1/manifest.json is not a number from 0 to 67108864",
    ):
        channel_of(store, ring).shelf("example")


# --- what is written ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reason", ["x" * 4001, "caf\udce9"], ids=["too long", "bytes of another character set"]
)
def test_what_could_not_be_read_is_not_written(
    session: Session, store: DirectoryStore, reason: str
) -> None:
    """Else a slip of the hand would make the list of an appliance unreadable for good."""
    before = {status.key for status in store.list("metadata/")}
    done = session.withdraw("example", "b1", reason)
    problem = (
        "example cannot be listed so: the reason for withdrawing 1.0.0-b1 is not text of at "
        "most 4000 characters"
    )
    assert done.unreached == {"stable": problem, "nightly": problem}
    assert {status.key for status in store.list("metadata/")} == before


def test_a_build_that_could_not_be_listed_is_not_published(
    session: Session, store: DirectoryStore, ring: KeyRing, build: Build
) -> None:
    """A manifest may say that it was made before 1970, and have a name of any length."""
    name = "1.0.0-" + "b" * 200
    for changes, problem in (
        ({"created": -86_400}, "created of 1.0.0-b3 is not a number from 0 to 253402300799"),
        (
            {"release": name, "build": "b" * 200},
            f"no path of a file of it: {f'example/{name}/example.qcow2'[:100]!r}",
        ),
    ):
        with pytest.raises(StoreError) as caught:
            publish_all(session.store, ring, [build(3, **changes)], **session.around("nightly"))
        assert str(caught.value) == (
            f"error: example cannot be listed so: {problem}\n"
            "  hint: nothing was changed; say it otherwise"
        )
    assert list(channel_of(store, ring).shelf("example").releases) == ["1.0.0-b1", "1.0.0-b2"]
