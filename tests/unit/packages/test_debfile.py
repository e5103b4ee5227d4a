"""Packages are read without dpkg, and what is none is refused."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from slipway.errors import BuildError
from slipway.packages.debfile import control_stanza, newest_time
from slipway.packages.locked import LockedPackage


@pytest.mark.parametrize("compression", ["xz", "gzip", "zstd", "none"])
def test_the_control_stanza_and_the_time_come_from_the_package(
    make_package: Callable[..., LockedPackage], archive: Path, compression: str
) -> None:
    package = make_package("one", "1:2.0-3", compression=compression, epoch=1_600_000_000)
    stanza = (
        "Package: one\nVersion: 1:2.0-3\nArchitecture: all\n"
        "Maintainer: Nobody <nobody@example.org>\nDescription: one\n more"
    )
    assert control_stanza(archive / package.path) == stanza
    assert newest_time(archive / package.path) == 1_600_000_000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "{path} is not a Debian package"),
        (b"!<arch>\n" + b"x" * 60, "{path} is not a Debian package"),
        (b"!<arch>\n", "{path} is not a Debian package: it has no control.tar"),
        (
            b"!<arch>\ncontrol.tar.xz  0           0     0     100644  4         `\nxxxx",
            "{path}: its control file cannot be read (Input format not supported by decoder)",
        ),
    ],
)
def test_what_is_no_package_is_an_error(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "one.deb"
    path.write_bytes(content)
    with pytest.raises(BuildError) as caught:
        control_stanza(path)
    assert caught.value.message == message.format(path=path)


def test_the_time_of_a_package_is_that_of_its_newest_member(
    make_package: Callable[..., LockedPackage], archive: Path
) -> None:
    path = archive / make_package("one", epoch=1_600_000_000).path
    content = path.read_bytes()
    path.write_bytes(content.replace(b"1600000000", b"1500000000", 1))  # of the first of three
    assert newest_time(path) == 1_600_000_000


def member(name: str, content: bytes, size: bytes = b"") -> bytes:
    """Make a member of an ar archive; its header may say another size."""
    said = size or str(len(content)).encode()
    return (
        b"%-16s0           0     0     100644  %-10s`\n" % (name.encode(), said)
        + content
        + b"\n" * (len(content) % 2)
    )


@pytest.mark.timeout(20)
def test_a_member_of_negative_size_is_not_read_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "one.deb"
    path.write_bytes(b"!<arch>\n" + member("debian-binary", b"", b"-60"))
    for read in (control_stanza, newest_time):
        with pytest.raises(BuildError) as caught:
            read(path)
        assert caught.value.message == f"{path} is not a Debian package"


@pytest.mark.timeout(60)
def test_a_small_package_does_not_unpack_to_a_large_one(tmp_path: Path) -> None:
    path = tmp_path / "one.deb"
    entry = tarfile.TarInfo("./filler")
    entry.size = 200 << 20
    tar = entry.tobuf() + bytes(entry.size) + bytes(1024)
    path.write_bytes(b"!<arch>\n" + member("control.tar.gz", gzip.compress(tar, 1)))
    with pytest.raises(BuildError) as caught:
        control_stanza(path)
    assert (
        caught.value.message
        == f"{path}: its control file cannot be read (it unpacks to more than {64 << 20} bytes)"
    )
    large = tarfile.TarInfo("./control")
    large.size = 2 << 20
    content = io.BytesIO(large.tobuf() + b"x" * large.size + bytes(1024)).getvalue()
    path.write_bytes(b"!<arch>\n" + member("control.tar.gz", gzip.compress(content, 1)))
    with pytest.raises(BuildError) as caught:
        control_stanza(path)
    assert (
        caught.value.message == f"{path}: its control file has {2 << 20} bytes, more than {1 << 20}"
    )
    path.write_bytes(b"!<arch>\n" + member("control.tar", b"", b"9999999999"))
    with pytest.raises(BuildError) as caught:
        control_stanza(path)
    assert (
        caught.value.message
        == f"{path}: its control.tar has 9999999999 bytes, more than {64 << 20}"
    )
