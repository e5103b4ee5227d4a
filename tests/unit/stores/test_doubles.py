"""The doubles of tests: stores like any other until they misbehave, and their misbehaviour."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from memory_store import MemoryStore
from slipway.stores import Conflict, Store
from slipway.stores.directory import DirectoryStore
from store_contract import StoreContract
from store_doubles import LyingStore, RacingStore


def never() -> None:
    raise AssertionError("the rival must not run")


class TestRacingContract(StoreContract):
    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Callable[[], Store]:
        return lambda: RacingStore(
            DirectoryStore(tmp_path / "store"), "swap", never, prefix="no-such-key"
        )


class TestLyingContract(StoreContract):
    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Callable[[], Store]:
        return lambda: LyingStore(
            DirectoryStore(tmp_path / "store"), None, lambda data: data + b"!"
        )


class TestMemoryContract(StoreContract):
    @pytest.fixture
    def reopen(self) -> Callable[[], Store]:
        store = MemoryStore()
        return lambda: store


def test_a_rival_comes_first_once(tmp_path: Path) -> None:
    mine = DirectoryStore(tmp_path)
    first = mine.swap("now", b"1", etag=None)
    racing = RacingStore(
        mine,
        "swap",
        lambda: mine.swap("now", b"rival", etag=mine.read("now").etag),
        at=2,
        prefix="now",
    )
    racing.swap("other", b"", etag=None)
    assert racing.left == 2
    first = racing.swap("now", b"2", etag=first)
    with pytest.raises(Conflict):
        racing.swap("now", b"3", etag=first)
    assert racing.done
    racing.swap("now", b"4", etag=racing.read("now").etag)
    assert mine.read("now").data == b"4"


def test_the_second_answer_is_a_lie(tmp_path: Path) -> None:
    lying = LyingStore(DirectoryStore(tmp_path), "a", bytes.upper)
    lying.create("a", b"truth")
    lying.create("b", b"truth")
    assert lying.read_range("a", 0, 2) == b"tr"
    assert lying.read("a").data == b"TRUTH"
    assert lying.read_range("a", 1, 2) == b"RU"
    assert [lying.read("b").data for _ in range(2)] == [b"truth"] * 2
