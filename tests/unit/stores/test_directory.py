"""The directory store: the contract, and what is special about files."""

from __future__ import annotations

import fcntl
import hashlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from slipway.errors import StoreError
from slipway.host import process
from slipway.stores import AlreadyExists, Store, open_store
from slipway.stores.directory import DirectoryStore
from store_contract import StoreContract


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


class TestContract(StoreContract):
    @pytest.fixture
    def reopen(self, folder: Path) -> Callable[[], Store]:
        return lambda: open_store(str(folder))


def files(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )


def test_reading_makes_nothing(folder: Path) -> None:
    store = DirectoryStore(folder)
    assert list(store.list()) == []
    assert not folder.exists()


def test_what_is_created_is_read_only_and_nothing_else_is_left(folder: Path) -> None:
    store = DirectoryStore(folder)
    store.create("a/b", b"1")
    store.swap("c", b"2", etag=None)
    assert (folder / "a/b").stat().st_mode & 0o777 == 0o444
    assert (folder / "c").stat().st_mode & 0o777 == 0o644
    assert files(folder) == [".tmp/lock", "a/b", "c"]
    store.delete("a/b")
    assert not (folder / "a").exists()


KILLED = """
import os, signal, sys
from pathlib import Path
from slipway.stores.directory import DirectoryStore

def chunks():
    yield b"half of it"
    os.kill(os.getpid(), signal.SIGKILL)

DirectoryStore(Path(sys.argv[1]))._create("a/b", chunks(), "0" * 64, 20)
"""


def test_what_a_killed_writer_left_is_removed_by_the_next_one(folder: Path) -> None:
    done = process.run(
        [sys.executable, "-c", KILLED, folder],
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    left = [name for name in files(folder) if name != ".tmp/lock"]
    assert len(left) == 1
    assert left[0].startswith(".tmp/new-")
    assert list(DirectoryStore(folder).list()) == []
    DirectoryStore(folder).create("a/b", b"whole")
    assert files(folder) == [".tmp/lock", "a/b"]


def test_what_a_killed_writer_left_is_removed_where_nothing_is_to_be_written(folder: Path) -> None:
    DirectoryStore(folder).create("a/b", b"1")
    (folder / ".tmp/new-0123456789abcdef").write_bytes(b"half of it")
    assert DirectoryStore(folder).create("a/b", b"1") is False
    assert files(folder) == [".tmp/lock", "a/b"]


def test_what_another_writer_is_at_is_left_alone(folder: Path) -> None:
    first = DirectoryStore(folder)
    with first._temporary() as (file, _, name):
        file.write(b"under way")
        DirectoryStore(folder).create("x", b"")
        assert (folder / ".tmp" / name).exists()
    assert not (folder / ".tmp" / name).exists()


def test_what_a_rival_created_meanwhile_is_not_replaced(folder: Path) -> None:
    def chunks() -> Iterator[bytes]:
        DirectoryStore(folder).create("a/b", b"the rival's")
        yield b"mine"

    with pytest.raises(AlreadyExists) as caught:
        DirectoryStore(folder)._create("a/b", chunks(), hashlib.sha256(b"mine").hexdigest(), 4)
    assert caught.value.message == "a/b exists already with another content"
    assert DirectoryStore(folder).read("a/b").data == b"the rival's"


def test_a_swap_waits_for_another_that_is_under_way(folder: Path) -> None:
    first = DirectoryStore(folder).swap("now", b"1", etag=None)
    worker = threading.Thread(target=lambda: DirectoryStore(folder).swap("now", b"2", etag=first))
    with (folder / ".tmp/lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        worker.start()
        worker.join(0.3)
        assert worker.is_alive()
        assert DirectoryStore(folder).read("now").data == b"1"
    worker.join(10)
    assert DirectoryStore(folder).read("now").data == b"2"


def test_a_full_disk_is_an_error_with_a_hint_and_leaves_nothing(
    folder: Path, tmp_path: Path
) -> None:
    script = """
import sys
from pathlib import Path
from slipway.errors import StoreError
from slipway.stores.directory import DirectoryStore
try:
    DirectoryStore(Path("/mnt/store")).create("big", b"x" * (4 << 20))
except StoreError as error:
    sys.stdout.write(str(error))
sys.stdout.write("\\n" + repr(sorted(p.name for p in Path("/mnt/store").rglob("*"))))
"""
    inside = 'mount -t tmpfs -o size=1m none /mnt && exec "$@"'
    unshare = (
        ["unshare", "--mount"]
        if os.geteuid() == 0
        else ["unshare", "--user", "--map-root-user", "--mount"]
    )
    done = process.run(
        [*unshare, "sh", "-c", inside, "sh", sys.executable, "-c", script],
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    if done.returncode:
        pytest.skip("no mount namespaces here")
    assert done.stdout.decode() == (
        "error: big in /mnt/store: No space left on device\n  hint: free some space there\n"
        "['.tmp', 'lock']"
    )


def test_other_troubles_of_the_file_system_are_errors_too(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    store = DirectoryStore(tmp_path / "file")
    with pytest.raises(StoreError) as caught:
        store.create("a", b"")
    assert caught.value.message.startswith(f"a in {tmp_path / 'file'}: ")


def test_a_store_is_opened_by_its_url(tmp_path: Path) -> None:
    assert open_store(str(tmp_path)).url == str(tmp_path)
    assert open_store(f"directory://{tmp_path}").url == str(tmp_path)
    with pytest.raises(StoreError) as caught:
        open_store("ftp://host/path")
    assert str(caught.value) == (
        "error: there is no kind of store for ftp://host/path\n"
        "  hint: give a directory, or one of: directory://, https://, s3://"
    )


@pytest.fixture
def closed() -> Iterator[None]:
    """Nothing new is for anybody else, as with the umask of a careful user or of a service."""
    before = os.umask(0o077)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    """The modes of a store's folders, without the one of temporary files."""
    found = (path for path in (folder, *folder.rglob("*")) if path.is_dir() and path.name != ".tmp")
    return {
        path.relative_to(folder.parent).as_posix(): path.stat().st_mode & 0o7777 for path in found
    }


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o2775, 0o700])
def test_folders_have_the_rights_of_the_store_whatever_the_umask_is(
    folder: Path, closed: None, mode: int
) -> None:
    folder.mkdir()
    folder.chmod(mode)
    DirectoryStore(folder).create("a/b/c", b"1")
    DirectoryStore(folder).swap("d/e", b"2", etag=None)
    assert modes(folder) == dict.fromkeys(("store", "store/a", "store/a/b", "store/d"), mode)


def test_a_new_store_and_what_leads_to_it_can_be_read(tmp_path: Path, closed: None) -> None:
    folder = tmp_path / "srv/store"
    DirectoryStore(folder).create("a/b", b"1")
    assert modes(tmp_path / "srv") == dict.fromkeys(("srv", "srv/store", "srv/store/a"), 0o755)
    assert (folder / "a/b").stat().st_mode & 0o777 == 0o444


def test_a_folder_that_an_earlier_umask_closed_is_opened_by_the_next_that_writes_there(
    folder: Path,
) -> None:
    DirectoryStore(folder).create("a/b/c", b"1")
    for name in ("a", "a/b"):
        (folder / name).chmod(0o700)
    DirectoryStore(folder).create("a/b/d", b"1")
    assert modes(folder) == dict.fromkeys(("store", "store/a", "store/a/b"), 0o755)
