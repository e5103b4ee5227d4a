"""Packages are read without dpkg, and what is none is refused."""

from __future__ import annotations

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
    stanza = "Package: one\nVersion: 1:2.0-3\nArchitecture: all\nMaintainer: Nobody <nobody@example.org>\nDescription: one\n more"
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


def test_the_time_of_a_package_is_that_of_its_newest_member(make_package: Callable[..., LockedPackage], archive: Path) -> None:
    path = archive / make_package("one", epoch=1_600_000_000).path
    content = path.read_bytes()
    path.write_bytes(content.replace(b"1600000000", b"1500000000", 1))  # of the first of three
    assert newest_time(path) == 1_600_000_000
