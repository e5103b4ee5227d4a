"""The host's apt believes lists only if the base's keys signed them, and names packages by their
SHA-256.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from apt_repository import write_lists
from slipway.errors import BuildError
from slipway.packages.apt import AptRoot, open_root
from slipway.packages.locked import LockedPackage
from slipway.spec.base import Base, Suite
from slipway.spec.library import Library
from slipway.spec.model import AptSource

ROOT = Path(__file__).parents[3]
INDEX = f"""\
Package: web
Version: 1:2.0-1
Architecture: amd64
Depends: common
Recommends: manual
Filename: pool/web_2.0-1_amd64.deb
Size: 20
SHA256: {"a" * 64}
SHA512: {"a" * 128}

Package: common
Version: 2.0-1
Architecture: all
Filename: pool/common_2.0-1_all.deb
Size: 10
SHA256: {"b" * 64}
SHA512: {"b" * 128}

Package: manual
Version: 2.0-1
Architecture: all
Filename: pool/manual_2.0-1_all.deb
Size: 10
SHA256: {"c" * 64}

Package: old
Version: 1
Architecture: all
Filename: pool/old_1_all.deb
Size: 10
MD5sum: {"d" * 32}

"""


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """A repository of these packages, and the key that signs it."""
    folder = tmp_path_factory.mktemp("signed") / "archive"
    return folder, write_lists(folder, "stable", INDEX.encode())


@pytest.fixture
def archive(signed: tuple[Path, bytes], tmp_path: Path) -> Path:
    """A copy of it, to change."""
    return Path(shutil.copytree(signed[0], tmp_path / "archive"))


def base(folder: Path, key: bytes, *suites: str) -> Base:
    """A base whose packages are in these suites of one archive."""
    (folder / "key.asc").write_bytes(key)
    chosen = tuple(Suite(suite=suite, archive="debian") for suite in suites)
    return dataclasses.replace(
        Library(ROOT).base("debian-13"),
        name="test",
        suites=chosen,
        components=("main",),
        keyring="key.asc",
        folder=folder,
    )


@contextmanager
def opened(tmp_path: Path, archive: Path, of: Base) -> Iterator[AptRoot]:
    with open_root(
        tmp_path / "apt", of, "amd64", {"debian": f"copy:{archive}"}, fresh=False
    ) as root:
        yield root


def test_packages_are_named_by_their_sha256_without_what_is_recommended(
    signed: tuple[Path, bytes], archive: Path, tmp_path: Path
) -> None:
    with opened(tmp_path, archive, base(tmp_path, signed[1], "stable")) as root:
        assert root.available.names == {"web", "common", "manual", "old"}
        root.install_nothing()
        common, web = root.solve(["web"])
    assert common.name == "common"
    assert web == LockedPackage(
        name="web",
        version="1:2.0-1",
        architecture="amd64",
        sha256="a" * 64,
        size=20,
        archive="debian",
        path="pool/web_2.0-1_amd64.deb",
    )


def test_a_package_without_a_sha256_is_refused(
    signed: tuple[Path, bytes], archive: Path, tmp_path: Path
) -> None:
    with opened(tmp_path, archive, base(tmp_path, signed[1], "stable")) as root:
        root.install_nothing()
        with pytest.raises(
            BuildError,
            match=r"^error: apt gave no SHA-256 for a package: 'copy:.*/pool/old_1_all\.deb' ",
        ):
            root.solve(["old"])


def unsigned(archive: Path) -> None:
    (archive / "dists/stable/InRelease").unlink()


def altered(archive: Path) -> None:
    file = archive / "dists/stable/InRelease"
    file.write_text(file.read_text().replace("Suite: stable", "Suite: stabbe"))


def other_packages(archive: Path) -> None:
    file = archive / "dists/stable/main/binary-amd64/Packages"
    file.write_text(file.read_text().replace("a" * 64, "e" * 64))


@pytest.mark.parametrize(
    "harm", [unsigned, altered, other_packages], ids=lambda function: function.__name__
)
def test_lists_that_nobody_signed_are_refused(
    signed: tuple[Path, bytes], archive: Path, tmp_path: Path, harm: object
) -> None:
    assert callable(harm)
    harm(archive)
    with (
        pytest.raises(
            BuildError, match=r"^error: downloading the package lists failed: exit status 100"
        ),
        opened(tmp_path, archive, base(tmp_path, signed[1], "stable")),
    ):
        pass


def test_lists_that_another_key_signed_are_refused(archive: Path, tmp_path: Path) -> None:
    """The key of the host's own distribution is one that the host's apt trusts."""
    key = (ROOT / "templates/bases/debian-13/archive-keyring.asc").read_bytes()
    with (
        pytest.raises(BuildError, match=r"NO_PUBKEY|not available|not signed"),
        opened(tmp_path, archive, base(tmp_path, key, "stable")),
    ):
        pass


def test_one_suite_that_cannot_be_had_is_an_error(
    signed: tuple[Path, bytes], archive: Path, tmp_path: Path
) -> None:
    with (
        pytest.raises(BuildError) as caught,
        opened(tmp_path, archive, base(tmp_path, signed[1], "stable", "stable-updates")),
    ):
        pass
    assert "stable-updates" in str(caught.value)
    assert caught.value.hint == (
        "see that this host reaches its mirror; SLIPWAY_MIRROR or mirror in slipway.toml "
        "names another one"
    )


def test_a_source_of_a_spec_is_read_at_its_copy_if_there_is_one(
    signed: tuple[Path, bytes], archive: Path, tmp_path: Path
) -> None:
    source = AptSource(
        name="vendor",
        url="https://vendor.invalid/apt",
        suite="stable",
        signed_by="/etc/apt/keyrings/vendor.asc",
    )
    mirrors = {"debian": f"copy:{archive}", "vendor": f"copy:{archive}"}
    of = base(tmp_path, signed[1], "stable")
    with open_root(
        tmp_path / "apt",
        of,
        "amd64",
        mirrors,
        sources=[(source, tmp_path / "key.asc")],
        fresh=False,
    ) as root:
        assert root.available.names == {"web", "common", "manual", "old"}
        text = (root.root / "etc/apt/sources.list.d/vendor.sources").read_text()
    assert f"URIs: copy:{archive}\n" in text
