"""What a download does with what is in its folder: an enemy may have been there first, or is there
meanwhile.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slipway.channels import download as module
from slipway.channels.download import Wanted, download
from slipway.channels.layout import target_key
from slipway.errors import HostError, UsageError, VerificationError
from slipway.records.reference import ReleaseRef
from slipway.stores.directory import DirectoryStore
from store_doubles import LyingStore, RacingStore

IMAGE = b"0123456789" * 1000
SHA256 = hashlib.sha256(IMAGE).hexdigest()
WANTED = Wanted(ref=ReleaseRef("web", "1.0.0-b1"), file="web.qcow2", size=len(IMAGE), sha256=SHA256)
PART = f".web.qcow2.{SHA256[:16]}.part"
LEFT = (
    "exists with other content, and is left as it is\n"
    "  hint: move it away, or give another folder: --out DIR"
)
ALONE = "give a folder that only you can write: --out DIR"


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    store = DirectoryStore(tmp_path / "store")
    store.create(target_key(ReleaseRef("web", "1.0.0-b1"), "web.qcow2", SHA256), IMAGE)
    return store


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for downloads, whose ranges are small."""
    monkeypatch.setattr(module, "_RANGE", 1000)
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.fixture
def diary(tmp_path: Path) -> Path:
    """A file of the user's that an enemy wants to have overwritten."""
    (tmp_path / "diary").write_bytes(b"dear diary")
    (tmp_path / "diary").chmod(0o600)
    return tmp_path / "diary"


def refuse(store: Any, out: Path, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        download(store, WANTED, out)
    assert str(caught.value) == f"error: {message}"


def interrupted(store: DirectoryStore, out: Path) -> Path:
    """Stop a download in its fifth range; returns the unfinished file."""

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(RacingStore(store, "read_range", stop, at=5), WANTED, out, threads=1)
    return out / PART


def ranges_read(store: DirectoryStore, out: Path) -> int:
    counting = LyingStore(store, WANTED.key, bytes.upper, honest=1000)
    download(counting, WANTED, out)
    assert (out / "web.qcow2").read_bytes() == IMAGE
    assert [path.name for path in out.iterdir()] == ["web.qcow2"]
    return counting.reads


def test_an_image_is_a_file_of_its_own_with_the_usual_mode(
    store: DirectoryStore, out: Path
) -> None:
    before = os.umask(0o027)
    try:
        path = download(store, WANTED, out, name="other.qcow2")
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)
    assert path == out / "other.qcow2"
    assert path.read_bytes() == IMAGE
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert (path.stat().st_nlink, list(out.iterdir())) == (1, [path])


@pytest.mark.parametrize(
    "name", ["../web.qcow2", ".bashrc", "-rf", "a/b", "a\n", "..", "web qcow2"]
)
def test_a_name_that_leads_elsewhere_is_refused(
    store: DirectoryStore, out: Path, name: str
) -> None:
    with pytest.raises(UsageError) as caught:
        download(store, WANTED, out, name=name)
    assert str(caught.value) == f"error: a download cannot be called {name!r}"


# --- under the name itself ------------------------------------------------------------------------


def test_the_same_content_is_success_without_a_read(store: DirectoryStore, out: Path) -> None:
    (out / "web.qcow2").write_bytes(IMAGE)
    assert ranges_read(store, out) == 0


def test_other_content_stays(store: DirectoryStore, out: Path) -> None:
    for content in (b"mine", IMAGE[:-1] + b"x", b""):
        (out / "web.qcow2").write_bytes(content)
        refuse(store, out, HostError, f"{out}/web.qcow2 {LEFT}")
        assert (out / "web.qcow2").read_bytes() == content


@pytest.mark.parametrize("kind", ["link", "dangling", "same", "fifo", "folder"])
def test_what_is_no_regular_file_stays_and_is_not_followed(
    store: DirectoryStore, out: Path, diary: Path, kind: str
) -> None:
    target = out / "web.qcow2"
    if kind == "fifo":
        os.mkfifo(target)
    elif kind == "folder":
        target.mkdir()
    else:
        if kind == "same":
            diary.write_bytes(IMAGE)
        target.symlink_to(out.parent / "nothing" if kind == "dangling" else diary)
    content = diary.read_bytes()
    hint = "move it away, or give another folder: --out DIR"
    refuse(store, out, HostError, f"{target} exists and is not a regular file\n  hint: {hint}")
    assert diary.read_bytes() == content
    assert not (out.parent / "nothing").exists()
    assert list(out.iterdir()) == [target]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_the_same_content_of_another_user_is_not_believed(store: DirectoryStore, out: Path) -> None:
    (out / "web.qcow2").write_bytes(IMAGE)
    os.chown(out / "web.qcow2", 4711, 4711)
    hint = "move it away, or give another folder: --out DIR"
    refuse(
        store, out, HostError, f"{out}/web.qcow2 exists and belongs to another user\n  hint: {hint}"
    )


@pytest.mark.parametrize("content", [b"planted", IMAGE])
def test_a_file_that_takes_the_name_meanwhile_stays(
    store: DirectoryStore, out: Path, content: bytes
) -> None:
    def plant() -> None:
        (out / "web.qcow2").write_bytes(content)

    racing = RacingStore(store, "read_range", plant, at=10)
    if content == IMAGE:
        download(racing, WANTED, out)
    else:
        refuse(racing, out, HostError, f"{out}/web.qcow2 {LEFT}")
    assert racing.done
    assert (out / "web.qcow2").read_bytes() == content


# --- under the unfinished file's name -------------------------------------------------------------


def test_an_interrupted_download_goes_on(store: DirectoryStore, out: Path) -> None:
    part = interrupted(store, out)
    assert stat.S_IMODE(part.stat().st_mode) == 0o600
    assert ranges_read(store, out) <= 7


def test_a_whole_file_that_only_lacks_its_name_is_not_fetched_again(
    store: DirectoryStore, out: Path
) -> None:
    interrupted(store, out).write_bytes(IMAGE)
    assert ranges_read(store, out) == 0


def test_a_run_that_was_killed_between_two_names_leaves_one(
    store: DirectoryStore, out: Path
) -> None:
    part = interrupted(store, out)
    part.write_bytes(IMAGE)
    os.link(part, out / "web.qcow2")
    assert ranges_read(store, out) == 0


@pytest.mark.parametrize("kind", ["link", "hard link", "fifo", "readable", "other size"])
def test_a_planted_unfinished_file_is_discarded(
    store: DirectoryStore, out: Path, diary: Path, kind: str
) -> None:
    part = out / PART
    if kind == "fifo":
        os.mkfifo(part, 0o600)
    elif kind == "link":
        part.symlink_to(diary)
    elif kind == "hard link":
        os.link(diary, part)
    elif kind == "readable":
        part = interrupted(store, out)
        part.chmod(0o660)
    else:
        part.write_bytes(b"\1" * (len(IMAGE) + 7))
        part.chmod(0o600)
    assert ranges_read(store, out) == 10
    assert (diary.read_bytes(), diary.stat().st_nlink) == (b"dear diary", 1)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_an_unfinished_file_of_another_user_is_discarded(store: DirectoryStore, out: Path) -> None:
    os.chown(interrupted(store, out), 4711, 4711)
    assert ranges_read(store, out) == 10


def test_marks_that_lie_cost_the_download_and_nothing_else(
    store: DirectoryStore, out: Path
) -> None:
    part = interrupted(store, out)
    part.write_bytes(b"x" * len(IMAGE) + b"\1" * 10)
    found = hashlib.sha256(b"x" * len(IMAGE)).hexdigest()
    message = (
        f"{WANTED.key} has the SHA-256 {found}, its channel says {SHA256}\n"
        "  hint: the store was changed; nothing was kept"
    )
    refuse(store, out, VerificationError, message)
    assert list(out.iterdir()) == []


def test_a_folder_under_its_name_is_an_error(store: DirectoryStore, out: Path) -> None:
    (out / PART).mkdir()
    with pytest.raises(HostError, match="is not a download of yours") as caught:
        download(store, WANTED, out)
    assert caught.value.hint == "remove it, or give another folder: --out DIR"


def test_a_link_that_is_put_there_just_before_it_is_opened_is_not_followed(
    store: DirectoryStore, out: Path, diary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look finds nothing, or a file of ours; the open finds a link, each time."""
    interrupted(store, out)
    real = module._Place.open
    opened = []

    def plant(place: module._Place, flags: int) -> int:
        if place.path.name == PART:
            place.path.unlink(missing_ok=True)
            place.path.symlink_to(diary)
        descriptor = real(place, flags)
        opened.append(place.path.name)
        return descriptor

    monkeypatch.setattr(module._Place, "open", plant)
    refuse(store, out, HostError, f"somebody keeps replacing {out / PART}\n  hint: {ALONE}")
    assert opened == []
    assert diary.read_bytes() == b"dear diary"


def test_a_file_that_is_put_in_its_place_meanwhile_is_not_named(
    store: DirectoryStore, out: Path
) -> None:
    """The enemy's file is never linked.

    The one that was written has lost its name and cannot get another.
    """

    def plant() -> None:
        (out / PART).unlink()
        (out / PART).write_bytes(b"x" * len(IMAGE))

    refuse(
        RacingStore(store, "read_range", plant, at=10),
        out,
        HostError,
        f"{out}/web.qcow2 cannot be written: {os.strerror(errno.ENOENT)}\n"
        "  hint: give another folder: --out DIR",
    )
    assert not (out / "web.qcow2").exists()


@pytest.mark.parametrize("deed", ["content", "file", "folder"])
def test_what_is_changed_right_after_it_was_named_is_noticed(
    store: DirectoryStore, out: Path, monkeypatch: pytest.MonkeyPatch, deed: str
) -> None:
    real = module._link

    def link(descriptor: int, part: Any, target: Any) -> None:
        real(descriptor, part, target)
        if deed == "content":
            os.pwrite(descriptor, b"x", 0)
        elif deed == "file":
            target.path.unlink()
            target.path.write_bytes(b"x" * len(IMAGE))
        else:
            out.rename(out.with_name("moved"))
            out.mkdir()
            (out / "web.qcow2").write_bytes(b"x" * len(IMAGE))

    monkeypatch.setattr(module, "_link", link)
    refuse(
        store,
        out,
        VerificationError,
        f"{out}/web.qcow2 was changed while it got its name\n  hint: {ALONE}",
    )


def test_two_downloads_at_once_take_turns(store: DirectoryStore, out: Path) -> None:
    part = interrupted(store, out)
    done: list[Path] = []
    with part.open("rb") as busy:
        fcntl.flock(busy, fcntl.LOCK_EX)
        second = threading.Thread(target=lambda: done.append(download(store, WANTED, out)))
        second.start()
        second.join(0.3)
        assert not done
    second.join(20)
    assert done == [out / "web.qcow2"]


def test_a_file_system_without_hard_links_will_do(
    store: DirectoryStore, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(*names: object, **options: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", link)
    assert download(store, WANTED, out).read_bytes() == IMAGE
    assert [path.name for path in out.iterdir()] == ["web.qcow2"]
    (out / "web.qcow2").write_bytes(b"mine")
    refuse(store, out, HostError, f"{out}/web.qcow2 {LEFT}")


# --- the folder -----------------------------------------------------------------------------------


def test_a_folder_that_everybody_can_write_is_refused(store: DirectoryStore, out: Path) -> None:
    out.chmod(0o777)
    refuse(store, out, HostError, f"other users can replace what is in {out}\n  hint: {ALONE}")
    out.chmod(0o1777)
    assert ranges_read(store, out) == 10


def test_a_folder_behind_a_link_of_ones_own_will_do(
    store: DirectoryStore, out: Path, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(out)
    assert download(store, WANTED, tmp_path / "link").read_bytes() == IMAGE


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a link away")
def test_a_folder_behind_a_link_of_another_user_is_refused(
    store: DirectoryStore, out: Path, tmp_path: Path
) -> None:
    link = tmp_path / "link"
    link.symlink_to(out)
    os.chown(link, 4711, 4711, follow_symlinks=False)
    refuse(store, link, HostError, f"{link} is a link that another user made\n  hint: {ALONE}")
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: b""])
def test_an_object_that_ends_early_leaves_nothing(
    store: DirectoryStore, out: Path, change: Callable[[bytes], bytes]
) -> None:
    with pytest.raises(VerificationError, match="its channel says 10000"):
        download(LyingStore(store, WANTED.key, change, honest=0), WANTED, out)
    assert list(out.iterdir()) == []
