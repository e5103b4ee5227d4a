"""SBOM, provenance, SHA256SUMS, and the state of the source tree."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

from slipway.errors import VerificationError
from slipway.formats import Artifact
from slipway.host import process
from slipway.records.git import GitState, git_state
from slipway.records.provenance import Run, provenance
from slipway.records.sbom import Contents, read_packages, sbom
from slipway.records.sums import format_sums, parse_sums
from slipway.spec.model import Download

OF: dict[str, Any] = {"appliance": "example", "version": "1.0.0"}


def contents(packages: tuple[Any, ...], **more: Any) -> Contents:
    return Contents(distribution="debian", release="trixie", packages=packages, **more)


def make_sbom(
    packages: tuple[Any, ...], downloads: Sequence[Download] = (), **changes: Any
) -> bytes:
    about = {**OF, "source_date_epoch": 1_790_000_000, **changes}
    return sbom(contents=contents(packages, downloads=downloads), **about)


def test_the_sbom_is_valid_cyclonedx(packages: tuple[Any, ...]) -> None:
    assert (
        JsonStrictValidator(SchemaVersion.V1_6).validate_str(make_sbom(packages).decode()) is None
    )


def test_the_sbom_has_every_package_with_its_url_and_hash(packages: tuple[Any, ...]) -> None:
    document = json.loads(make_sbom(packages))
    found = {part["name"]: part for part in document["components"]}
    assert set(found) == {"nginx", "libstdc++6", "tzdata"}
    assert found["tzdata"]["hashes"] == [{"alg": "SHA-256", "content": "c" * 64}]
    url = PackageURL.from_string(found["libstdc++6"]["purl"])
    assert (url.type, url.namespace, url.name, url.version) == (
        "deb",
        "debian",
        "libstdc++6",
        "14.2.0-19",
    )
    assert PackageURL.from_string(found["tzdata"]["purl"]).namespace == "vendor"
    assert url.qualifiers == {"arch": "amd64", "distro": "debian-trixie"}
    assert document["metadata"]["timestamp"] == "2026-09-21T14:13:20+00:00"
    assert len(document["dependencies"][0]["dependsOn"]) == 3


def test_downloads_are_files_of_the_sbom_and_materials(packages: tuple[Any, ...]) -> None:
    download = Download(url="https://files.test/tool?v=1", sha256="a" * 64, path="/usr/bin/tool")
    text = make_sbom(packages, downloads=[download])
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text.decode()) is None
    (file,) = [
        component for component in json.loads(text)["components"] if component["type"] == "file"
    ]
    assert (file["name"], file["hashes"][0]["content"]) == ("/usr/bin/tool", "a" * 64)
    assert file["externalReferences"] == [
        {"type": "distribution", "url": "https://files.test/tool?v=1"}
    ]
    assert read_packages(text) == read_packages(make_sbom(packages))


def test_the_sbom_depends_on_nothing_but_its_content(packages: tuple[Any, ...]) -> None:
    first = make_sbom(packages)
    assert make_sbom(packages[::-1]) == first
    rebuilt = (replace(packages[0], sha256="0" * 64), *packages[1:])
    others = (
        make_sbom(packages[1:]),
        make_sbom(rebuilt),
        make_sbom(packages, version="2"),
        make_sbom(packages, source_date_epoch=1),
    )
    assert len({json.loads(text)["serialNumber"] for text in (first, *others)}) == 5


def test_the_provenance_names_what_was_made_and_everything_it_was_made_of(
    packages: tuple[Any, ...],
) -> None:
    artifact = Artifact(
        format="raw",
        file="x.raw.zst",
        size=1,
        sha256="8" * 64,
        uncompressed_size=1,
        uncompressed_sha256="d" * 64,
        compression="zstd",
    )
    run = Run(**OF, build="b1", architecture="amd64", builder="mmdebstrap", created=1_800_000_000)
    arguments: dict[str, Any] = {
        "tool_versions": {"qemu-img": "7.2"},
        "digests": {"lock": "3" * 64},
        "git": GitState(commit="9" * 40, dirty=True),
        "artifacts": [artifact],
    }
    text = provenance(run, contents(packages), **arguments)
    assert provenance(run, contents(packages[::-1]), **arguments) == text
    statement = json.loads(text)
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    assert statement["subject"] == [{"name": "x.raw.zst", "digest": {"sha256": "8" * 64}}]
    definition = statement["predicate"]["buildDefinition"]
    assert definition["externalParameters"] == {
        "appliance": "example",
        "version": "1.0.0",
        "architecture": "amd64",
        "builder": "mmdebstrap",
        "formats": ["raw"],
    }
    assert [part["digest"] for part in definition["resolvedDependencies"]] == [
        {"sha256": "b" * 64},
        {"sha256": "a" * 64},
        {"sha256": "c" * 64},
        {"sha256": "3" * 64},
        {"gitCommit": "9" * 40},
    ]
    assert definition["resolvedDependencies"][-1]["annotations"] == {"dirty": True}
    assert statement["predicate"]["runDetails"]["metadata"] == {
        "invocationId": "b1",
        "finishedOn": "2027-01-15T08:00:00Z",
    }


def test_sums_are_what_sha256sum_checks(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"two")
    (tmp_path / "a").write_bytes(b"one")
    made = process.run(["sha256sum", "a", "b"], cwd=tmp_path).stdout
    assert format_sums(parse_sums(made)) == made
    process.run(["sha256sum", "--strict", "-c"], cwd=tmp_path, input=made)


@pytest.mark.parametrize(
    "line", ["short  a", f"{'0' * 64} a", f"{'0' * 64}  a/b", f"{'0' * 64}  ", f"\\{'0' * 64}  a"]
)
def test_lines_that_are_no_sums_are_refused_with_their_place(line: str) -> None:
    with pytest.raises(VerificationError) as caught:
        parse_sums(f"{'1' * 64}  x\n{line}\n".encode(), source="S")
    assert caught.value.message == f"S:2: not a SHA-256 hash and a file name: {line!r}"


def test_a_name_that_is_listed_twice_is_refused() -> None:
    with pytest.raises(VerificationError) as caught:
        parse_sums(f"{'1' * 64}  x\n{'2' * 64}  x\n".encode())
    assert caught.value.message == 'SHA256SUMS:2: "x" is listed twice'
    with pytest.raises(ValueError, match="no line of SHA256SUMS"):
        format_sums({"a\nb": "0" * 64})


def git(folder: Path, *words: str) -> str:
    who = {
        "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "a@b",
        "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a@b",
    }
    return process.run(["git", "-C", folder, *words], env=who).stdout.decode().strip()


def test_the_state_of_a_repository(tmp_path: Path) -> None:
    assert git_state(tmp_path) == GitState(commit=None, dirty=True)
    git(tmp_path, "init", "-q")
    assert git_state(tmp_path) == GitState(commit=None, dirty=True)
    (tmp_path / "file").write_text("one")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert git_state(tmp_path) == GitState(commit=commit, dirty=False)
    (tmp_path / "file").write_text("two")
    assert git_state(tmp_path) == GitState(commit=commit, dirty=True)
    (tmp_path / "file").write_text("one")
    assert git_state(tmp_path) == GitState(commit=commit, dirty=False)
    (tmp_path / "new").touch()
    assert git_state(tmp_path) == GitState(commit=commit, dirty=True)


def test_without_git_the_state_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(process, "SYSTEM_PATH", str(tmp_path))
    assert git_state(tmp_path) == GitState(commit=None, dirty=True)
