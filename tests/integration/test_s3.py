"""The S3 store against moto's server: the contract, resumed uploads, what servers refuse.

Ceph runs the same contract.
"""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any

import boto3
import pytest

from slipway.channels.state import require_store
from slipway.errors import StoreError, UsageError
from slipway.stores import AlreadyExists, Store, open_store
from slipway.stores.s3 import S3Store
from slipway.stores.s3.options import Options, parse
from slipway.stores.s3.probe import broken_conditions
from store_contract import StoreContract

pytestmark = pytest.mark.integration

_NUMBERS = count()
MIB = 1 << 20


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    assert server._server
    inner, one_at_a_time = server._server.app, threading.Lock()

    def atomic(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        """Between moto's look at a condition and its write, another thread may write: a server's
        conditions are atomic.
        """
        conditional = environ["REQUEST_METHOD"] in ("PUT", "POST") and environ.keys() & {
            "HTTP_IF_MATCH",
            "HTTP_IF_NONE_MATCH",
        }
        with one_at_a_time if conditional else nullcontext():
            return inner(environ, start_response)

    server._server.app = atomic
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")


@pytest.fixture(scope="module")
def administrator(endpoint: str) -> Any:
    """The client that makes buckets."""
    secrets = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    return boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **secrets)


@pytest.fixture
def bucket(administrator: Any) -> str:
    name = f"bucket-{next(_NUMBERS)}"
    administrator.create_bucket(Bucket=name)
    return name


@pytest.fixture
def url(endpoint: str, bucket: str) -> str:
    return f"s3://{bucket}/some/prefix?endpoint_url={endpoint}&part_mib=5"


@pytest.fixture
def store(url: str) -> S3Store:
    return S3Store(parse(url))


class TestContract(StoreContract):
    def fill(self, store: Store, keys: list[str]) -> None:
        """Put empty objects behind the server: 2,500 requests to moto take 15 seconds."""
        from moto.s3.models import s3_backends

        assert isinstance(store, S3Store)
        backend = s3_backends["123456789012"]["aws"]
        for key in keys:
            backend.put_object(store.options.bucket, store._name(key), b"")

    @pytest.fixture
    def reopen(self, url: str) -> Callable[[], Store]:
        # The probe's marker is an object, and the contract looks at empty stores; moto's conditions
        # are tried below.
        shared = open_store(url, single_writer="0")

        def reopen() -> Store:
            store = open_store(url)
            assert isinstance(store, S3Store)
            assert isinstance(shared, S3Store)
            store.client = shared.client
            store._probed = True
            return store

        return reopen


@pytest.fixture
def big(tmp_path: Path) -> Path:
    path = tmp_path / "big"
    path.write_bytes(random.Random(1).randbytes(12 * MIB + 1))
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def counted(store: S3Store, operation: str) -> list[dict[str, Any]]:
    """The requests of one kind that the store will send, but for those of the probe's attempts."""
    calls: list[dict[str, Any]] = []

    def note(params: dict[str, Any], **_: Any) -> None:
        if "/probe/try-" not in params["Key"]:
            calls.append(dict(params))

    store.client.meta.events.register(f"provide-client-params.s3.{operation}", note)
    return calls


def stopped_upload(store: S3Store, path: Path, parts: int) -> None:
    """Leave an upload that was stopped after some parts."""
    target = {"Bucket": store.options.bucket, "Key": store._name("big")}
    upload = store.client.create_multipart_upload(
        **target, ChecksumAlgorithm="SHA256", Metadata={"sha256": sha256(path)}
    )
    data = path.read_bytes()
    for number in range(1, parts + 1):
        body = data[(number - 1) * 5 * MIB : number * 5 * MIB]
        store.client.upload_part(
            **target,
            UploadId=upload["UploadId"],
            PartNumber=number,
            Body=body,
            ChecksumAlgorithm="SHA256",
        )


def unfinished(store: S3Store) -> int:
    return len(store.client.list_multipart_uploads(Bucket=store.options.bucket).get("Uploads", ()))


def test_a_large_file_goes_in_parts_with_checksums_and_comes_back(
    store: S3Store, big: Path
) -> None:
    parts = counted(store, "UploadPart")
    assert store.create_file("big", big, sha256=sha256(big)) is True
    sent = {
        part["PartNumber"]: len(getattr(part["Body"], "getvalue", lambda body=part["Body"]: body)())
        for part in parts
    }
    assert sent == {1: 5 * MIB, 2: 5 * MIB, 3: 2 * MIB + 1}
    assert all("ChecksumSHA256" in part for part in parts)
    assert store.read("big").data == big.read_bytes()
    assert store.create_file("big", big, sha256=sha256(big)) is False
    assert len(parts) == 3
    assert unfinished(store) == 0


def test_a_stopped_upload_is_gone_on_with(store: S3Store, big: Path) -> None:
    stopped_upload(store, big, 2)
    parts = counted(store, "UploadPart")
    assert store.create_file("big", big, sha256=sha256(big)) is True
    assert [part["PartNumber"] for part in parts] == [3]
    assert store.read("big").data == big.read_bytes()
    assert unfinished(store) == 0


def test_a_part_of_another_file_is_sent_again(store: S3Store, big: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"x" * (12 * MIB + 1))
    stopped_upload(store, other, 2)
    parts = counted(store, "UploadPart")
    store.create_file("big", big, sha256=sha256(big))
    assert sorted(part["PartNumber"] for part in parts) == [1, 2, 3]
    assert store.read("big").data == big.read_bytes()


def test_parts_of_another_size_are_removed(store: S3Store, big: Path, url: str) -> None:
    stopped_upload(store, big, 2)
    other = S3Store(parse(url.replace("part_mib=5", "part_mib=6")))
    assert other.create_file("big", big, sha256=sha256(big)) is True
    assert unfinished(store) == 0


def test_a_large_file_with_another_hash_leaves_nothing(store: S3Store, big: Path) -> None:
    with pytest.raises(StoreError, match="the new content of big has the SHA-256"):
        store.create_file("big", big, sha256="0" * 64)
    assert store.stat("big") is None
    assert unfinished(store) == 0


def test_a_large_file_never_replaces(store: S3Store, big: Path) -> None:
    store.create("big", b"another")
    with pytest.raises(AlreadyExists, match="big exists already with another content"):
        store.create_file("big", big, sha256=sha256(big))


def test_an_upload_that_another_completes_meanwhile_is_success(url: str, big: Path) -> None:
    store, rival = S3Store(parse(url)), S3Store(parse(url))

    def overtake(**_: Any) -> None:
        rival.create_file("big", big, sha256=sha256(big))

    store.client.meta.events.register_first("before-call.s3.CompleteMultipartUpload", overtake)
    store._probed = True
    # whether it or the rival created it, only the server knows
    store.create_file("big", big, sha256=sha256(big))
    assert store.read("big").data == big.read_bytes()
    assert unfinished(store) == 0


def test_an_upload_does_not_replace_what_another_created_meanwhile(
    url: str, store: S3Store, big: Path
) -> None:
    rival = S3Store(parse(url))
    store.create("other", b"")  # the probe is over, which completes an upload too

    def overtake(**_: Any) -> None:
        rival.create("big", b"the rival's")

    store.client.meta.events.register_first("before-call.s3.CompleteMultipartUpload", overtake)
    with pytest.raises(AlreadyExists) as caught:
        store.create_file("big", big, sha256=sha256(big))
    assert caught.value.message == "big exists already with another content"
    assert store.read("big").data == b"the rival's"
    assert unfinished(store) == 0


def test_sweep_removes_uploads_that_began_before(store: S3Store, big: Path) -> None:
    stopped_upload(store, big, 1)
    assert store.sweep(0) == 0
    assert store.sweep(store.now()) == 1
    assert unfinished(store) == 0


def test_objects_have_headers_that_caches_and_browsers_understand(store: S3Store, url: str) -> None:
    store.create("a.json", b"{}")
    store.swap("b.html", b"", etag=None)
    assert store._head("a.json") and store.client.head_object(
        Bucket=store.options.bucket, Key="some/prefix/a.json"
    )["CacheControl"] == ("public, max-age=31536000, immutable")
    answer = store.client.head_object(Bucket=store.options.bucket, Key="some/prefix/b.html")
    assert (answer["CacheControl"], answer["ContentType"]) == ("no-cache", "text/html")
    other = open_store(url, storage_class="STANDARD_IA", sse="AES256", cache_control="private")
    other.create("c", b"")
    answer = store.client.head_object(Bucket=store.options.bucket, Key="some/prefix/c")
    assert (answer["StorageClass"], answer["ServerSideEncryption"], answer["CacheControl"]) == (
        "STANDARD_IA",
        "AES256",
        "private",
    )


def test_content_md5_where_checksums_are_only_sent_when_required(url: str, big: Path) -> None:
    store = open_store(url, checksums="when_required")
    assert isinstance(store, S3Store)
    parts = counted(store, "UploadPart")
    store.create_file("big", big, sha256=sha256(big))
    assert all("ContentMD5" in part and "ChecksumSHA256" not in part for part in parts)


def test_a_prefix_without_any_object_is_no_store_but_may_become_one(store: S3Store) -> None:
    require_store(store, new=True)
    for _ in range(2):
        with pytest.raises(StoreError) as caught:
            require_store(store)
        assert str(caught.value) == (
            f"error: there is no store in {store.url}: nothing was published there\n"
            "  hint: check --store and SLIPWAY_STORE; a new store begins with: "
            f"invoke keys init nightly; invoke publish NAME --store={store.url}"
        )
        store.create("other/thing", b"")
    store.create("metadata/nightly/1.root.json", b"")
    require_store(store)


def test_a_server_is_probed_once_and_the_answer_kept(store: S3Store, url: str) -> None:
    puts = counted(store, "PutObject")
    store.create("a", b"")
    assert len(puts) == 2  # one to remember the probe, one to create
    assert [status.key.partition("/")[0] for status in store.list()] == ["a", "probe"]
    second = S3Store(parse(url))
    puts = counted(second, "PutObject")
    second.create("b", b"")
    assert len(puts) == 1


def ignore_conditions(store: S3Store) -> None:
    """Make the server one that ignores conditions: it never sees them."""

    def strip(request: Any, **_: Any) -> None:
        for name in ("If-Match", "If-None-Match"):
            del request.headers[name]

    store.client.meta.events.register("before-sign.s3", strip)


def test_a_server_that_ignores_conditions_is_refused(store: S3Store) -> None:
    ignore_conditions(store)
    with pytest.raises(StoreError) as caught:
        store.create("a", b"")
    assert str(caught.value) == (
        f"error: {store.url} ignores conditional writes: an object was created twice, a multipart "
        "upload replaced an object, a version was replaced that was not there any more\n"
        "  hint: two writers would lose each other's work there; if nobody else ever writes to "
        "it, add --single-writer"
    )
    assert list(store.list()) == []
    assert unfinished(store) == 0


class TestSingleWriterContract(StoreContract):
    """A server without conditions, and one writer: everything but races."""

    test_of_many_who_create_one_wins = None  # type: ignore[assignment]
    test_of_many_who_swap_one_wins_each_time = None  # type: ignore[assignment]
    test_many_who_create_the_same_all_succeed = None  # type: ignore[assignment]
    test_a_listing_may_be_long = None  # type: ignore[assignment]

    @pytest.fixture
    def reopen(self, url: str) -> Callable[[], Store]:
        def reopen() -> Store:
            store = open_store(url, single_writer="1")
            assert isinstance(store, S3Store)
            ignore_conditions(store)
            return store

        return reopen


def test_moto_keeps_its_conditions(store: S3Store) -> None:
    assert broken_conditions(store) == []


def test_a_write_whose_answer_was_lost_is_success(store: S3Store) -> None:
    """The first answer to a swap is dropped.

    Botocore tries again, and the server refuses what it has done already.
    """
    first = store.swap("now", b"1", etag=None)
    dropped: list[int] = []

    def drop(attempts: int, **_: Any) -> Any:
        if not dropped:
            dropped.append(attempts)
            return 0  # seconds to wait before the retry

    store.client.meta.events.register("needs-retry.s3.PutObject", drop)
    second = store.swap("now", b"2", etag=first)
    assert dropped
    assert store.read("now").etag == second


@pytest.mark.parametrize(
    ("url", "message", "hint"),
    [
        (
            "s3:///x",
            '"" is not a bucket name: s3:///x',
            "write s3://bucket or s3://bucket/prefix",
        ),
        ("s3://bucket?regoin=x", 'an S3 store has no option "regoin"', 'did you mean "region"?'),
        (
            "s3://bucket?addressing=x",
            'the option addressing of an S3 store cannot be "x"',
            "choose from: auto, path, virtual",
        ),
        (
            "s3://bucket?part_mib=4",
            'the option part_mib of an S3 store cannot be "4"',
            "give a number from 5 to 5120",
        ),
        (
            "s3://bucket?endpoint_url=here",
            '"here" is not an endpoint',
            "write it with its scheme: https://storage.example:9000",
        ),
        (
            "ftp://x",
            "there is no kind of store for ftp://x",
            "give a directory, or one of: directory://, https://, s3://",
        ),
    ],
)
def test_a_url_that_is_wrong(url: str, message: str, hint: str) -> None:
    with pytest.raises((StoreError, UsageError)) as caught:
        open_store(url)
    assert (caught.value.message, caught.value.hint) == (message, hint)


def test_options_are_read_from_the_url() -> None:
    assert parse("s3://bucket/p/q/?region=r&single_writer=1&threads=2") == Options(
        bucket="bucket", prefix="p/q/", region="r", single_writer=True, threads=2
    )
    with pytest.raises(UsageError, match="a directory takes no --endpoint-url"):
        open_store("somewhere", endpoint_url="http://127.0.0.1:1")


ERROR = "<?xml version='1.0'?><Error><Code>{code}</Code><Message>no</Message></Error>"


@pytest.fixture
def refusing() -> Iterator[Callable[[int, str], str]]:
    """Start a server that answers everything with one error; returns its URL."""
    servers = []

    def start(status: int, code: str) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = ERROR.format(code=code).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_PUT = do_HEAD = do_GET

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(
    ("status", "code", "hint"),
    [
        (
            403,
            "AccessDenied",
            "the key may not do that there: its policy must allow s3:GetObject on bucket/prefix/*",
        ),
        (
            403,
            "InvalidAccessKeyId",
            "the server does not know the access key: check AWS_ACCESS_KEY_ID, or the profile",
        ),
        (
            403,
            "SignatureDoesNotMatch",
            (
                "the secret key is wrong for this access key: "
                "check AWS_SECRET_ACCESS_KEY, or the profile"
            ),
        ),
        (
            403,
            "RequestTimeTooSkewed",
            "set this machine's clock: it differs too much from the server's",
        ),
        (404, "NoSuchBucket", "make the bucket bucket, or name one that exists"),
        (400, "ExpiredToken", "log in again: the session's credentials have run out"),
    ],
)
def test_what_a_server_refuses_has_a_hint(
    refusing: Callable[[int, str], str], status: int, code: str, hint: str
) -> None:
    store = open_store("s3://bucket/prefix", endpoint_url=refusing(status, code))
    with pytest.raises(StoreError) as caught:
        store.read("a/b")
    assert (caught.value.message, caught.value.hint) == (
        "s3://bucket/prefix refused GetObject a/b: no",
        hint,
    )
    assert caught.value.exit_code == 6


def test_a_refused_head_is_told_by_its_status(refusing: Callable[[int, str], str]) -> None:
    store = open_store("s3://bucket/prefix", endpoint_url=refusing(403, "AccessDenied"))
    with pytest.raises(StoreError) as caught:
        store.stat("a/b")
    assert (caught.value.message, caught.value.hint) == (
        "s3://bucket/prefix refused HeadObject a/b: Forbidden",
        "the key may not do that there: its policy must allow s3:HeadObject on bucket/prefix/*",
    )


def test_nothing_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        endpoint = f"http://127.0.0.1:{server.server_port}"
    store = open_store("s3://bucket", endpoint_url=endpoint)
    with pytest.raises(StoreError) as caught:
        store.read("a")
    assert (
        caught.value.message
        == f's3://bucket: Could not connect to the endpoint URL: "{endpoint}/bucket/a"'
    )
    assert (
        caught.value.hint
        == f"nothing answers at {endpoint}: check its address, and that the server runs"
    )


def test_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(StoreError) as caught:
        open_store("s3://bucket", endpoint_url="http://127.0.0.1:1").read("a")
    assert str(caught.value) == (
        "error: s3://bucket: Unable to locate credentials\n"
        "  hint: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or add profile=NAME to the URL"
    )


def test_an_unknown_profile() -> None:
    with pytest.raises(StoreError) as caught:
        open_store("s3://bucket", profile="nobody").read("a")
    assert str(caught.value) == (
        "error: s3://bucket: The config profile (nobody) could not be found\n"
        "  hint: the profiles are in ~/.aws/config"
    )
