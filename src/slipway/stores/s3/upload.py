"""A file -> an object, in parts sent side by side; a later run resumes.

boto3's own ``upload_file`` can neither create conditionally nor resume, so the upload is driven
here. Invariants: the file is read once, from begin to end. The object is created only if the whole
has the promised SHA-256 and the key is free. Parts stay on the server after an interruption; a part
found there is reused if it has this file's bytes. Every part carries a checksum, verified by the
server.
"""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from slipway.errors import StoreError
from slipway.stores._pace import allowed
from slipway.stores.s3.failures import field_of, lost
from slipway.stores.s3.options import Options

__all__ = ["ENDED", "Upload", "checksum", "part_size", "unfinished"]

#: Error codes for an upload completed or removed by another writer.
ENDED = ("NoSuchUpload", "NoSuchKey", "404")
_MIB = 1 << 20
#: S3's limit on the number of parts.
_MAX_PARTS = 10_000


def part_size(size: int, options: Options) -> int:
    """Return the bytes of a part: as set, or more whole MiB to stay below S3's limit of parts."""
    return max(options.part_mib, -(-size // (_MAX_PARTS * _MIB))) * _MIB


def checksum(data: bytes, options: Options) -> dict[str, str]:
    """Return the parameter with the checksum of uploaded data, verified by the server.

    The value is given, not left to botocore. So it goes into a header, never into a trailer, which
    some servers refuse or store as content.
    """
    if options.checksums == "when_required":
        return {
            "ContentMD5": base64.b64encode(
                hashlib.md5(data, usedforsecurity=False).digest()
            ).decode()
        }
    return {"ChecksumSHA256": base64.b64encode(hashlib.sha256(data).digest()).decode()}


def unfinished(client: Any, bucket: str, prefix: str) -> Iterator[Mapping[str, Any]]:
    """Yield the uploads neither completed nor aborted, of all keys that begin with ``prefix``."""
    for page in client.get_paginator("list_multipart_uploads").paginate(
        Bucket=bucket, Prefix=prefix
    ):
        yield from page.get("Uploads", ())


class Upload:
    """One multipart upload of a file to a key of a bucket."""

    def __init__(
        self, client: Any, options: Options, name: str, path: Path, fields: Mapping[str, Any]
    ) -> None:
        self.client = client
        self.options = options
        self.target = {"Bucket": options.bucket, "Key": name}
        self.path = path
        self.part_size = part_size(path.stat().st_size, options)
        self._id = ""
        self._found: dict[int, Mapping[str, Any]] = {}
        self._find_or_begin(fields)

    def send(self) -> str:
        """Send the missing parts; return the SHA-256 of the whole file."""
        whole = hashlib.sha256()
        room = threading.Semaphore(self.options.threads + 2)  # parts in memory
        futures: list[Future[dict[str, Any]]] = []
        workers = ThreadPoolExecutor(self.options.threads, thread_name_prefix="upload")

        def work(number: int, data: bytes) -> dict[str, Any]:
            try:
                return self._part(number, data)
            finally:
                room.release()

        try:
            with self.path.open("rb") as file:
                for number in range(1, _MAX_PARTS + 1):
                    data = file.read(self.part_size)
                    if not data:
                        break
                    whole.update(data)
                    room.acquire()
                    futures.append(workers.submit(work, number, data))
                    if any(
                        future.done() and future.exception()
                        for future in futures[-self.options.threads * 2 :]
                    ):
                        break  # the first error is raised below
            self.parts = [future.result() for future in futures]
        finally:
            workers.shutdown(cancel_futures=True)
        return whole.hexdigest()

    def complete(self, condition: Mapping[str, Any]) -> None:
        """Make the parts an object, if the condition holds.

        The server verifies the identity of the parts.
        """
        self.client.complete_multipart_upload(
            **self.target, UploadId=self._id, MultipartUpload={"Parts": self.parts}, **condition
        )

    def give_up(self) -> None:
        """Remove every unfinished upload of this key."""
        for upload in unfinished(self.client, self.target["Bucket"], self.target["Key"]):
            if field_of(upload, "Key") == self.target["Key"]:
                self._abort(field_of(upload, "UploadId"))

    def _find_or_begin(self, fields: Mapping[str, Any]) -> None:
        """Resume the newest upload of this key with fitting parts, or begin one.

        Uploads with other parts are removed.
        """
        begun = [
            upload
            for upload in unfinished(self.client, self.target["Bucket"], self.target["Key"])
            if field_of(upload, "Key") == self.target["Key"]
        ]
        for upload in sorted(begun, key=lambda upload: field_of(upload, "Initiated"), reverse=True):
            parts = self._listed(field_of(upload, "UploadId"))
            if parts is not None and not self._id:
                self._id, self._found = field_of(upload, "UploadId"), parts
            elif parts is None:
                self._abort(field_of(upload, "UploadId"))
        if not self._id:
            algorithm = (
                {"ChecksumAlgorithm": "SHA256"}
                if self.options.checksums == "when_supported"
                else {}
            )
            self._id = field_of(
                self.client.create_multipart_upload(**self.target, **fields, **algorithm),
                "UploadId",
            )

    def _listed(self, upload_id: str) -> dict[int, Mapping[str, Any]] | None:
        """Return the server's parts by number; None if sizes differ or the upload has ended."""
        from botocore.exceptions import ClientError

        size = self.path.stat().st_size
        found: dict[int, Mapping[str, Any]] = {}
        try:
            for page in self.client.get_paginator("list_parts").paginate(
                **self.target, UploadId=upload_id
            ):
                found |= {field_of(part, "PartNumber"): part for part in page.get("Parts", ())}
        except ClientError as error:
            if error.response["Error"]["Code"] in ENDED:
                return None
            raise
        fits = all(
            field_of(part, "Size") == min(self.part_size, size - (number - 1) * self.part_size)
            for number, part in found.items()
        )
        return found if fits else None

    def _part(self, number: int, data: bytes) -> dict[str, Any]:
        """Send a part, unless the server has it.

        Returns:
            Its entry in the request to complete the upload.
        """
        proof = checksum(data, self.options)
        found = self._found.get(number)
        if found is not None and self._same(found, data, proof):
            etag = field_of(found, "ETag")
        else:
            with allowed(
                self.target["Bucket"],
                f"part {number} of {self.target['Key']}",
                1 << 20,
                patience_s=120,
            ):
                sent = self.client.upload_part(
                    **self.target, UploadId=self._id, PartNumber=number, Body=data, **proof
                )
            etag = field_of(sent, "ETag")
        proof.pop("ContentMD5", None)
        return {"PartNumber": number, "ETag": etag, **proof}

    def _same(self, found: Mapping[str, Any], data: bytes, proof: Mapping[str, str]) -> bool:
        """Return True if a listed part has these bytes.

        Its SHA-256 decides if the server lists it, otherwise its ETag, an MD5.
        """
        if "ChecksumSHA256" in proof and "ChecksumSHA256" in found:
            return bool(found["ChecksumSHA256"] == proof["ChecksumSHA256"])
        return bool(
            field_of(found, "ETag").strip('"')
            == hashlib.md5(data, usedforsecurity=False).hexdigest()
        )

    def _abort(self, upload_id: str) -> None:
        from botocore.exceptions import ClientError

        try:
            self.client.abort_multipart_upload(**self.target, UploadId=upload_id)
        except ClientError as error:
            # otherwise another writer has removed it, or is at it
            if error.response["Error"]["Code"] not in ENDED and not lost(error):
                raise StoreError(
                    f"an unfinished upload of {self.target['Key']} cannot be removed: {error}"
                ) from error
