"""What every store must do: a kind of store's tests are a subclass that says how one is opened."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from slipway.errors import StoreError
from slipway.stores import AlreadyExists, Conflict, NotFound, Store, TooLarge

__all__ = ["ReadingContract", "StoreContract"]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def together(count: int, work: Callable[[int], bool]) -> list[bool]:
    """What ``count`` threads that start at the same moment got."""
    barrier = threading.Barrier(count)
    results = [False] * count

    def run(index: int) -> None:
        barrier.wait()
        results[index] = work(index)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


class ReadingContract:
    """What every store does for readers.

    Subclasses have a fixture ``filled``: each call adds objects to the same store.
    """

    #: What is said of an object that is not there.
    missing = "there is no no/thing in {url}"

    def test_a_whole_object_is_read_up_to_its_limit(
        self, filled: Callable[[Mapping[str, bytes]], Store]
    ) -> None:
        store = filled({"a/b": b"0123456789", "empty": b""})
        assert store.read("a/b").data == b"0123456789"
        assert store.read("a/b", limit=10).data == b"0123456789"
        assert store.read("empty", limit=0).data == b""
        with pytest.raises(TooLarge) as caught:
            store.read("a/b", limit=9)
        assert caught.value.message == f"a/b in {store.url} is larger than 9 bytes"

    def test_ranges_are_read(self, filled: Callable[[Mapping[str, bytes]], Store]) -> None:
        data = bytes(range(256)) * 8_000
        store = filled({"r": b"0123456789", "large": data, "name+with~signs 1%": b"1"})
        wanted = {
            (2, 3): b"234",
            (8, 100): b"89",
            (0, 10): b"0123456789",
            (10, 5): b"",
            (0, 0): b"",
            (4, 1): b"4",
        }
        assert {place: store.read_range("r", *place) for place in wanted} == wanted
        with ThreadPoolExecutor(4) as workers:
            starts = range(0, len(data), 100_000)
            parts = list(
                workers.map(lambda start: store.read_range("large", start, 100_000), starts)
            )
        assert b"".join(parts) == data
        assert store.read("name+with~signs 1%").data == b"1"

    def test_sizes_are_told(self, filled: Callable[[Mapping[str, bytes]], Store]) -> None:
        store = filled({"a/b": b"12345", "empty": b""})
        found = [store.stat(key) for key in ("a/b", "empty")]
        assert [(status.key, status.size) for status in found if status] == [
            ("a/b", 5),
            ("empty", 0),
        ]

    def test_what_is_missing_is_not_found(
        self, filled: Callable[[Mapping[str, bytes]], Store]
    ) -> None:
        store = filled({"a/b": b"1"})
        for act in (lambda: store.read("no/thing"), lambda: store.read_range("no/thing", 0, 1)):
            with pytest.raises(NotFound) as caught:
                act()
            assert caught.value.message == self.missing.format(url=store.url)
        assert store.stat("no/thing") is None

    @pytest.mark.parametrize(
        "key", ["", "/a", "a/", "a//b", "../a", "a/../b", ".tmp/x", "a\\b", "a\nb", "x" * 256]
    )
    def test_a_reader_asks_for_no_key_that_leads_elsewhere(
        self, filled: Callable[[Mapping[str, bytes]], Store], key: str
    ) -> None:
        store = filled({})
        for act in (
            store.read,
            store.stat,
            lambda key: store.read_range(key, 0, 1),
            lambda key: store.read_range(key, 0, 0),
        ):
            with pytest.raises(StoreError) as caught:
                act(key)
            assert caught.value.message == f"not a key of a store: {key[:100]!r}"


class StoreContract(ReadingContract):
    """Subclasses have a fixture ``reopen``: each call opens the same store anew."""

    @pytest.fixture
    def store(self, reopen: Callable[[], Store]) -> Store:
        return reopen()

    @pytest.fixture
    def filled(self, reopen: Callable[[], Store]) -> Callable[[Mapping[str, bytes]], Store]:
        def fill(objects: Mapping[str, bytes]) -> Store:
            for key, data in objects.items():
                reopen().create(key, data)
            return reopen()

        return fill

    def fill(self, store: Store, keys: list[str]) -> None:
        """Create empty objects, many."""
        with ThreadPoolExecutor(8) as workers:
            list(workers.map(lambda key: store.create(key, b""), keys))

    def test_what_is_created_is_read(self, store: Store, reopen: Callable[[], Store]) -> None:
        assert store.create("a/b", b"one") is True
        assert reopen().read("a/b").data == b"one"

    def test_creating_the_same_again_is_success_and_changes_nothing(self, store: Store) -> None:
        store.create("a/b", b"one")
        before = store.stat("a/b")
        assert store.create("a/b", b"one") is False
        assert store.stat("a/b") == before

    def test_creating_something_else_in_its_place_is_refused(self, store: Store) -> None:
        store.create("a/b", b"one")
        with pytest.raises(AlreadyExists) as caught:
            store.create("a/b", b"two")
        assert str(caught.value) == (
            "error: a/b exists already with another content\n"
            "  hint: what is published is never replaced"
        )
        assert store.read("a/b").data == b"one"

    def test_a_file_is_created(self, store: Store, tmp_path: Path) -> None:
        data = bytes(range(256)) * 20_000
        path = tmp_path / "file"
        path.write_bytes(data)
        assert store.create_file("big", path, sha256=sha256(data)) is True
        assert store.create_file("big", path, sha256=sha256(data)) is False
        assert store.read("big").data == data
        path.write_bytes(b"other")
        with pytest.raises(AlreadyExists):
            store.create_file("big", path, sha256=sha256(b"other"))

    def test_a_file_with_another_hash_than_promised_is_not_created(
        self, store: Store, tmp_path: Path
    ) -> None:
        path = tmp_path / "file"
        path.write_bytes(b"changed meanwhile")
        with pytest.raises(StoreError) as caught:
            store.create_file("x", path, sha256="0" * 64)
        assert caught.value.message == (
            f"the new content of x has the SHA-256 {sha256(b'changed meanwhile')}, "
            f"expected {'0' * 64}"
        )
        assert store.stat("x") is None

    def test_an_empty_object_is_an_object(self, store: Store) -> None:
        store.create("empty", b"")
        assert store.read("empty").data == b""
        status = store.stat("empty")
        assert status is not None
        assert status.size == 0

    def test_of_many_who_create_one_wins(self, store: Store, reopen: Callable[[], Store]) -> None:
        for round_ in range(10):

            def work(index: int, key: str = f"race/{round_}") -> bool:
                try:
                    return reopen().create(key, b"%d" % index)
                except AlreadyExists:
                    return False

            results = together(8, work)
            assert results.count(True) == 1
            assert store.read(f"race/{round_}").data == b"%d" % results.index(True)

    def test_many_who_create_the_same_all_succeed(
        self, store: Store, reopen: Callable[[], Store]
    ) -> None:
        assert together(8, lambda index: reopen().create("same", b"same")).count(True) == 1

    def test_swap_replaces_the_version_that_was_read(self, store: Store) -> None:
        first = store.swap("now", b"1", etag=None)
        assert store.read("now").etag == first
        second = store.swap("now", b"2", etag=first)
        blob = store.read("now")
        assert (blob.data, blob.etag) == (b"2", second)

    def test_swap_of_another_version_is_refused(self, store: Store) -> None:
        first = store.swap("now", b"1", etag=None)
        store.swap("now", b"2", etag=first)
        for stale in (first, None):
            with pytest.raises(Conflict) as caught:
                store.swap("now", b"3", etag=stale)
            assert caught.value.message == "now was changed by another writer"
        with pytest.raises(Conflict) as caught:
            store.swap("gone", b"3", etag=first)
        assert caught.value.message == "gone is not there any more"
        assert store.read("now").data == b"2"
        assert store.stat("gone") is None

    def test_of_many_who_swap_one_wins_each_time(
        self, store: Store, reopen: Callable[[], Store]
    ) -> None:
        store.swap("counter", b"0", etag=None)

        def add(index: int) -> bool:
            mine = reopen()
            for _ in range(5):
                while True:
                    blob = mine.read("counter")
                    try:
                        mine.swap("counter", b"%d" % (int(blob.data) + 1), etag=blob.etag)
                        break
                    except Conflict:
                        continue
            return True

        together(4, add)
        assert store.read("counter").data == b"20"

    def test_ranges(self, store: Store) -> None:
        store.create("r", b"0123456789")
        assert store.read_range("r", 2, 3) == b"234"
        assert store.read_range("r", 8, 100) == b"89"

    def test_what_is_not_there(self, store: Store) -> None:
        for act in (lambda: store.read("no/thing"), lambda: store.read_range("no/thing", 0, 1)):
            with pytest.raises(NotFound) as caught:
                act()
            assert caught.value.message == f"there is no no/thing in {store.url}"
        assert store.stat("no/thing") is None
        assert list(store.list()) == []
        assert list(store.list("no/")) == []
        store.delete("no/thing")

    def test_a_listing_is_sorted_and_has_what_begins_so(self, store: Store) -> None:
        keys = ["a/2", "a/10", "a-b", "ab/c/d", "b"]
        for key in keys:
            store.create(key, key.encode())
        assert [status.key for status in store.list()] == sorted(keys)
        assert [status.key for status in store.list("a/")] == ["a/10", "a/2"]
        assert [status.key for status in store.list("a")] == ["a-b", "a/10", "a/2", "ab/c/d"]
        assert [status.key for status in store.list("ab/c/d")] == ["ab/c/d"]
        assert [status.size for status in store.list("a/")] == [4, 3]

    def test_a_listing_may_be_long(self, store: Store) -> None:
        keys = [f"many/{number:04}" for number in range(2_500)]
        self.fill(store, keys)
        assert [status.key for status in store.list("many/")] == keys

    def test_times_are_those_of_writing(self, store: Store) -> None:
        before = time.time()
        store.create("t", b"")
        status = store.stat("t")
        assert status is not None
        assert before - 5 < status.modified < time.time() + 5

    def test_the_clock_is_that_of_the_times(self, store: Store) -> None:
        before = store.now()
        store.create("t", b"")
        status = store.stat("t")
        assert status is not None
        assert before - 2 < status.modified <= store.now() + 2

    def test_what_is_renewed_counts_as_written_now(self, store: Store) -> None:
        store.create("t", b"content")
        before = store.now()
        store.renew("t")
        status = store.stat("t")
        assert status is not None
        assert status.modified >= before - 2
        assert store.read("t").data == b"content"
        with pytest.raises(NotFound):
            store.renew("no/thing")

    def test_nothing_is_left_to_sweep(self, store: Store) -> None:
        store.create("t", b"")
        assert store.sweep(store.now() + 60) == 0

    def test_what_is_deleted_is_gone_and_can_be_created_again(self, store: Store) -> None:
        store.create("x/y/z", b"1")
        store.create("x/w", b"1")
        store.delete("x/y/z")
        assert [status.key for status in store.list()] == ["x/w"]
        assert store.create("x/y/z", b"2") is True

    @pytest.mark.parametrize(
        "key",
        [
            "",
            "/a",
            "a/",
            "a//b",
            "../a",
            "a/../b",
            ".",
            "a/.",
            ".tmp/x",
            "a\\b",
            "a\nb",
            "a\0b",
            "x" * 256,
            "a/" * 600 + "a",
        ],
    )
    def test_a_key_that_leads_elsewhere_is_refused(self, store: Store, key: str) -> None:
        for act in (
            store.read,
            store.stat,
            store.delete,
            lambda key: store.create(key, b""),
            lambda key: store.swap(key, b"", etag=None),
        ):
            with pytest.raises(StoreError) as caught:
                act(key)
            assert caught.value.message == f"not a key of a store: {key[:100]!r}"
