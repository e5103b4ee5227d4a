"""The parts of an ``s3://`` URL: bucket, prefix, and options as its query.

An example is ``s3://bucket/prefix?region=eu-1&profile=ci``. Credentials are not among them: boto3
finds those in the usual places (environment, ~/.aws, the machine).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from slipway.errors import StoreError, UsageError, suggestion

__all__ = ["Options", "parse"]

_CHOICES: Final = {
    "addressing": ("auto", "path", "virtual"),
    "checksums": ("when_supported", "when_required"),
    "single_writer": ("0", "1"),
}
_NUMBERS: Final = {"part_mib": (5, 5120), "threads": (1, 64)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of a bucket.

    ``addressing``: the bucket's name in the path or in the host's name. ``checksums``:
    ``when_required`` sends a Content-MD5 with uploads instead of a SHA-256, for servers without the
    latter. ``cache_control``: for immutable objects. ``sse`` and ``sse_kms_key_id``: server-side
    encryption. ``single_writer``: no conditional writes, and the user's promise of a single writer.
    ``part_mib``: the size of an upload's parts (at least 5 MiB, the minimum of S3).
    """

    bucket: str
    prefix: str = ""
    endpoint_url: str | None = None
    region: str | None = None
    addressing: str = "auto"
    checksums: str = "when_supported"
    profile: str | None = None
    storage_class: str | None = None
    cache_control: str = "public, max-age=31536000, immutable"
    sse: str | None = None
    sse_kms_key_id: str | None = None
    single_writer: bool = False
    part_mib: int = 16
    threads: int = 8

    @property
    def object_fields(self) -> dict[str, Any]:
        """The parameters of every new object."""
        given = {
            "StorageClass": self.storage_class,
            "ServerSideEncryption": self.sse,
            "SSEKMSKeyId": self.sse_kms_key_id,
        }
        return {name: value for name, value in given.items() if value}


def parse(url: str) -> Options:
    """Return the options of a URL.

    Raises:
        StoreError: The URL names no bucket.
        UsageError: An option does not exist, or has an invalid value.
    """
    parts = urlsplit(url)
    prefix = parts.path.strip("/")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}", parts.netloc):
        raise StoreError(
            f'"{parts.netloc}" is not a bucket name: {url}',
            hint="write s3://bucket or s3://bucket/prefix",
        )
    known = {each.name for each in fields(Options)} - {"bucket", "prefix"}
    values: dict[str, Any] = {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in known:
            hint = suggestion(name, known) or f"known here: {', '.join(sorted(known))}"
            raise UsageError(f'an S3 store has no option "{name}"', hint=hint)
        values[name] = _value(name, value)
    return Options(bucket=parts.netloc, prefix=f"{prefix}/" if prefix else "", **values)


def _value(name: str, value: str) -> Any:
    if name in _CHOICES and value not in _CHOICES[name]:
        raise UsageError(
            f'the option {name} of an S3 store cannot be "{value}"',
            hint=f"choose from: {', '.join(_CHOICES[name])}",
        )
    if name == "single_writer":
        return value == "1"
    if name in _NUMBERS:
        least, most = _NUMBERS[name]
        if not re.fullmatch(r"[0-9]{1,4}", value) or not least <= int(value) <= most:
            raise UsageError(
                f'the option {name} of an S3 store cannot be "{value}"',
                hint=f"give a number from {least} to {most}",
            )
        return int(value)
    if name == "endpoint_url" and not re.match(r"https?://[^/]", value):
        raise UsageError(
            f'"{value}" is not an endpoint',
            hint="write it with its scheme: https://storage.example:9000",
        )
    return value or None
