"""A test of a server's conditional writes: some servers accept conditions but overwrite anyway.

It runs once a month for a bucket and prefix at an endpoint. The answer is kept in the store, below
``probe/``. It needs no trust: anybody able to forge it could also overwrite everything.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from typing import TYPE_CHECKING, Any, Final

from slipway.errors import StoreError
from slipway.stores.s3.failures import field_of, lost, reported
from slipway.stores.s3.upload import checksum

if TYPE_CHECKING:
    from slipway.stores.s3 import S3Store

__all__ = ["broken_conditions", "require_conditions"]

_VALID_S: Final = 30 * 86400


def require_conditions(store: S3Store) -> None:
    """Test the server, unless it passed recently.

    Raises:
        StoreError: The server ignores a condition.
    """
    options = store.options
    endpoint = f"{store.client.meta.endpoint_url}/{options.bucket}/{options.prefix}"
    marker = f"probe/{hashlib.sha256(endpoint.encode()).hexdigest()[:16]}"
    known = store.stat(marker)
    if known and known.modified > time.time() - _VALID_S:
        return
    broken = broken_conditions(store)
    if broken:
        raise StoreError(
            f"{store.url} ignores conditional writes: {', '.join(broken)}",
            hint=(
                "two writers would lose each other's work there; if nobody else ever writes to it, "
                "add --single-writer"
            ),
        )
    with reported(options, store.url, marker):
        store.client.put_object(
            Bucket=options.bucket, Key=options.prefix + marker, Body=b"", **checksum(b"", options)
        )


def broken_conditions(store: S3Store) -> list[str]:
    """Return each condition ignored by the server, by its effect; leave no object behind."""
    client, options = store.client, store.options
    name = f"{options.prefix}probe/try-{secrets.token_hex(8)}"
    target = {"Bucket": options.bucket, "Key": name}

    def put(body: bytes, **condition: Any) -> str:
        answer = client.put_object(**target, Body=body, **checksum(body, options), **condition)
        return str(field_of(answer, "ETag"))

    def multipart() -> None:
        upload = field_of(client.create_multipart_upload(**target), "UploadId")
        try:
            part = client.upload_part(**target, UploadId=upload, PartNumber=1, Body=b"3")
            parts = {"Parts": [{"PartNumber": 1, "ETag": field_of(part, "ETag")}]}
            client.complete_multipart_upload(
                **target, UploadId=upload, MultipartUpload=parts, IfNoneMatch="*"
            )
        except BaseException:
            client.abort_multipart_upload(**target, UploadId=upload)
            raise

    with reported(options, store.url, "probe/"):
        try:
            stale = put(b"1", IfNoneMatch="*")
            broken = (
                []
                if _refused(lambda: put(b"2", IfNoneMatch="*"))
                else ["an object was created twice"]
            )
            broken += [] if _refused(multipart) else ["a multipart upload replaced an object"]
            put(b"4")
            broken += (
                []
                if _refused(lambda: put(b"5", IfMatch=stale))
                else ["a version was replaced that was not there any more"]
            )
        finally:
            client.delete_object(**target)
    return broken


def _refused(write: Any) -> bool:
    from botocore.exceptions import ClientError

    try:
        write()
    except ClientError as error:
        if not lost(error):
            raise
        return True
    return False
