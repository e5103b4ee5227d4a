"""Failures between boto3 and a server, as :class:`StoreError` with the next step.

The codes are those of Amazon's "Error responses" (API Reference of S3); other servers use them too.
A HEAD request has no body, so its error is the HTTP status alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from slipway.errors import HostError, StoreError
from slipway.stores import NotFound
from slipway.stores._pace import allowed
from slipway.stores.s3.options import Options

__all__ = ["ANSWER", "COMPLETION_S", "code_of", "field_of", "lost", "reported", "retried"]

#: The limit of an answer without an object's content, in bytes: a page of a listing, or an error.
ANSWER: Final = 16 << 20
#: How long a server may be silent while it puts an object's parts together, in seconds.
COMPLETION_S: Final = 900.0

_HINTS: Final = {
    "AccessDenied": (
        "the key may not do that there: its policy must allow {action} on {bucket}/{prefix}*"
    ),
    "AuthorizationHeaderMalformed": "give the bucket's region: s3://{bucket}/...?region=NAME",
    "ExpiredToken": "log in again: the session's credentials have run out",
    "InvalidAccessKeyId": (
        "the server does not know the access key: check AWS_ACCESS_KEY_ID, or the profile"
    ),
    "InvalidToken": "log in again: the session's credentials are not valid",
    "MissingContentLength": (
        "the server cannot take checksums at an upload's end: "
        "add checksums=when_required to the URL"
    ),
    "NoSuchBucket": "make the bucket {bucket}, or name one that exists",
    "PermanentRedirect": (
        "give the bucket's region or the right endpoint: s3://{bucket}/...?region=NAME"
    ),
    "QuotaExceeded": "free some space: invoke prune, then invoke gc; or raise the quota",
    "RequestTimeTooSkewed": "set this machine's clock: it differs too much from the server's",
    "SignatureDoesNotMatch": (
        "the secret key is wrong for this access key: check AWS_SECRET_ACCESS_KEY, or the profile"
    ),
    "SlowDown": "the server asks for fewer requests: try again later, or add threads=2 to the URL",
    "NotImplemented": "the server cannot do that: it may be too old",
}
_STATUS: Final = {
    "400": "BadRequest",
    "403": "AccessDenied",
    "411": "MissingContentLength",
    "429": "SlowDown",
    "503": "SlowDown",
}


def field_of(answer: Mapping[str, Any], name: str) -> Any:
    """Return a field of an answer, sent by every server of S3.

    Raises:
        StoreError: The field is missing.
    """
    try:
        return answer[name]
    except KeyError:
        raise StoreError(f"the server answers without {name}", hint="is it an S3 server?") from None


def code_of(error: Any) -> str:
    """Return the code of botocore's ClientError, by name even if only the status is known."""
    code = str(error.response.get("Error", {}).get("Code", ""))
    return _STATUS.get(code, code)


def lost(error: Any) -> bool:
    """Return True if a conditional write was refused because another writer was first, or is at it.

    The status is 412 or 409. The code differs: Ceph says ConcurrentModification, Amazon
    ConditionalRequestConflict.
    """
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") in (409, 412)


def retried(error: Any) -> bool:
    """Return True if an earlier attempt of this request may have succeeded with its answer lost."""
    return int(error.response.get("ResponseMetadata", {}).get("RetryAttempts", 0)) > 0


@contextmanager
def reported(
    options: Options, url: str, key: str, *, size: int = ANSWER, patience_s: float | None = None
) -> Iterator[None]:
    """Turn errors of boto3 into errors of the store, and limit the server's answers.

    The limits are those of :mod:`slipway.stores._pace`.

    Raises:
        NotFound: The object does not exist.
        StoreError: The server, or the way to it, fails otherwise.
        HostError: boto3 is not installed: it is an extra.
    """
    try:
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.parsers import ResponseParserError
    except ImportError as error:
        raise HostError(
            f"S3 stores need boto3: {error}", hint="pip install 'slipway[s3]'"
        ) from error

    try:
        with allowed(url, key, size, patience_s=patience_s):
            yield
    except ClientError as error:
        code = code_of(error)
        if code in ("NoSuchKey", "404"):
            raise NotFound(f"there is no {key} in {url}") from error
        said = error.response.get("Error", {}).get("Message") or code
        raise StoreError(
            f"{url} refused {error.operation_name} {key}".rstrip() + f": {said}",
            hint=_hint(code, options, error),
        ) from error
    except ResponseParserError as error:
        raise StoreError(
            f"{url} sent an invalid answer for {key}: {_first_line(error)}",
            hint="is it an S3 server?",
        ) from error
    except (BotoCoreError, Boto3Error) as error:
        raise StoreError(f"{url}: {_first_line(error)}", hint=_way(error, options)) from error


def _hint(code: str, options: Options, error: Any) -> str | None:
    hint = _HINTS.get(code)
    return hint and hint.format(
        action=f"s3:{error.operation_name}", bucket=options.bucket, prefix=options.prefix
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:300]


def _way(error: Exception, options: Options) -> str | None:
    """Return the next step for a request without an answer."""
    endpoint = options.endpoint_url or "the endpoint"
    return {
        "ConnectTimeoutError": f"{endpoint} does not answer: check its address and the network",
        "ConnectionClosedError": (
            f"the connection to {endpoint} was cut: try again, what was uploaded is kept"
        ),
        "EndpointConnectionError": (
            f"nothing answers at {endpoint}: check its address, and that the server runs"
        ),
        "InvalidRegionError": "write the region as its provider does: eu-central-1",
        "NoCredentialsError": (
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or add profile=NAME to the URL"
        ),
        "NoRegionError": "add region=NAME to the URL, or set AWS_DEFAULT_REGION",
        "PartialCredentialsError": "set both AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        "ProfileNotFound": "the profiles are in ~/.aws/config",
        "ReadTimeoutError": f"{endpoint} took too long: try again, what was uploaded is kept",
        "SSLError": "name the authority that signed the server's certificate: AWS_CA_BUNDLE=FILE",
        "TokenRetrievalError": "log in again",
    }.get(type(error).__name__)
