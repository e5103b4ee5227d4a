"""The contract of stores, and what servers refuse, on Ceph over HTTP and HTTPS."""

from __future__ import annotations

import hashlib
import os
import random
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import botocore.auth
import botocore.compat
import pytest

from slipway.errors import StoreError
from slipway.stores import Store, open_store
from slipway.stores.s3 import S3Store
from slipway.stores.s3.probe import broken_conditions
from store_contract import StoreContract

pytestmark = pytest.mark.ceph
MIB = 1 << 20


class TestContract(StoreContract):
    @pytest.fixture
    def reopen(self, url: str) -> Callable[[], Store]:
        shared = open_store(url)
        assert isinstance(shared, S3Store)

        def reopen() -> Store:
            store = open_store(url)
            assert isinstance(store, S3Store)
            store.client = shared.client  # making one takes a fifth of a second
            store._probed = True  # its marker is an object, and the contract looks at empty stores
            return store

        return reopen


@pytest.fixture
def store(url: str) -> S3Store:
    store = open_store(url, part_mib="5")
    assert isinstance(store, S3Store)
    return store


@pytest.fixture
def big(tmp_path: Path) -> Path:
    path = tmp_path / "big"
    path.write_bytes(random.Random(1).randbytes(23 * MIB))
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_it_keeps_its_conditions(store: S3Store) -> None:
    assert broken_conditions(store) == []
    assert store.client.list_multipart_uploads(Bucket=store.options.bucket).get("Uploads", []) == []


@pytest.mark.parametrize("checksums", ["when_supported", "when_required"])
def test_of_many_who_upload_the_same_all_succeed(url: str, big: Path, checksums: str) -> None:
    stores = [open_store(url, part_mib="5", checksums=checksums) for _ in range(4)]
    outcomes: list[Any] = []

    def upload(store: Store) -> None:
        try:
            outcomes.append(store.create_file("big", big, sha256=sha256(big)))
        except Exception as error:
            outcomes.append(error)

    threads = [threading.Thread(target=upload, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [outcome for outcome in outcomes if not isinstance(outcome, bool)] == []
    assert stores[0].read("big", limit=1 << 30).data == big.read_bytes()
    first = stores[0]
    assert isinstance(first, S3Store)
    assert first.client.list_multipart_uploads(Bucket=first.options.bucket).get("Uploads", []) == []


def test_a_part_that_is_altered_on_its_way_is_refused(store: S3Store, big: Path) -> None:
    """The checksum is of what was meant to be sent, and the server compares."""
    store.create("first", b"")

    def alter(params: dict[str, Any], **_: Any) -> None:
        params["ChecksumSHA256"] = "A" * 43 + "="

    store.client.meta.events.register("provide-client-params.s3.UploadPart", alter)
    with pytest.raises(StoreError, match="refused UploadPart big"):
        store.create_file("big", big, sha256=sha256(big))
    assert store.stat("big") is None


def refused(url: str) -> StoreError:
    with pytest.raises(StoreError) as caught:
        open_store(url).read("a")
    return caught.value


def test_keys_that_are_wrong(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    assert refused(url).hint == (
        "the secret key is wrong for this access key: check AWS_SECRET_ACCESS_KEY, or the profile"
    )
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    assert (
        refused(url).hint
        == "the server does not know the access key: check AWS_ACCESS_KEY_ID, or the profile"
    )


def test_a_key_without_permission(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "otheraccess")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "othersecret")
    error = refused(url)
    assert error.hint and error.hint.startswith(
        "the key may not do that there: its policy must allow s3:GetObject on bucket-"
    )


def test_a_clock_that_is_wrong(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = datetime.now(UTC) - timedelta(hours=2)
    for module in (botocore.auth, botocore.compat):
        monkeypatch.setattr(
            module,
            "get_current_datetime",
            lambda remove_tzinfo=True: wrong.replace(tzinfo=None),
            raising=False,
        )
    assert refused(url).hint == "set this machine's clock: it differs too much from the server's"


def test_no_such_bucket(url: str) -> None:
    error = refused(url.replace("s3://bucket-", "s3://nothing-"))
    assert error.hint and error.hint.startswith("make the bucket nothing-")


def test_a_certificate_of_nobody(gateway: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    url = gateway.bucket(gateway.https)
    monkeypatch.delenv("AWS_CA_BUNDLE")
    assert (
        refused(url).hint
        == "name the authority that signed the server's certificate: AWS_CA_BUNDLE=FILE"
    )
    assert "AWS_CA_BUNDLE" not in os.environ
