"""A store in a bucket of S3, or of a compatible server with conditional requests.

An object has its key as its name, below the URL's prefix. ``create`` and ``swap`` rest on
conditional requests (RFC 9110, 13.1: If-None-Match, If-Match). Some servers accept and ignore them,
so a bucket is tested before the first write (:mod:`slipway.stores.s3.probe`). A refused condition
(412, 409) has two possible causes: another writer was first, or an earlier attempt of this request
succeeded and its answer was lost. The object's present content decides.
"""

from __future__ import annotations

import contextlib
import hashlib
import mimetypes
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from slipway.errors import StoreError
from slipway.stores import (
    MAX_LISTED,
    MAX_READ,
    AlreadyExists,
    Blob,
    Conflict,
    NotFound,
    Status,
    TooLarge,
    check_key,
    too_many,
)
from slipway.stores._pace import paced
from slipway.stores.s3.failures import (
    ANSWER,
    COMPLETION_S,
    code_of,
    field_of,
    lost,
    reported,
    retried,
)
from slipway.stores.s3.options import Options, parse
from slipway.stores.s3.probe import require_conditions
from slipway.stores.s3.upload import ENDED, Upload, checksum, part_size, unfinished

__all__ = ["S3Store", "open_url"]

#: Attempts of a write, if each is refused because of another writer, who then fails.
_ATTEMPTS: Final = 5


def open_url(url: str) -> S3Store:
    """Open the store of ``s3://bucket/prefix?options``."""
    return S3Store(parse(url))


class S3Store:
    """See :class:`slipway.stores.Store`. The version of an object is its ETag."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.url = f"s3://{options.bucket}/{options.prefix}".rstrip("/")
        self._probed = options.single_writer

    def create(self, key: str, data: bytes) -> bool:
        """See :meth:`slipway.stores.Store.create`."""
        check_key(key)
        for _ in range(_ATTEMPTS):
            if self._put(
                key, data, {"IfNoneMatch": "*"}, self._fields(key, data, self.options.cache_control)
            ):
                return True
            with contextlib.suppress(NotFound):
                if self._same(key, data):
                    return False
                raise AlreadyExists(
                    f"{key} exists already with another content",
                    hint="what is published is never replaced",
                )
        raise Conflict(f"{key} is being written by another writer", hint="try again")

    def create_file(self, key: str, path: Path, *, sha256: str) -> bool:
        """See :meth:`slipway.stores.Store.create_file`; large files go in parts, and a later run
        resumes.
        """
        check_key(key)
        for _ in range(_ATTEMPTS):
            if self.stat(key):
                return self._compare(key, path, sha256)
            if path.stat().st_size <= part_size(0, self.options):
                data = path.read_bytes()
                _require(key, hashlib.sha256(data).hexdigest(), sha256)
                return self.create(key, data)
            self._require_conditions()
            if self._upload(key, path, sha256):
                return True
        raise Conflict(f"{key} is being written by another writer", hint="try again")

    def swap(self, key: str, data: bytes, *, etag: str | None) -> str:
        """See :meth:`slipway.stores.Store.swap`."""
        check_key(key)
        condition = {"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag}
        new = None
        with contextlib.suppress(NotFound):
            new = self._put(key, data, condition, self._fields(key, data, "no-cache"))
        if new is not None:
            return new
        gone = etag is not None and self.stat(key) is None
        raise Conflict(
            f"{key} is not there any more" if gone else f"{key} was changed by another writer"
        )

    def read(self, key: str, *, limit: int = MAX_READ) -> Blob:
        """See :meth:`slipway.stores.Store.read`."""
        with self._asking(key, limit):
            answer = self.client.get_object(Bucket=self.options.bucket, Key=self._name(key))
            data = _body(answer, limit + 1)
        if len(data) > limit:
            raise TooLarge(f"{key} in {self.url} is larger than {limit} bytes")
        return Blob(data=data, etag=field_of(answer, "ETag"))

    def read_range(self, key: str, start: int, length: int) -> bytes:
        """See :meth:`slipway.stores.Store.read_range`."""
        from botocore.exceptions import ClientError

        check_key(key)
        if length <= 0:
            return b""
        with self._asking(key, length):
            wanted = f"bytes={start}-{start + length - 1}"
            try:
                answer = self.client.get_object(
                    Bucket=self.options.bucket, Key=self._name(key), Range=wanted
                )
            except ClientError as error:
                if code_of(error) in ("InvalidRange", "416"):
                    return b""  # it ends before
                raise
            if start and not str(answer.get("ContentRange")).startswith(f"bytes {start}-"):
                answer["Body"].close()
                raise StoreError(
                    f"{self.url} sends all of {key} instead of a range",
                    hint="use a server with range requests",
                )
            return _body(answer, length)

    def list(self, prefix: str = "") -> Iterator[Status]:
        """See :meth:`slipway.stores.Store.list`; other programs' names, unfit as keys, are left
        out.
        """
        wanted, last, count = self.options.prefix + prefix, b"", 0
        with reported(self.options, self.url, prefix):
            pages = iter(
                self.client.get_paginator("list_objects_v2").paginate(
                    Bucket=self.options.bucket, Prefix=wanted
                )
            )
        while True:
            with reported(self.options, self.url, f"the list of {prefix}"):
                page = next(pages, None)
            if page is None:
                return
            count += 1  # a page without any object is one of an endless list, too
            for entry in page.get("Contents", ()):
                name, count = str(field_of(entry, "Key")), count + 1
                if name.encode(errors="replace") <= last or not name.startswith(wanted):
                    raise StoreError(
                        f"{self.url} lists {name[:100]!r} out of order",
                        hint="use a server that sorts its listings",
                    )
                last = name.encode(errors="replace")
                key = name.removeprefix(self.options.prefix)
                with contextlib.suppress(StoreError):
                    check_key(key)
                    yield Status(
                        key=key,
                        size=field_of(entry, "Size"),
                        modified=field_of(entry, "LastModified").timestamp(),
                    )
            if count > MAX_LISTED:
                raise too_many(self.url, MAX_LISTED)

    def stat(self, key: str) -> Status | None:
        """See :meth:`slipway.stores.Store.stat`."""
        answer = self._head(key)
        return (
            Status(
                key=key,
                size=field_of(answer, "ContentLength"),
                modified=field_of(answer, "LastModified").timestamp(),
            )
            if answer
            else None
        )

    def delete(self, key: str) -> None:
        """See :meth:`slipway.stores.Store.delete`."""
        with self._asking(key):
            self.client.delete_object(Bucket=self.options.bucket, Key=self._name(key))

    def renew(self, key: str) -> None:
        """See :meth:`slipway.stores.Store.renew`: copy the object onto itself with new metadata.

        S3 does this up to 5 GiB, and only if something about the object changes.
        """
        with self._asking(key):
            target = {"Bucket": self.options.bucket, "Key": self._name(key)}
            found = self.client.head_object(**target)
            fields = {
                name: found[name] for name in ("CacheControl", "ContentType") if name in found
            } | self.options.object_fields
            metadata = {**field_of(found, "Metadata"), "renewed": str(int(time.time()))}
            self.client.copy_object(
                **target,
                CopySource=dict(target),
                MetadataDirective="REPLACE",
                Metadata=metadata,
                **fields,
            )

    def now(self) -> float:
        """See :meth:`slipway.stores.Store.now`: the Date of an answer."""
        with reported(self.options, self.url, ""):
            headers = self.client.head_bucket(Bucket=self.options.bucket)["ResponseMetadata"][
                "HTTPHeaders"
            ]
        return parsedate_to_datetime(field_of(headers, "date")).replace(tzinfo=UTC).timestamp()

    def sweep(self, before: float) -> int:
        """See :meth:`slipway.stores.Store.sweep`: abort unfinished uploads begun before that."""
        count = 0
        with reported(self.options, self.url, ""):
            for upload in unfinished(self.client, self.options.bucket, self.options.prefix):
                if field_of(upload, "Initiated").timestamp() < before:
                    self.client.abort_multipart_upload(
                        Bucket=self.options.bucket,
                        Key=field_of(upload, "Key"),
                        UploadId=field_of(upload, "UploadId"),
                    )
                    count += 1
        return count

    @cached_property
    def client(self) -> Any:
        """The boto3 client; threads may share it."""
        options = self.options
        with reported(options, self.url, ""):  # says so where boto3 is not installed
            import boto3
            from botocore.config import Config
        config = Config(
            # The content has a checksum in a signed header. Over HTTP, botocore would read it once
            # more to sign it, too.
            s3={"addressing_style": options.addressing, "payload_signing_enabled": False},
            request_checksum_calculation=options.checksums,
            response_checksum_validation=options.checksums,
            retries={"mode": "standard", "max_attempts": 5},
            max_pool_connections=options.threads + 4,
            connect_timeout=10,
        )
        with reported(options, self.url, ""):
            session = boto3.Session(profile_name=options.profile, region_name=options.region)
            # The protocol wants a region even if it means nothing, as on most private servers.
            region = session.region_name or ("us-east-1" if options.endpoint_url else None)
            client = session.client(
                "s3", endpoint_url=options.endpoint_url, region_name=region, config=config
            )
        # botocore has no other way to a connection's class
        pools = client._endpoint.http_session._pool_classes_by_scheme
        pools.update({scheme: paced(pool) for scheme, pool in pools.items()})
        return client

    def _name(self, key: str) -> str:
        return self.options.prefix + check_key(key)

    @contextlib.contextmanager
    def _asking(self, key: str, size: int = ANSWER) -> Iterator[None]:
        check_key(key)
        with reported(self.options, self.url, key, size=size):
            yield

    def _head(self, key: str) -> Mapping[str, Any] | None:
        try:
            with self._asking(key):
                answer: Mapping[str, Any] = self.client.head_object(
                    Bucket=self.options.bucket, Key=self._name(key)
                )
                return answer
        except NotFound:
            return None

    def _fields(self, key: str, data: bytes | None, cache_control: str) -> dict[str, Any]:
        """Return an object's headers, and the checksum of data sent in one request."""
        kind = mimetypes.guess_type(key)[0] or "application/octet-stream"
        proof = {} if data is None else checksum(data, self.options)
        return {
            "CacheControl": cache_control,
            "ContentType": kind,
            **self.options.object_fields,
            **proof,
        }

    def _condition(self, condition: Mapping[str, Any]) -> Mapping[str, Any]:
        return {} if self.options.single_writer else condition

    def _put(
        self, key: str, data: bytes, condition: Mapping[str, Any], fields: Mapping[str, Any]
    ) -> str | None:
        """Write an object if the condition holds.

        Returns:
            Its version; None if the condition does not hold.
        """
        self._require_conditions()
        if self.options.single_writer and not self._holds(key, condition):
            return None
        etag = ""

        def put() -> None:
            nonlocal etag
            answer = self.client.put_object(
                Bucket=self.options.bucket,
                Key=self._name(key),
                Body=data,
                **fields,
                **self._condition(condition),
            )
            etag = field_of(answer, "ETag")

        with reported(self.options, self.url, key):
            refusal = _refusal(put)
        if refusal is not None and retried(refusal):
            # The answer to the first attempt was lost: if it succeeded, the present object is ours.
            return self._same(key, data)
        return None if refusal is not None else etag

    def _upload(self, key: str, path: Path, sha256: str) -> bool:
        """Create an object in parts.

        Returns:
            False if another writer created it or ended the upload; the caller then looks again.
        """
        fields = {
            **self._fields(key, None, self.options.cache_control),
            "Metadata": {"sha256": sha256},
        }

        def send() -> None:
            found = upload.send()
            if found != sha256:
                upload.give_up()
            _require(key, found, sha256)
            upload.complete(self._condition({"IfNoneMatch": "*"}))

        with reported(self.options, self.url, key, patience_s=COMPLETION_S):
            upload = Upload(self.client, self.options, self._name(key), path, fields)
            refusal = _refusal(send, *ENDED)
            if refusal is None or code_of(refusal) not in ENDED:
                upload.give_up()
        return refusal is None

    def _holds(self, key: str, condition: Mapping[str, Any]) -> bool:
        """Return True if a condition holds: checked here, for a single writer without server
        support.
        """
        found = self._head(key)
        return (
            found is None
            if "IfNoneMatch" in condition
            else found is not None and field_of(found, "ETag") == condition["IfMatch"]
        )

    def _compare(self, key: str, path: Path, sha256: str) -> bool:
        """Return False if the existing object is identical; raise AlreadyExists otherwise.

        Every large object has its SHA-256 as metadata; an object of another program is read.
        """
        found = self._head(key) or {"ContentLength": -1, "Metadata": {}}
        size, theirs = field_of(found, "ContentLength"), field_of(found, "Metadata").get("sha256")
        if theirs is None and size == path.stat().st_size:
            theirs = self._sha256(key, size)
        if theirs != sha256 or size != path.stat().st_size:
            raise AlreadyExists(
                f"{key} exists already with another content",
                hint="what is published is never replaced",
            )
        return False

    def _sha256(self, key: str, size: int) -> str:
        digest = hashlib.sha256()
        step = 8 << 20
        for start in range(0, size, step):
            digest.update(self.read_range(key, start, step))
        return digest.hexdigest()

    def _same(self, key: str, data: bytes) -> str | None:
        """Return the version of an object if it has this content; None otherwise."""
        try:
            found = self.read(key, limit=len(data))
        except TooLarge:
            return None
        return found.etag if found.data == data else None

    def _require_conditions(self) -> None:
        if not self._probed:
            require_conditions(self)
            self._probed = True


def _refusal(write: Callable[[], None], *also: str) -> Any:
    """Do a conditional write; return the server's refusal if another writer was first, or None.

    Args:
        also: Further error codes to return instead of raising.
    """
    from botocore.exceptions import ClientError

    try:
        write()
    except ClientError as error:
        if not lost(error) and code_of(error) not in also:
            raise
        return error
    return None


def _body(answer: Mapping[str, Any], limit: int) -> bytes:
    """Read an answer's body, at most ``limit`` bytes.

    Raises:
        IncompleteReadError: The body ended before its announced length.
    """
    from botocore.exceptions import IncompleteReadError

    body, parts, missing = answer["Body"], [], limit
    try:
        while missing and (data := body.read(missing)):
            parts.append(data)
            missing -= len(data)
    finally:
        if not missing:
            body.close()  # with whatever else comes
    length = answer.get("ContentLength")
    if missing and length is not None and length != limit - missing:
        raise IncompleteReadError(actual_bytes=limit - missing, expected_bytes=length)
    return b"".join(parts)


def _require(key: str, found: str, expected: str) -> None:
    if found != expected:
        raise StoreError(f"the new content of {key} has the SHA-256 {found}, expected {expected}")
