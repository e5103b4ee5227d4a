"""The pool keeps what was locked, and nothing else gets into a repository."""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from slipway.errors import BuildError
from slipway.host import process
from slipway.packages.locked import LockedPackage
from slipway.packages.pool import Pool

Make = Callable[..., LockedPackage]


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    return Pool(tmp_path / "pool")


def names(pool: Pool) -> list[str]:
    return sorted(
        path.name for path in pool.directory.iterdir() if path.name not in ("lock", "fetching")
    )


def test_what_is_missing_is_downloaded_once(
    pool: Pool, make_package: Make, mirrors: dict[str, str]
) -> None:
    packages = (make_package("one"), make_package("two"))
    assert pool.missing(packages) == packages
    assert pool.fetch(packages, mirrors) == packages
    assert pool.fetch(packages, {}) == ()
    assert pool.missing(packages) == ()
    assert names(pool) == sorted(f"{package.sha256}.deb" for package in packages)
    assert all(pool.path(package).stat().st_mode & 0o777 == 0o444 for package in packages)


def test_a_mirror_on_this_machine_is_copied_and_left_as_it_is(
    pool: Pool, make_package: Make, archive: Path
) -> None:
    package = make_package("one")
    origin = archive / package.path
    mode = origin.stat().st_mode
    pool.fetch((package,), {"debian": f"file:{archive}"})
    assert not pool.path(package).is_symlink()
    assert origin.stat().st_mode == mode
    origin.unlink()
    assert pool.missing((package,)) == ()


@pytest.mark.parametrize("harm", ["truncated", "altered"])
def test_a_damaged_package_is_downloaded_again(
    pool: Pool, make_package: Make, mirrors: dict[str, str], harm: str
) -> None:
    package = make_package("one")
    pool.fetch((package,), mirrors)
    content = pool.path(package).read_bytes()
    pool.path(package).chmod(0o644)
    pool.path(package).write_bytes(
        content[:-1] if harm == "truncated" else content[:-1] + bytes([content[-1] ^ 1])
    )
    assert pool.fetch((package,), mirrors) == (package,)
    assert pool.path(package).read_bytes() == content


def test_a_package_that_cannot_be_had_is_named_with_the_reason(
    pool: Pool, make_package: Make, mirrors: dict[str, str]
) -> None:
    good, changed = make_package("good"), replace(make_package("changed"), sha256="0" * 64)
    gone = replace(good, name="gone", version="1:2.0", sha256="1" * 64, path="pool/gone.deb")
    with pytest.raises(BuildError) as caught:
        pool.fetch((good, changed, gone), mirrors)
    assert str(caught.value) == (
        "error: 2 of the locked packages cannot be downloaded:\n"
        "  changed 1.0: the mirror has other bytes under its name (the hash differs)\n"
        "  gone 1:2.0: the mirror no longer has this version\n"
        "  hint: lock again (invoke lock NAME), or give it a pool or a mirror that has them"
    )
    assert names(pool) == [f"{good.sha256}.deb"]


def test_what_a_killed_download_left_is_removed_and_what_is_in_use_is_not(
    pool: Pool, make_package: Make, mirrors: dict[str, str]
) -> None:
    for name in ("incoming-left", "incoming-held"):
        (pool.directory / name).mkdir(parents=True)
        (pool.directory / name / "half.deb").write_bytes(b"half")
    held = os.open(pool.directory / "incoming-held", os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    package = make_package("one")
    pool.fetch((package,), mirrors)
    os.close(held)
    assert names(pool) == sorted([f"{package.sha256}.deb", "incoming-held"])


def test_what_two_builds_want_is_downloaded_by_one(
    pool: Pool, make_package: Make, mirrors: dict[str, str]
) -> None:
    packages = [make_package(f"p{number}") for number in range(3)]
    with ThreadPoolExecutor(4) as builds:
        done = list(builds.map(lambda _: Pool(pool.directory).fetch(packages, mirrors), range(4)))
    assert sorted(map(len, done)) == [0, 0, 0, 3]
    assert not pool.missing(packages)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A web server on loopback: its URL, and the folder of its files."""
    folder = tmp_path / "served"
    folder.mkdir()
    with ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(folder))
    ) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", folder
        server.shutdown()


def test_a_file_comes_by_its_hash_and_is_kept(pool: Pool, served: tuple[str, Path]) -> None:
    url, folder = served
    (folder / "tool").write_bytes(b"a tool")
    digest = hashlib.sha256(b"a tool").hexdigest()
    path = pool.fetch_file(f"{url}/tool", digest)
    assert path.read_bytes() == b"a tool"
    (folder / "tool").unlink()
    assert pool.fetch_file(f"{url}/tool", digest) == path
    path.chmod(0o644)
    path.write_bytes(b"harmed")
    with pytest.raises(BuildError, match=r"/tool cannot be downloaded: 404"):
        pool.fetch_file(f"{url}/tool", digest)
    assert names(pool) == []


def test_a_file_that_has_changed_is_refused(pool: Pool, served: tuple[str, Path]) -> None:
    url, folder = served
    (folder / "tool").write_bytes(b"another")
    with pytest.raises(
        BuildError,
        match=(
            f"/tool is not what was wanted: its SHA-256 is {hashlib.sha256(b'another').hexdigest()}"
        ),
    ):
        pool.fetch_file(f"{url}/tool", "0" * 64)
    assert names(pool) == []


@pytest.mark.parametrize("compression", ["xz", "gzip", "none"])
def test_a_repository_lists_exactly_its_packages(
    pool: Pool, make_package: Make, mirrors: dict[str, str], tmp_path: Path, compression: str
) -> None:
    package = make_package("one", "1:1.0", compression=compression)
    pool.fetch((package,), mirrors)
    pool.repository((package,), tmp_path / "repository", suite="test")
    assert (tmp_path / "repository/Packages").read_text() == (
        "Package: one\nVersion: 1:1.0\nArchitecture: all\n"
        "Maintainer: Nobody <nobody@example.org>\nDescription: one\n more\n"
        f"Filename: one_1%3a1.0_all.deb\nSize: {package.size}\nSHA256: {package.sha256}\n\n"
    )
    release = (tmp_path / "repository/Release").read_text()
    assert release.startswith(
        "Origin: slipway\nLabel: slipway\nSuite: test\nCodename: test\n"
        "Date: Thu, 01 Jan 1970 00:00:00 UTC\nSHA256:\n "
    )
    content = (tmp_path / "repository/one_1%3a1.0_all.deb").read_bytes()
    assert content == pool.path(package).read_bytes()
    before = {path.name: path.read_bytes() for path in (tmp_path / "repository").iterdir()}
    Pool(pool.directory).repository((package,), tmp_path / "repository", suite="test")
    assert {path.name: path.read_bytes() for path in (tmp_path / "repository").iterdir()} == before


def test_apt_installs_from_a_repository(
    pool: Pool, make_package: Make, mirrors: dict[str, str], tmp_path: Path
) -> None:
    package = make_package("slipway-test-package", "1:1.0~rc1")
    pool.fetch((package,), mirrors)
    pool.repository((package,), tmp_path / "repository")
    for folder in ("lists/partial", "cache/archives/partial", "etc/apt/preferences.d"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "status").touch()
    (tmp_path / "sources.list").write_text(f"deb [trusted=yes] copy:{tmp_path}/repository ./\n")
    options = [
        f"-oDir={tmp_path}/",
        f"-oDir::State::lists={tmp_path}/lists",
        f"-oDir::State::status={tmp_path}/status",
        f"-oDir::Cache={tmp_path}/cache",
        f"-oDir::Etc::sourcelist={tmp_path}/sources.list",
        "-oDir::Etc::sourceparts=/dev/null",
        "-oAPT::Sandbox::User=root",
        "-oAPT::Get::Show-User-Simulation-Note=false",  # only an ordinary user is told
    ]
    process.run(["apt-get", *options, "-q", "update"])
    answer = process.run(
        ["apt-get", *options, "-qq", "--simulate", "install", "slipway-test-package"]
    ).stdout.decode()
    assert answer.splitlines()[0] == "Inst slipway-test-package (1:1.0~rc1 slipway:slipway [all])"


def test_a_repository_on_another_file_system_gets_copies(
    pool: Pool, make_package: Make, mirrors: dict[str, str]
) -> None:
    package = make_package("one")
    pool.fetch((package,), mirrors)
    other = Path(f"/dev/shm/slipway-test-{os.getpid()}")
    try:
        pool.repository((package,), other)
        assert (other / "one_1.0_all.deb").read_bytes() == pool.path(package).read_bytes()
        pool.path(package).chmod(0o644)
        pool.path(package).write_bytes(b"x" * package.size)
        with pytest.raises(BuildError, match=r"not in the pool, or not what was locked: one 1\.0"):
            pool.repository((package,), other)
        assert not (other / "one_1.0_all.deb").exists()
    finally:
        process.run(["rm", "-rf", other])


def test_a_repository_takes_nothing_that_is_missing_or_altered(
    pool: Pool, make_package: Make, mirrors: dict[str, str], tmp_path: Path
) -> None:
    one, two, three = make_package("one"), make_package("two"), make_package("three")
    pool.fetch((one, two), mirrors)
    pool.path(two).chmod(0o644)
    pool.path(two).write_bytes(b"x" * two.size)
    with pytest.raises(BuildError) as caught:
        pool.repository((one, two, three), tmp_path / "repository")
    assert str(caught.value) == (
        "error: not in the pool, or not what was locked: two 1.0, three 1.0\n"
        "  hint: build again: they are downloaded anew"
    )
    assert pool.fetch((one, two, three), mirrors) == (two, three)


def test_a_package_that_is_altered_after_it_was_verified_is_noticed(
    pool: Pool, make_package: Make, mirrors: dict[str, str]
) -> None:
    """A pool remembers what it has read by all that the file system says of the file, its size
    being the least of it.
    """
    package = make_package("one")
    pool.fetch((package,), mirrors)
    assert pool.fetch((package,), {}) == ()
    before = pool.path(package).stat()
    pool.path(package).chmod(0o644)
    pool.path(package).write_bytes(b"x" * package.size)
    os.utime(pool.path(package), ns=(before.st_atime_ns, before.st_mtime_ns))
    assert pool.fetch((package,), mirrors) == (package,)


@pytest.mark.parametrize("content", [b"another", b""])
def test_nothing_wrong_gets_into_a_pool_whatever_the_downloader_says(
    pool: Pool, make_package: Make, content: bytes
) -> None:
    """apt compares hashes too, so no wrong download comes as far as this."""
    package = make_package("one")
    with pool.incoming() as folder:
        (folder / "one.deb").write_bytes(content.ljust(package.size, b"x"))
        assert not pool._adopt(folder / "one.deb", package)
    assert names(pool) == []
