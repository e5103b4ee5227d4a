"""A channel that is too old says when it ended, and what this host's clock says, wherever somebody
reads it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from slipway.channels.audit import audit, examine
from slipway.channels.client import Client
from slipway.channels.expiry import Expired, renewal, way_out
from slipway.channels.keys import EXPIRY_DAYS, KeyRing, init, load_ring, rotate
from slipway.channels.moves import promote, publish_all
from slipway.channels.report import holding_rows, unread_rows
from slipway.channels.session import Session, require_none
from slipway.channels.state import Channel, read_channel
from slipway.channels.upkeep import refresh
from slipway.errors import HostError, StoreError, VerificationError
from slipway.stores.directory import DirectoryStore
from slipway.workflows.indexing import write_catalog

ROOT = Path(__file__).parents[3]
Build = Callable[..., Path]
DAY = 86400
T = 1_800_000_000  # 2027-01-15 08:00 UTC


def channel_of(store: DirectoryStore, ring: KeyRing) -> Channel:
    return read_channel(store, ring.channel, ring.roots[0])


def session_at(store: DirectoryStore, keys: Path, tmp_path: Path, now: float) -> Session:
    return Session(
        store=store, keys=keys, trust=tmp_path, memory=tmp_path / "seen", clock=lambda: now
    )


@pytest.mark.parametrize(
    ("root_age", "age", "role", "ended"),
    [(0, 8, "timestamp", 7), (0, 200, "timestamp", 7), (360, 8, "root", 5)],
)
def test_a_user_is_told_the_date_and_the_clock(
    store: DirectoryStore,
    keys: Path,
    build: Build,
    tmp_path: Path,
    root_age: int,
    age: int,
    role: str,
    ended: int,
) -> None:
    """What python-tuf says has neither.

    Its clock is the host's, so the channel is made in the past.
    """
    now = time.time()
    start = now - age * DAY
    ring = init("nightly", keys, now=start - root_age * DAY)
    publish_all(store, ring, [build(1)], clock=lambda: start)
    with pytest.raises(VerificationError) as caught:
        Client(store, "nightly", ring.roots[0], tmp_path / "memory")
    end = time.strftime("%Y-%m-%d", time.gmtime(start + ended * DAY))
    said, _, clock = caught.value.message.rpartition(" says ")
    assert said == f"the {role} metadata of the channel nightly expired on {end}; this host's clock"
    assert abs(time.mktime(time.strptime(clock, "%Y-%m-%d %H:%M UTC")) - time.timezone - now) < 120
    assert caught.value.hint == way_out([renewal("nightly", role)])
    assert caught.value.exit_code == 7


def test_an_appliance_whose_list_expired_has_a_date_too(
    store: DirectoryStore, build: Build, tmp_path: Path
) -> None:
    """Only its snapshot and timestamp were renewed since, as a host without the targets key
    does.
    """
    now = time.time()
    start = now - (EXPIRY_DAYS["targets"] + 3) * DAY
    ring = init("apart", tmp_path / "keys", now=start)
    publish_all(store, ring, [build(1)], clock=lambda: start)
    for file in (tmp_path / "keys").glob("**/*targets*"):
        file.unlink()
    moment = start
    while moment < now:
        moment = min(now, moment + 6 * DAY)
        with contextlib.suppress(HostError):  # it says that the targets key is needed
            refresh(store, load_ring("apart", tmp_path / "keys"), clock=partial(float, moment))
    subject = "^error: the targets metadata of the channel apart"
    with pytest.raises(
        VerificationError, match=subject + r" expired on 20\d\d-\d\d-\d\d; this host"
    ):
        Client(store, "apart", ring.roots[0], tmp_path / "memory")


def test_a_listing_shows_an_expired_channel_and_refuses_it(
    store: DirectoryStore, ring: KeyRing, keys: Path, build: Build, tmp_path: Path
) -> None:
    publish_all(store, ring, [build(1)], clock=lambda: T)
    assert session_at(store, keys, tmp_path, T + 6 * DAY).holdings()[1] == {}
    read, problems = session_at(store, keys, tmp_path, T + 8 * DAY).holdings()
    assert [channel.shelf("example").current for channel in read] == ["1.0.0-b1"]
    with pytest.raises(VerificationError) as caught:
        require_none(problems)
    assert str(caught.value) == (
        "error: 1 channel expired:\n"
        "  nightly: the timestamp metadata of the channel nightly expired on 2027-01-22; "
        "this host's clock says 2027-01-23 08:00 UTC\n"
        "  hint: if this clock is right, the publisher has to run: invoke recover nightly; "
        "if that was done, this store is an old copy"
    )
    assert caught.value.exit_code == 7


def test_an_expired_channel_among_unreadable_ones_is_counted_with_them() -> None:
    with pytest.raises(VerificationError) as caught:
        require_none({"one": Expired("old", todo="wait", hint="wait"), "two": StoreError("gone")})
    assert (
        str(caught.value)
        == "error: 2 channels cannot be read or expired:\n  one: old\n  two: gone\n  hint: wait"
    )


def test_an_audit_refuses_an_expired_channel(
    store: DirectoryStore, ring: KeyRing, keys: Path, build: Build, tmp_path: Path
) -> None:
    publish_all(store, ring, [build(1)], clock=lambda: T)
    with pytest.raises(VerificationError) as caught:
        later = session_at(store, keys, tmp_path, T + 8 * DAY)
        audit(later, (), lambda key: None).require_sound()
    assert str(caught.value) == (
        "error: 1 problem in the store:\n"
        "  nightly: its timestamp metadata expired on 2027-01-22; this host's clock says "
        "2027-01-23 08:00 UTC\n"
        "  hint: if this clock is right, the publisher has to run: invoke recover nightly; "
        "if that was done, this store is an old copy"
    )
    assert caught.value.exit_code == 7


def test_an_audit_tells_age_from_change(
    store: DirectoryStore, ring: KeyRing, keys: Path, build: Build, tmp_path: Path
) -> None:
    publish_all(store, ring, [build(1)], clock=lambda: T)
    store.delete("releases/example/1.0.0-b1/SHA256SUMS")
    hints = []
    for days in (0, 8):
        with pytest.raises(VerificationError) as caught:
            audit(
                session_at(store, keys, tmp_path, T + days * DAY), ["nightly"], lambda key: None
            ).require_sound()
        hints.append(str(caught.value.hint))
    changed = (
        "somebody or something else than slipway changed the store: publish those builds again, "
        "or withdraw them"
    )
    assert hints == [changed, f"{changed}; {way_out(['invoke recover nightly'])}"]


def test_what_several_publishers_have_to_run_is_said_once_for_each(
    store: DirectoryStore, ring: KeyRing, stable: KeyRing, keys: Path, build: Build, tmp_path: Path
) -> None:
    publish_all(store, ring, [build(1)], clock=lambda: T)
    promote(store, stable, lambda: channel_of(store, ring), "example", clock=lambda: T)
    read, problems = session_at(store, keys, tmp_path, T + 8 * DAY).holdings()
    assert [row["state"] for row in holding_rows(read, problems)] == ["expired", "expired"]
    assert [line.split(":")[0] for line in unread_rows(problems)] == [
        "stable  expired",
        "nightly  expired",
    ]
    with pytest.raises(VerificationError) as caught:
        require_none(problems)
    assert caught.value.hint == way_out(["invoke recover stable", "invoke recover nightly"])


def test_a_refresh_names_each_channel_that_it_could_not_renew(
    store: DirectoryStore, ring: KeyRing, stable: KeyRing, keys: Path, build: Build, tmp_path: Path
) -> None:
    publish_all(store, ring, [build(1)], clock=lambda: T)
    promote(store, stable, lambda: channel_of(store, ring), "example", clock=lambda: T)
    session = session_at(store, keys, tmp_path, T + 8 * DAY)
    expired = (
        "expired on 2027-01-22: newer ones may have been hidden; this host's clock says "
        "2027-01-23 08:00 UTC"
    )
    hint = (
        "if this clock is right, and nobody published or refreshed since then, "
        "go on with: invoke recover"
    )
    with pytest.raises(VerificationError) as caught:
        session.refresh()
    assert str(caught.value) == (
        "error: 2 channels were not refreshed:\n"
        f"  stable: the timestamp of the channel stable {expired}\n"
        f"  nightly: the timestamp of the channel nightly {expired}\n"
        f"  hint: {hint} stable; {hint} nightly"
    )
    assert session.recover(session.findings("stable")) is not None
    with pytest.raises(VerificationError) as caught:
        session.refresh()
    assert (
        str(caught.value)
        == f"error: the timestamp of the channel nightly {expired}\n  hint: {hint} nightly"
    )


def test_what_a_publisher_is_told_to_run_mends_it(
    store: DirectoryStore, keys: Path, build: Build, tmp_path: Path
) -> None:
    """A year later all has ended: the commands for the timestamp, then for the root."""
    ring = init("nightly", keys, now=T - 5 * DAY)
    publish_all(store, ring, [build(1)], clock=lambda: T)
    now = T + 370 * DAY
    session = session_at(store, keys, tmp_path, now)
    roles = [problem.split()[2] for problem in examine(store, session.read("nightly"), now).expired]
    assert roles == ["root", "timestamp", "snapshot", "targets", "example"]
    rotate("nightly", keys, "root", now=now)
    with pytest.raises(VerificationError, match=r"go on with: invoke recover nightly$"):
        session.refresh(["nightly"])
    assert session.recover(session.findings("nightly")) is not None
    session.refresh(["nightly"])
    assert audit(session, ["nightly"], lambda key: None).all_problems == []


@pytest.mark.parametrize(
    ("left", "when"), [(31, None), (29.5, "in 29 days"), (1.5, "in 1 day"), (0.5, "within a day")]
)
def test_a_listing_and_an_audit_warn_of_a_root_that_ends_soon(
    store: DirectoryStore, keys: Path, build: Build, tmp_path: Path, left: float, when: str | None
) -> None:
    ring = init("nightly", keys, now=T - (365 - left) * DAY)
    publish_all(store, ring, [build(1)], clock=lambda: T)
    said: list[str] = []
    session = session_at(store, keys, tmp_path, T)
    assert session.holdings(said.append)[1] == {}
    end = time.strftime("%Y-%m-%d", time.gmtime(T + left * DAY))
    expected = [
        f"the root of the channel nightly ends on {end}, {when} (this host's clock says "
        "2027-01-15 08:00 UTC): where its root keys are, run: invoke keys rotate nightly --role "
        "root, then: invoke refresh --channel nightly"
    ]
    assert said == (expected if when else [])
    assert list(examine(store, session.read("nightly"), T).warnings) == (expected if when else [])


def test_the_catalog_says_which_channel_has_expired_and_what_no_index_shows(
    store: DirectoryStore,
    keys: Path,
    build: Build,
    make_release: Callable[..., Any],
    tmp_path: Path,
) -> None:
    """What is in an expired channel stays in the indexes, since nothing there trusts them; but no
    command is silent about it.
    """
    for name in ("nightly", "stable"):
        ring = init(name, keys, now=T)
        publish_all(store, ring, [build(1)], clock=lambda: T)
        publish_all(
            store,
            ring,
            [make_release(images={"ova": b"an OVA"}, appliance="shown").folder],
            clock=lambda: T,
        )
    fresh = load_ring("nightly", keys)
    refresh(store, fresh, clock=lambda: T + 6 * DAY)
    shop: Any = SimpleNamespace(library=SimpleNamespace(root=ROOT))
    done = write_catalog(
        shop, session_at(store, keys, tmp_path, T + 8 * DAY), left_out=[], dry_run=True
    )
    assert done.shown == 2
    assert done.hidden == [
        f"example 1.0.0-b1 in {name}: it was made as qcow2, raw, and indexes show incus and ova"
        for name in ("stable", "nightly")
    ]
    assert done.warnings == [
        "the timestamp metadata of the channel stable expired on 2027-01-22; this host's clock "
        "says 2027-01-23 08:00 UTC: its readers refuse it; run: invoke recover stable"
    ]
    assert (
        write_catalog(
            shop, session_at(store, keys, tmp_path, T + 6 * DAY), left_out=[], dry_run=True
        ).warnings
        == []
    )
