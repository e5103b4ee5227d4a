"""A directory store in which somebody without a key put links, pipes, endless files and locks."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from slipway.errors import StoreError
from slipway.stores import MAX_LISTED, MAX_READ, AlreadyExists, TooLarge
from slipway.stores.directory import DirectoryStore

pytestmark = pytest.mark.timeout(30)  # what hangs without its guard has to fail
HINT = "a store has files and folders alone: remove it, then run: invoke verify"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "store"
    path.mkdir()
    return path


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    path = tmp_path / "outside"
    path.mkdir()
    (path / "secret").write_text("secret")
    return path


def link_to_zero(path: Path) -> None:
    path.symlink_to("/dev/zero")


def link_outside(path: Path) -> None:
    path.symlink_to(path.parents[2] / "outside/secret")


def pipe(path: Path) -> None:
    os.mkfifo(path)


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


STRANGE: list[tuple[Callable[[Path], None], str]] = [
    (link_to_zero, "a link"),
    (link_outside, "a link"),
    (pipe, "a pipe"),
    (listening, "a socket"),
    (Path.mkdir, "a folder"),
]


@pytest.mark.parametrize(("make", "what"), STRANGE)
def test_what_is_no_file_is_refused_by_every_operation(
    folder: Path, outside: Path, make: Callable[[Path], None], what: str
) -> None:
    (folder / "a").mkdir()
    make(folder / "a/b")
    store = DirectoryStore(folder)
    acts: list[Callable[[], object]] = [
        lambda: store.read("a/b"),
        lambda: store.read_range("a/b", 0, 10),
        lambda: store.stat("a/b"),
        lambda: store.create("a/b", b"x"),
        lambda: store.create_file("a/b", outside / "secret", sha256="0" * 64),
        lambda: store.swap("a/b", b"x", etag=None),
        lambda: store.renew("a/b"),
    ]
    for act in acts:
        with pytest.raises(StoreError) as caught:
            act()
        assert str(caught.value) == f"error: a/b in {folder} is {what}, not a file\n  hint: {HINT}"
    assert list(store.list()) == []
    assert (outside / "secret").read_text() == "secret"


def test_a_link_in_a_parent_folder_leads_nowhere(folder: Path, outside: Path) -> None:
    (folder / "a").symlink_to(outside, target_is_directory=True)
    before = [path.stat().st_mtime_ns for path in (outside, outside / "secret")]
    store = DirectoryStore(folder)
    acts: list[Callable[[], object]] = [
        lambda: store.read("a/secret"),
        lambda: store.read_range("a/secret", 0, 10),
        lambda: store.stat("a/secret"),
        lambda: store.create("a/new", b"x"),
        lambda: store.create("a/b/c/new", b"x"),
        lambda: store.swap("a/new", b"x", etag=None),
        lambda: store.renew("a/secret"),
        lambda: store.delete("a/secret"),
        lambda: list(store.list("a/")),
    ]
    for act in acts:
        with pytest.raises(StoreError) as caught:
            act()
        assert caught.value.message.endswith(f" in {folder} is below a link")
        assert caught.value.hint == HINT
    assert list(store.list()) == []
    assert [path.name for path in outside.iterdir()] == ["secret"]
    assert [path.stat().st_mtime_ns for path in (outside, outside / "secret")] == before


def test_a_link_in_place_of_the_temporary_folder_leads_nowhere(folder: Path, outside: Path) -> None:
    (outside / "new-1").write_text("not a temporary file")
    (folder / ".tmp").symlink_to(outside, target_is_directory=True)
    store = DirectoryStore(folder)
    for act in (lambda: store.create("a", b"x"), lambda: store.sweep(0), store.now):
        with pytest.raises(StoreError) as caught:
            act()
        assert caught.value.message == f".tmp in {folder} is below a link"
    assert sorted(path.name for path in outside.iterdir()) == ["new-1", "secret"]


def test_a_loop_of_links_and_names_that_no_key_has_are_left_out_of_a_listing(folder: Path) -> None:
    store = DirectoryStore(folder)
    store.create("a/b/c", b"1")
    (folder / "a/b/loop").symlink_to(folder, target_is_directory=True)
    (folder / "a/dead").symlink_to("nowhere")
    os.mkfifo(folder / "a/pipe")
    (folder / "a/back\\slash").write_text("")
    Path(os.fsdecode(os.fsencode(folder) + b"/a/\xff")).write_text("")
    (folder / "a/.hidden").mkdir()
    (folder / "a/.hidden/x").write_text("")
    deep = os.open(folder, os.O_RDONLY)
    for _ in range(600):
        os.mkdir("d", dir_fd=deep)
        inner = os.open("d", os.O_RDONLY, dir_fd=deep)
        os.close(deep)
        deep = inner
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=deep))
    os.close(deep)
    assert [status.key for status in store.list()] == ["a/b/c"]


def test_a_listing_has_a_limit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_LISTED == 250_000
    monkeypatch.setattr("slipway.stores._folder.MAX_LISTED", 20)
    for number in range(21):
        (folder / f"{number}").symlink_to("nowhere")
    with pytest.raises(StoreError) as caught:
        list(DirectoryStore(folder).list())
    assert str(caught.value) == (
        f"error: {folder} lists more than 20 objects\n"
        "  hint: no store of Slipway has so many: look at what fills it"
    )


def test_a_file_without_an_end_is_not_read(folder: Path) -> None:
    (folder / "huge").touch()
    os.truncate(folder / "huge", 1 << 40)
    store = DirectoryStore(folder)
    reads: list[tuple[Callable[[], object], int]] = [
        (lambda: store.read("huge"), MAX_READ),
        (lambda: store.read("huge", limit=16_384), 16_384),
        (lambda: store.swap("huge", b"", etag=None), MAX_READ),
    ]
    for act, limit in reads:
        with pytest.raises(TooLarge) as caught:
            act()
        assert caught.value.message == f"huge in {folder} is larger than {limit} bytes"
    creations: list[Callable[[], bool]] = [
        lambda: store.create("huge", b"small"),
        lambda: store.create_file("huge", Path(__file__), sha256="0" * 64),
    ]
    for create in creations:
        with pytest.raises(AlreadyExists):
            create()
    assert store.read_range("huge", 0, 3) == b"\0\0\0"
    (folder / "small").write_bytes(b"12345")
    assert store.read("small", limit=5).data == b"12345"
    assert store.read_range("small", 0, 1 << 50) == b"12345"
    with pytest.raises(TooLarge):
        store.read("small", limit=4)


def test_who_can_only_read_cannot_take_the_publishers_lock(folder: Path) -> None:
    folder.chmod(0o755)
    DirectoryStore(folder).create("a", b"1")
    modes = [stat.S_IMODE((folder / name).stat().st_mode) for name in (".tmp", ".tmp/lock")]
    assert modes == [0o700, 0o600]
    # What an earlier version left is tightened, and a folder of a group has a lock of the group.
    (folder / ".tmp").chmod(0o755)
    (folder / ".tmp/lock").chmod(0o644)
    folder.chmod(0o2775)
    DirectoryStore(folder).create("b", b"1")
    modes = [stat.S_IMODE((folder / name).stat().st_mode) for name in (".tmp", ".tmp/lock")]
    assert modes == [0o770, 0o660]


def test_a_lock_that_is_never_given_back_ends_in_an_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = DirectoryStore(folder)
    store.create("a", b"1")
    monkeypatch.setattr("slipway.stores._folder.LOCK_PATIENCE_S", 0.2)
    with (folder / ".tmp/lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        with pytest.raises(StoreError) as caught:
            store.create("b", b"1")
        assert store.read("a").data == b"1"
    assert str(caught.value) == (
        f"error: {folder}/.tmp/lock is held by another process\n"
        f"  hint: see which: fuser -v {folder}/.tmp/lock; end it, then try again"
    )
    store.create("b", b"1")


@pytest.mark.parametrize("make", [link_outside, pipe, Path.mkdir])
def test_a_lock_that_is_no_file_is_refused(
    folder: Path, outside: Path, make: Callable[[Path], None]
) -> None:
    (folder / ".tmp").mkdir()
    make(folder / ".tmp/lock")
    with pytest.raises(StoreError) as caught:
        DirectoryStore(folder).create("a", b"1")
    assert caught.value.message.startswith(f".tmp/lock in {folder} is a ")
    assert caught.value.hint == HINT


def test_a_folder_that_becomes_a_link_after_it_was_opened_changes_nothing_outside(
    folder: Path, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attacker is as quick as can be: between opening the folder and linking the file."""
    store = DirectoryStore(folder)
    store.create("a/b", b"1")
    link = os.link

    def race(*args: object, **kwargs: object) -> None:
        if not (folder / "a").is_symlink():
            (folder / "a").rename(folder / "aside")
            (folder / "a").symlink_to(outside, target_is_directory=True)
        link(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "link", race)
    store.create("a/c", b"2")
    assert [path.name for path in outside.iterdir()] == ["secret"]


def test_an_unreadable_file_is_an_error_with_its_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise OSError(errno.EIO, "a broken disk")

    (folder / "a").write_text("1")
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(StoreError) as caught:
        DirectoryStore(folder).read("a")
    assert caught.value.message == f"a in {folder}: Input/output error"
