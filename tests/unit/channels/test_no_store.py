"""What is not a store: told from an empty one, from a new one, and from one that is not whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from slipway.channels.publish import publish
from slipway.channels.state import require_store
from slipway.errors import StoreError
from slipway.stores import open_store
from slipway.stores.directory import DirectoryStore

Build = Callable[..., Path]


def message(folder: Path, *, new: bool = False) -> str:
    with pytest.raises(StoreError) as caught:
        require_store(DirectoryStore(folder), new=new)
    return caught.value.message


def test_a_folder_is_a_store_by_what_is_in_it(tmp_path: Path, build: Build) -> None:
    folder = tmp_path / "folder"
    assert message(folder) == f"there is no store in {folder}: there is no such folder"
    require_store(DirectoryStore(folder), new=True)
    folder.mkdir()
    assert message(folder) == f"there is no store in {folder}: the folder is empty"
    require_store(DirectoryStore(folder), new=True)
    DirectoryStore(folder).now()  # leaves .tmp/, as a first publication does that was stopped
    assert message(folder) == f"there is no store in {folder}: the folder is empty"
    require_store(DirectoryStore(folder), new=True)
    publish(DirectoryStore(folder), build(1))
    require_store(DirectoryStore(folder))
    (folder / "README").write_text("a store may hold more")
    require_store(DirectoryStore(folder), new=True)


@pytest.mark.parametrize(
    "name",
    ["file", ".git/config", "metadata/x.txt", "metadata/UPPER/1.root.json", "targets/a/b/c.qcow2"],
)
@pytest.mark.parametrize("new", [False, True], ids=["reading", "publishing"])
def test_a_folder_with_something_else_is_no_store(tmp_path: Path, name: str, new: bool) -> None:
    path = tmp_path / "folder" / name
    path.parent.mkdir(parents=True)
    path.write_text("x")
    assert (
        message(tmp_path / "folder", new=new)
        == f"{tmp_path / 'folder'} is not a store: something else is there"
    )


@pytest.mark.parametrize("new", [False, True], ids=["reading", "publishing"])
def test_a_file_is_no_store(tmp_path: Path, new: bool) -> None:
    (tmp_path / "file").write_text("x")
    assert (
        message(tmp_path / "file", new=new)
        == f"{tmp_path / 'file'} is not a store: something else is there"
    )


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("s3:/bucket/p", "write s3://bucket/p"),
        ("s3:bucket", "write s3://bucket"),
        ("directory:/srv/store", "write /srv/store"),
        ("https:/host/p", "write https://host/p"),
        ("host:srv/store", "give a directory, or one of: directory://, https://, s3://"),
    ],
)
def test_text_like_a_url_is_no_folder(text: str, hint: str) -> None:
    for options in ({}, {"endpoint_url": "http://127.0.0.1:1"}):
        with pytest.raises(StoreError) as caught:
            open_store(text, **options)
        assert str(caught.value) == (
            f"error: there is no kind of store for {text}\n"
            f"  hint: {hint}; a folder of this name is ./{text}"
        )
    assert open_store(f"./{text}").url == str(Path.cwd() / text)
