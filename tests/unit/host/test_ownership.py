"""What another user owns or can write is not believed, whatever is in it."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import IO

import pytest

from slipway.cache import Cache, sha256_of
from slipway.errors import HostError
from slipway.host.ownership import require_own_folder, require_private
from slipway.job import Workshop
from slipway.packages.pool import Pool

ME = pwd.getpwuid(os.geteuid()).pw_name
HINT = "use a folder of your own: export SLIPWAY_CACHE=DIRECTORY"


def report(file: IO[bytes]) -> None:
    file.write(b"passed")


def somebody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on, what this user has made is another user's."""
    monkeypatch.setattr(os, "geteuid", lambda: 4242)


def refusal(folder: Path) -> str:
    with pytest.raises(HostError) as raised:
        require_private(folder, setting="SLIPWAY_CACHE")
    assert raised.value.exit_code == 4
    return raised.value.message


def test_a_cache_is_made_for_this_user_alone(tmp_path: Path) -> None:
    before = os.umask(0o002)
    try:
        require_private(tmp_path / "a/cache", setting="SLIPWAY_CACHE")
    finally:
        os.umask(before)
    assert (tmp_path / "a/cache").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702, 0o1777, 0o2775])
def test_a_cache_that_others_can_write_is_refused(tmp_path: Path, mode: int) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    cache.chmod(mode)
    said = f"{cache} can be written by others (mode {mode:04o}), so what is in it is not believed"
    with pytest.raises(HostError) as raised:
        require_private(cache, setting="SLIPWAY_CACHE")
    assert (raised.value.message, raised.value.hint) == (said, HINT)


def test_another_users_cache_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    cache.mkdir(mode=0o755)
    somebody_else(monkeypatch)
    assert "belongs to" in refusal(cache)


def test_a_cache_below_a_folder_that_others_can_write_is_refused(tmp_path: Path) -> None:
    above = tmp_path / "above"
    (above / "cache").mkdir(parents=True, mode=0o700)
    above.chmod(0o777)
    assert (
        refusal(above / "cache")
        == f"{above} can be written by others (mode 0777), so what is in it is not believed"
    )
    above.chmod(0o1777)  # where nobody moves what others own
    require_private(above / "cache", setting="SLIPWAY_CACHE")


def test_a_link_in_a_folder_that_others_can_write_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    above = tmp_path / "above"
    above.mkdir()
    (above / "cache").symlink_to(tmp_path / "real")
    require_private(above / "cache", setting="SLIPWAY_CACHE")
    above.chmod(0o777)
    assert refusal(above / "cache").startswith(f"{above} can be written by others")


@pytest.mark.parametrize("name", ["stages", "pool", "apt"])
def test_a_folder_in_the_cache_that_others_can_write_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "cache").mkdir(mode=0o700)
    (tmp_path / "cache" / name).mkdir()
    (tmp_path / "cache" / name).chmod(0o775)
    assert refusal(tmp_path / "cache").startswith(
        f"{tmp_path}/cache/{name} can be written by others (mode 0775)"
    )


def test_every_command_that_has_settings_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    cache.chmod(0o777)
    monkeypatch.setenv("SLIPWAY_CACHE", str(cache))
    shop = Workshop(root=tmp_path)
    for use in (
        lambda: shop.cache,
        lambda: shop.pool,
        lambda: shop.mirrors,
        lambda: shop.versions(("zlib",)),
        lambda: shop.store,
    ):
        with pytest.raises(HostError, match="can be written by others"):
            use()


def test_an_entry_that_somebody_else_has_made_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache(tmp_path / "cache", limit_bytes=1 << 30)
    cache.add("a" * 64, "boot", {"report": report})
    assert cache.find("a" * 64)
    somebody_else(monkeypatch)
    with pytest.raises(HostError, match="so what is in it is not believed"):
        cache.find("a" * 64)


@pytest.mark.parametrize("place", ["stages", "stages/" + "a" * 64])
def test_an_entry_that_others_can_write_is_refused(tmp_path: Path, place: str) -> None:
    cache = Cache(tmp_path / "cache", limit_bytes=1 << 30)
    cache.add("a" * 64, "boot", {"report": report})
    (tmp_path / "cache" / place).chmod(0o777)
    with pytest.raises(HostError, match="can be written by others"):
        cache.verified("a" * 64)


def test_an_entry_that_leads_out_of_the_cache_is_none(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", limit_bytes=1 << 30)
    entry = cache.add("a" * 64, "boot", {"report": report})
    (tmp_path / "elsewhere").write_bytes(b"passed")
    status = entry.file("report").stat()
    entry.file("report").unlink()
    entry.file("report").symlink_to(tmp_path / "elsewhere")
    os.utime(tmp_path / "elsewhere", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert cache.find("a" * 64) is None


def test_everything_in_the_cache_is_for_this_user_alone(tmp_path: Path) -> None:
    before = os.umask(0o000)
    try:
        cache = Cache(tmp_path / "cache", limit_bytes=1 << 30)
        with cache.scratch() as scratch:
            (scratch / "disk").write_bytes(b"x")
            cache.add(
                "a" * 64, "artifact:raw", {"disk": (scratch / "disk", sha256_of(scratch / "disk"))}
            )
        with cache.locked("a" * 64), Pool(tmp_path / "cache/pool").incoming():
            pass
    finally:
        os.umask(before)
    modes = {
        path.relative_to(tmp_path): path.stat().st_mode & 0o777
        for path in (tmp_path / "cache").rglob("*")
        if path.is_dir()
    }
    assert set(modes.values()) == {0o700}, modes
    assert cache.find("a" * 64)


def test_a_build_that_others_could_change_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "build/web/1.0.0"
    folder.mkdir(parents=True)
    (folder / "disk").touch(mode=0o644)
    require_own_folder(folder)
    (folder / "disk").chmod(0o666)
    with pytest.raises(HostError, match=r"disk can be written by others \(mode 0666\)"):
        require_own_folder(folder)
    (folder / "disk").chmod(0o644)
    for place in (folder, folder.parent, folder.parent.parent):
        place.chmod(0o777)
        with pytest.raises(HostError, match=rf"error: {place} can be written by others"):
            require_own_folder(folder)
        place.chmod(0o755)
    require_own_folder(folder)
    somebody_else(monkeypatch)
    with pytest.raises(HostError, match=rf"error: {folder} belongs to {ME} "):
        require_own_folder(folder)
