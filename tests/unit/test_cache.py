"""The cache gives back what was put there, or nothing: never half of it, never something else."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest

from slipway.cache import Cache, create_file, place
from slipway.host.namespace import Namespace

ID = "a" * 64


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache", limit_bytes=10_000)


def filled(content: bytes) -> Callable[[IO[bytes]], None]:
    def fill(file: IO[bytes]) -> None:
        file.write(content)

    return fill


def test_an_entry_comes_back_with_its_files_and_facts(cache: Cache) -> None:
    assert cache.find(ID) is None
    cache.add(ID, "tree", {"layer": filled(b"content")}, {"size": 7})
    entry = cache.verified(ID)
    assert entry
    assert entry.file("layer").read_bytes() == b"content"
    assert entry.facts == {"size": 7}


def altered(path: Path) -> None:
    before = path.stat()
    path.chmod(0o644)
    path.write_bytes(b"kontent")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def truncated(path: Path) -> None:
    path.chmod(0o644)
    os.truncate(path, 3)


def truncated_long_ago(path: Path) -> None:
    before = path.stat()
    truncated(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def grown(path: Path) -> None:
    path.chmod(0o644)
    with path.open("ab") as file:
        file.write(b"x")


@pytest.mark.parametrize(
    "poison",
    [altered, truncated, truncated_long_ago, grown, Path.unlink],
    ids=lambda function: function.__name__,
)
def test_a_poisoned_file_is_noticed_and_its_entry_is_gone(
    cache: Cache, poison: Callable[[Path], None]
) -> None:
    entry = cache.add(ID, "tree", {"layer": filled(b"content"), "other": filled(b"other")})
    poison(entry.file("layer"))
    assert cache.verified(ID) is None
    assert cache.find(ID) is None
    assert not entry.folder.exists()
    cache.add(ID, "tree", {"layer": filled(b"content")})
    assert cache.verified(ID)


@pytest.mark.parametrize(
    "poison",
    [
        lambda text: text.replace('"passed": true', '"passed": null'),
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[]\n",
        lambda text: text.replace('"size": 7', '"size": 8'),
    ],
    ids=["a fact altered", "half written", "empty", "something else", "a size altered"],
)
def test_a_poisoned_record_is_noticed(cache: Cache, poison: Callable[[str], str]) -> None:
    entry = cache.add(ID, "boot", {"layer": filled(b"content")}, {"passed": True})
    record = entry.folder / "entry"
    text = poison(record.read_text())
    assert text != record.read_text()
    record.chmod(0o644)
    record.write_text(text)
    assert cache.find(ID) is None
    assert cache.verified(ID) is None


def test_what_a_killed_build_left_is_no_entry_and_goes_with_the_next_prune(cache: Cache) -> None:
    folder = cache.directory / "stages" / ID
    folder.mkdir(parents=True)
    (folder / "layer").write_bytes(b"content")
    assert cache.find(ID) is None
    assert [(usage.kind, usage.size) for usage in cache.prune()] == [("incomplete", 7)]
    assert not folder.exists()


def test_a_maker_that_fails_leaves_nothing(cache: Cache) -> None:
    def fail(file: IO[bytes]) -> None:
        file.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.add(ID, "tree", {"layer": filled(b"content"), "other": fail})
    assert cache.find(ID) is None
    assert not list((cache.directory / "stages").rglob("*"))


def test_prune_removes_the_longest_unused_until_it_fits(cache: Cache) -> None:
    for number, age in enumerate((300, 100, 200)):
        entry = cache.add(str(number) * 64, "tree", {"layer": filled(bytes(4000))})
        os.utime(entry.folder / "entry", (1e9 - age, 1e9 - age))
    assert [usage.id[0] for usage in cache.prune()] == ["0"]
    assert cache.verified("2" * 64)  # used just now
    assert [usage.id[0] for usage in cache.prune(keep_bytes=5_000)] == ["1"]
    assert [usage.id[0] for usage in cache.prune(keep_bytes=0)] == ["2"]


def test_prune_leaves_what_is_being_made_alone(cache: Cache) -> None:
    cache.add(ID, "tree", {"layer": filled(bytes(4000))})
    with cache.locked(ID):
        assert cache.prune(keep_bytes=0) == []
    assert len(cache.prune(keep_bytes=0)) == 1


def test_prune_removes_the_locks_of_what_is_gone_that_nobody_has(cache: Cache) -> None:
    locks = cache.directory / "locks"
    with cache.locked("c" * 64), cache.keeping():
        cache.add(ID, "tree", {"layer": filled(bytes(4000))})
        cache.verified("b" * 64)
        Cache(cache.directory, limit_bytes=0).prune(keep_bytes=0)
        assert sorted(path.name for path in locks.iterdir()) == [
            ID,
            f"{ID}.kept",
            f"{'b' * 64}.kept",
            "c" * 64,
        ]
    cache.prune(keep_bytes=10_000)
    assert sorted(path.name for path in locks.iterdir()) == [ID, f"{ID}.kept"]
    cache.prune(keep_bytes=0)
    assert list(locks.iterdir()) == []


def test_a_lock_whose_file_was_removed_before_it_was_taken_is_taken_again(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between opening and locking somebody prunes: who has the old file's lock would have it alone,
    and so would others.
    """
    path = cache.directory / "locks" / ID
    tries: list[int] = []

    def flock(file: IO[bytes], how: int) -> None:
        if path.exists() and not tries:
            path.unlink()
        tries.append(how)
        real(file, how)

    real = fcntl.flock
    monkeypatch.setattr(fcntl, "flock", flock)
    with cache.locked(ID):
        assert len(tries) == 2
        with cache._lock_at_once(ID) as held_here:
            assert held_here
        with Cache(cache.directory, limit_bytes=0)._lock_at_once(ID) as mine:
            assert not mine


def test_who_looks_at_what_another_makes_takes_nothing_away(cache: Cache) -> None:
    other = Cache(cache.directory, limit_bytes=10_000)
    looked: list[object] = []

    def fill(file: IO[bytes]) -> None:
        looked.append(other.verified(ID))
        file.write(b"content")

    with cache.locked(ID):
        cache.add(ID, "tree", {"first": filled(b"first"), "layer": fill})
        assert looked == [None]
        entry = cache.verified(ID)
    assert entry
    assert (entry.file("first").read_bytes(), entry.file("layer").read_bytes()) == (
        b"first",
        b"content",
    )
    assert other.verified(ID)


def test_what_a_build_uses_stays_until_it_ends(cache: Cache) -> None:
    other = Cache(cache.directory, limit_bytes=0)
    cache.add("b" * 64, "base", {"layer": filled(b"content")})
    with cache.keeping():
        cache.add(ID, "tree", {"layer": filled(b"content")})
        assert cache.verified("b" * 64)
        with cache.keeping():
            assert cache.verified(ID)
        assert other.prune(keep_bytes=0) == []
        assert cache.prune(keep_bytes=0) == []
    assert {usage.id[0] for usage in other.prune(keep_bytes=0)} == {"a", "b"}


def test_the_usage_is_counted_while_somebody_prunes(cache: Cache) -> None:
    done = threading.Event()

    def churn() -> None:
        while not done.is_set():
            for number in range(8):
                cache.add(str(number) * 64, "tree", {name: filled(b"x") for name in "abcdef"})
            cache.prune(keep_bytes=0)

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(300):
            assert all(usage.size >= 0 for usage in cache.usage())
    finally:
        done.set()
        thread.join()


def test_an_entry_that_goes_while_it_is_counted_counts_nothing(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = cache.add(ID, "tree", {"layer": filled(b"x")})
    other = cache.add("b" * 64, "tree", {"layer": filled(b"x")})
    listed = os.scandir

    def scandir(path: Path | str) -> object:
        if str(path) == str(entry.folder):
            cache.drop(ID)
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert {usage.id for usage in cache.usage() if usage.size > 1} == {other.id}
    assert not entry.folder.exists()


def test_two_who_want_the_same_stage_take_turns(cache: Cache) -> None:
    order: list[str] = []
    waiting = threading.Event()

    def second() -> None:
        with cache.locked(ID, waiting.set):
            order.append("second")

    with cache.locked(ID):
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(10)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_scratch_is_removed_and_so_is_that_of_the_dead(cache: Cache) -> None:
    with cache.scratch() as first:
        (first / "file").write_text("x")
        with cache.scratch() as second:
            assert first.exists()
            assert second != first
        assert not second.exists()
    assert not first.exists()
    left = cache.directory / "scratch/1-1"
    (left / "deep").mkdir(parents=True)
    left.with_name("1-1.lock").touch()
    with cache.scratch():
        assert not left.exists()
    assert list((cache.directory / "scratch").iterdir()) == []


def test_scratch_of_the_living_stays(cache: Cache) -> None:
    left = cache.directory / "scratch/1-1"
    left.mkdir(parents=True)
    with left.with_name("1-1.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with cache.scratch():
            assert left.exists()


def test_a_file_gets_its_name_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new/file"
    with create_file(path, mode=0o640) as file:
        file.write(b"one")
        assert not path.exists()
    assert path.read_bytes() == b"one"
    assert path.stat().st_mode & 0o777 == 0o640
    with pytest.raises(ValueError, match="no"), create_file(path) as file:
        file.write(b"two")
        raise ValueError("no")
    assert path.read_bytes() == b"one"
    with create_file(path) as file:
        file.write(b"three")
    assert path.read_bytes() == b"three"
    assert [found.name for found in path.parent.iterdir()] == ["file"]


def test_leftovers_of_a_process_with_the_same_number_are_nobodys_content(tmp_path: Path) -> None:
    """In containers, numbers of processes come again."""
    path = tmp_path / "file"
    (tmp_path / f".file.{os.getpid()}").write_bytes(b"stale")
    for content in (b"one", b"two"):
        with create_file(path) as file:
            file.write(content)
        assert path.read_bytes() == content


def test_two_can_write_one_file_where_none_is_without_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def without_unnamed(path: str | Path, flags: int, *more: int, **named: int) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")
        return real(path, flags, *more, **named)

    monkeypatch.setattr("slipway.cache.os.open", without_unnamed)
    with create_file(tmp_path / "file") as one, create_file(tmp_path / "file") as other:
        one.write(b"one")
        other.write(b"other")
    assert (tmp_path / "file").read_bytes() == b"one"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_leaves_the_old_file_and_says_so(tmp_path: Path) -> None:
    # A file system of one MiB in a private namespace, so that it is really full.
    script = """
import sys
from pathlib import Path
from slipway.cache import create_file
from slipway.errors import HostError
target = Path("/mnt/file")
target.write_bytes(b"old")
try:
    with create_file(target) as file:
        file.write(bytes(2 << 20))
except HostError as error:
    print(error)
print(target.read_bytes(), [path.name for path in target.parent.iterdir()])
"""
    with Namespace(memory_mib=1) as namespace:
        environment = {"PYTHONPATH": str(Path(__file__).parents[2] / "src")}
        said = namespace.run([sys.executable, "-c", script], env=environment).stdout.decode()
    assert said == (
        "error: no space left in /mnt\n  hint: free some space, or run: invoke cache prune\n"
        "b'old' ['file']\n"
    )


def test_a_second_name_or_a_copy_where_there_cannot_be_one(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"content")
    place(source, tmp_path / "target")
    assert (tmp_path / "target").samefile(source)
    other = Path("/dev/shm") / f"slipway-test-{os.getpid()}"
    try:
        place(source, other)
        assert other.read_bytes() == b"content"
    finally:
        other.unlink(missing_ok=True)


@pytest.mark.parametrize(
    "harm", [truncated, truncated_long_ago, grown], ids=lambda function: function.__name__
)
def test_a_file_of_another_size_is_noticed_without_reading_it(
    cache: Cache, harm: Callable[[Path], None]
) -> None:
    entry = cache.add(ID, "tree", {"layer": filled(b"content")})
    assert cache.find(ID)
    harm(entry.file("layer"))
    assert cache.find(ID) is None


def test_a_cache_that_was_copied_is_the_same_cache(cache: Cache, tmp_path: Path) -> None:
    """From a backup, or by a service of CI: times are others, contents are not."""
    cache.add(ID, "tree", {"layer": filled(b"content")}, {"size": 7})
    for path in (tmp_path / "cache").rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    assert cache.find(ID)
    assert cache.verified(ID)


def test_a_file_that_was_hashed_on_its_way_is_not_read_again(cache: Cache) -> None:
    """Its maker says what it wrote; whether that is what is there is seen before its first use."""
    with cache.scratch() as scratch:
        for name, sha256 in (("a", hashlib.sha256(b"content").hexdigest()), ("b", "0" * 64)):
            (scratch / name).write_bytes(b"content")
            cache.add(name * 64, "artifact:raw", {"disk": (scratch / name, sha256)})
    assert cache.find("a" * 64) and cache.find("b" * 64)
    assert cache.verified("a" * 64)
    assert cache.verified("b" * 64) is None


@pytest.mark.parametrize("lasting", [True, False])
def test_what_is_gone_after_a_power_cut_anyway_is_not_waited_for(
    lasting: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[int] = []
    monkeypatch.setattr(os, "fsync", flushed.append)
    with create_file(tmp_path / "disk", lasting=lasting) as file:
        file.write(b"x")
    assert (tmp_path / "disk").read_bytes() == b"x"
    assert len(flushed) == lasting
