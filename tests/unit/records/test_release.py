"""A release's folder is what its manifest says, to the byte."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from example_release import write_release_folder
from slipway.errors import BuildError
from slipway.records.release import Release, read_release, verify_release, write_release
from slipway.records.sums import parse_sums

IMAGE = b"an image"


@pytest.fixture
def release(tmp_path: Path) -> Release:
    return write_release_folder(tmp_path / "release", {"qcow2": IMAGE})


def test_a_folder_has_the_sums_of_all_its_files(release: Release) -> None:
    verify_release(read_release(release.folder))
    assert parse_sums((release.folder / "SHA256SUMS").read_bytes()) == release.hashes
    assert release.hashes.keys() == {path.name for path in release.folder.iterdir()} - {
        "SHA256SUMS"
    }


def altered(file: Path) -> str:
    content = file.read_bytes()
    file.chmod(0o644)
    file.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    return " has the SHA-256 "


def cut(file: Path) -> str:
    content = file.read_bytes()
    file.chmod(0o644)
    file.write_bytes(content[:-1])
    return f" has {len(content) - 1} bytes, its manifest says {len(content)}"


def gone(file: Path) -> str:
    file.unlink()
    return " is in the manifest, but cannot be read: No such file or directory"


@pytest.mark.parametrize("harm", [altered, cut, gone], ids=lambda function: function.__name__)
@pytest.mark.parametrize("name", ["example.qcow2", "sbom.cdx.json", "provenance.intoto.json"])
def test_a_file_that_was_harmed_is_named(
    release: Release, name: str, harm: Callable[[Path], str]
) -> None:
    problem = harm(release.folder / name)
    with pytest.raises(BuildError) as caught:
        verify_release(release)
    assert str(caught.value).startswith(f"error: {release.folder / name}{problem}")
    assert caught.value.hint == "build it again"


def test_records_that_the_manifest_does_not_describe_are_not_written(release: Release) -> None:
    before = {path.name: path.read_bytes() for path in release.folder.iterdir()}
    for sbom, provenance in ((b"[]\n", b"[]\n"), (b"{}\n", b"{}\n")):
        with pytest.raises(
            ValueError, match=r"^the manifest describes another SBOM or provenance$"
        ):
            write_release(release.folder, release.manifest, sbom=sbom, provenance=provenance)
    assert {path.name: path.read_bytes() for path in release.folder.iterdir()} == before


def test_a_folder_that_is_written_to_has_no_sums_until_it_is_whole(release: Release) -> None:
    """The SBOM's name is taken by a folder, so the writing stops in its middle."""
    manifest = replace(release.manifest, sbom=replace(release.manifest.sbom, file="taken"))
    (release.folder / "taken").mkdir()
    with pytest.raises(OSError):
        write_release(release.folder, manifest, sbom=b"{}\n", provenance=b"[]\n")
    assert not (release.folder / "SHA256SUMS").exists()
