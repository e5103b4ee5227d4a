"""Publishing: what is created, what is refused, and that it can be stopped anywhere."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slipway.channels.publish import Published, publish
from slipway.errors import BuildError, StoreError
from slipway.host import process
from slipway.records.reference import ReleaseRef
from slipway.records.release import Release
from slipway.records.sums import parse_sums
from slipway.stores import Store
from slipway.stores.directory import DirectoryStore
from store_faults import Crash, CrashingStore, WrappedStore

MakeRelease = Callable[..., Release]


def content(store: Store) -> dict[str, bytes]:
    return {status.key: store.read(status.key).data for status in store.list()}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_release_is_every_file_under_its_hash_and_the_sums_last(
    store: DirectoryStore, make_release: MakeRelease
) -> None:
    release = make_release()
    order: list[str] = []
    published = publish(store, release.folder, started=order.append)
    prefix = "targets/example/1.0.0-b1"
    manifest = (release.folder / "manifest.json").read_bytes()
    assert order == [
        f"{prefix}/{sha256(b'a disk')}.example.qcow2",
        f"{prefix}/{sha256(b'the same disk')}.example.raw",
        f"{prefix}/{sha256(manifest)}.manifest.json",
        f"{prefix}/{sha256(b'{}' + bytes([10]))}.sbom.cdx.json",
        f"{prefix}/{sha256(b'[]' + bytes([10]))}.provenance.intoto.json",
        "releases/example/1.0.0-b1/SHA256SUMS",
    ]
    assert published == Published(
        ref=ReleaseRef("example", "1.0.0-b1"), created=tuple(order), existing=(), store=store.url
    )
    assert sorted(content(store)) == sorted(order)
    assert content(store)[order[-1]] == (release.folder / "SHA256SUMS").read_bytes()


def test_what_is_downloaded_passes_sha256sum(
    store: DirectoryStore, make_release: MakeRelease, tmp_path: Path
) -> None:
    publish(store, make_release().folder)
    sums = store.read("releases/example/1.0.0-b1/SHA256SUMS").data
    (tmp_path / "downloads").mkdir()
    for file, digest in parse_sums(sums).items():
        (tmp_path / "downloads" / file).write_bytes(
            store.read(f"targets/example/1.0.0-b1/{digest}.{file}").data
        )
    process.run(["sha256sum", "--strict", "-c"], cwd=tmp_path / "downloads", input=sums)


def test_publishing_again_changes_nothing(store: DirectoryStore, make_release: MakeRelease) -> None:
    release = make_release()
    first = publish(store, release.folder)
    before = [*store.list()]
    again = publish(store, release.folder)
    assert again.created == ()
    assert sorted(again.existing) == sorted(first.created)
    assert [*store.list()] == before


def test_the_same_artifacts_built_at_another_time_are_published_already(
    store: DirectoryStore, make_release: MakeRelease
) -> None:
    first = make_release()
    published = publish(store, first.folder)
    before = [*store.list()]
    again = publish(store, make_release("later", created=1_800_009_999).folder, listed=first.files)
    assert again.created == ()
    assert again.kept == ("manifest.json",)
    assert sorted(again.existing) == sorted(published.created)
    assert [*store.list()] == before


def test_records_that_no_channel_lists_are_not_taken_over(
    store: DirectoryStore, make_release: MakeRelease
) -> None:
    publish(store, make_release().folder)
    later = make_release("later", created=1_800_009_999)
    again = publish(store, later.folder)
    assert again.files == later.files
    assert [key.rpartition(".manifest")[1] for key in again.created] == [".manifest"]


def test_other_artifacts_under_the_same_release_are_refused(
    store: DirectoryStore, make_release: MakeRelease
) -> None:
    publish(store, make_release().folder)
    before = content(store)
    with pytest.raises(StoreError) as caught:
        publish(
            store,
            make_release(
                "other", images={"qcow2": b"another disk", "raw": b"the same disk"}
            ).folder,
        )
    assert str(caught.value) == (
        "error: example 1.0.0-b1 is published with other artifacts: example.qcow2\n"
        "  hint: a release never changes: raise the version, or find out why the same inputs "
        "gave another image"
    )
    assert content(store) == before


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"boot": None}, "was never booted"),
        (
            {"booted_disk_sha256": "0" * 64},
            "was booted from another disk than its artifacts were made from",
        ),
        ({"boot": {"passed": False, "checks": []}}, "did not pass its checks"),
        (
            {
                "boot": {
                    "passed": True,
                    "checks": [
                        {"name": "a", "outcome": "passed"},
                        {"name": "b", "outcome": "failed"},
                    ],
                }
            },
            "did not pass its checks: b",
        ),
        ({"boot": {"passed": True, "checks": []}}, "did not pass its checks"),
        (
            {
                "boot": {
                    "passed": True,
                    "expected": ["guest/a", "outside/b"],
                    "checks": [
                        {"name": name, "place": "guest", "outcome": "passed"} for name in ("a", "c")
                    ],
                }
            },
            "did not pass its checks: outside/b did not run, guest/c was not expected",
        ),
    ],
)
def test_a_build_without_a_passing_boot_is_refused(
    store: DirectoryStore, make_release: MakeRelease, changes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(BuildError) as caught:
        publish(store, make_release(**changes).folder)
    assert str(caught.value) == (
        f"error: example 1.0.0-b1 {problem}, so it is not published\n"
        "  hint: run: invoke build example"
    )
    assert content(store) == {}


@pytest.mark.parametrize("name", ["example.qcow2", "sbom.cdx.json", "provenance.intoto.json"])
def test_a_file_that_is_not_what_the_manifest_says_is_refused(
    store: DirectoryStore, make_release: MakeRelease, name: str
) -> None:
    release = make_release()
    path = release.folder / name
    good = path.read_bytes()
    path.unlink()
    with pytest.raises(BuildError) as caught:
        publish(store, release.folder)
    assert (
        caught.value.message
        == f"{path} is in the manifest, but cannot be read: No such file or directory"
    )
    path.write_bytes(good + b"!")
    with pytest.raises(BuildError) as caught:
        publish(store, release.folder)
    assert (
        caught.value.message == f"{path} has {len(good) + 1} bytes, its manifest says {len(good)}"
    )
    path.write_bytes(b"!" + good[1:])
    with pytest.raises(BuildError) as caught:
        publish(store, release.folder)
    assert (
        caught.value.message
        == f"{path} has the SHA-256 {sha256(b'!' + good[1:])}, its manifest says {sha256(good)}"
    )
    assert content(store) == {}


def test_a_folder_without_a_build_is_refused(store: DirectoryStore, tmp_path: Path) -> None:
    with pytest.raises(BuildError) as caught:
        publish(store, tmp_path)
    assert (
        str(caught.value)
        == f"error: there is no finished build in {tmp_path}\n  hint: run: invoke build NAME"
    )
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(BuildError, match="is not a manifest"):
        publish(store, tmp_path)


def test_a_damaged_list_in_the_store_is_told_from_a_conflict(
    store: DirectoryStore, make_release: MakeRelease
) -> None:
    store.create("releases/example/1.0.0-b1/SHA256SUMS", b"rubbish\n")
    with pytest.raises(StoreError) as caught:
        publish(store, make_release().folder)
    key = f"{store.url}/releases/example/1.0.0-b1/SHA256SUMS"
    assert str(caught.value) == (
        f"error: {key}:1: not a SHA-256 hash and a file name: 'rubbish'\n"
        "  hint: the store was changed by something else"
    )


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("rebuilt", [False, True], ids=["same build", "built again"])
def test_a_crash_at_any_write_leaves_what_the_next_run_completes(
    tmp_path: Path, make_release: MakeRelease, after: bool, rebuilt: bool
) -> None:
    release = make_release()
    second = make_release("again", created=1_800_009_999) if rebuilt else release
    writes = 6
    for at in range(1, writes + 1):
        store = DirectoryStore(tmp_path / f"store-{at}")
        with pytest.raises(Crash):
            publish(CrashingStore(store, at=at, after=after), release.folder)
        whole = at == writes and after
        sums = "releases/example/1.0.0-b1/SHA256SUMS"
        assert (store.stat(sums) is not None) == whole
        done = publish(store, second.folder)
        assert bool(done.created) != (whole and not rebuilt)
        assert done.files == second.files
        for file, digest in parse_sums(store.read(sums).data).items():
            assert sha256(store.read(f"targets/example/1.0.0-b1/{digest}.{file}").data) == digest
    # One write more than there are does not happen: these were all.
    publish(
        CrashingStore(DirectoryStore(tmp_path / "store-more"), at=writes + 1, after=after),
        release.folder,
    )


class LateStore(WrappedStore):
    """A store in which somebody else publishes the release just before its SHA256SUMS is
    created.
    """

    def __init__(self, store: Store, rival: Path) -> None:
        super().__init__(store)
        self.rival = rival

    def create(self, key: str, data: bytes) -> bool:
        publish(self.store, self.rival)
        return super().create(key, data)


def test_losing_the_race_to_the_same_artifacts_is_success(
    store: DirectoryStore, make_release: MakeRelease
) -> None:
    rival = make_release("rival", created=1_800_009_999)
    published = publish(LateStore(store, rival.folder), make_release().folder)
    assert published.existing[-1] == "releases/example/1.0.0-b1/SHA256SUMS"
    assert store.read(published.existing[-1]).data == rival.sums


def test_losing_the_race_to_other_artifacts_is_a_conflict(
    store: DirectoryStore, make_release: MakeRelease
) -> None:
    rival = make_release("rival", images={"qcow2": b"another"})
    with pytest.raises(
        StoreError, match=r"is published with other artifacts: example\.qcow2, example\.raw"
    ):
        publish(LateStore(store, rival.folder), make_release().folder)
    assert store.read("releases/example/1.0.0-b1/SHA256SUMS").data == rival.sums


def test_a_manifest_cannot_describe_other_records(make_release: MakeRelease) -> None:
    manifest = make_release().manifest
    with pytest.raises(ValueError, match="the manifest describes another SBOM or provenance"):
        make_release(sbom=replace(manifest.sbom, size=99))
