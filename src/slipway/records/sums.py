"""SHA256SUMS in the form of coreutils' sha256sum: a hash, two spaces, a file name; sorted by
name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from slipway.errors import VerificationError

__all__ = ["format_sums", "parse_sums"]

_LINE = re.compile(r"([0-9a-f]{64}) [ *]([^/\x00-\x1f\x7f\\]+)")


def format_sums(hashes: Mapping[str, str]) -> bytes:
    """Return the text for file names and their SHA-256 hashes.

    Raises:
        ValueError: A name would need sha256sum's escapes, or names no file beside the list.
    """
    lines = [f"{digest}  {name}" for name, digest in sorted(hashes.items())]
    for line in lines:
        if not _LINE.fullmatch(line):
            raise ValueError(f"no line of SHA256SUMS: {line!r}")
    return "".join(f"{line}\n" for line in lines).encode()


def parse_sums(text: bytes, *, source: str = "SHA256SUMS") -> dict[str, str]:
    """Return the hashes by file name.

    Raises:
        VerificationError: A line is malformed, or a name is listed twice.
    """
    hashes: dict[str, str] = {}
    for number, line in enumerate(text.decode(errors="replace").splitlines(), start=1):
        match = _LINE.fullmatch(line)
        if match is None:
            raise VerificationError(
                f"{source}:{number}: not a SHA-256 hash and a file name: {line[:100]!r}"
            )
        digest, name = match.groups()
        if name in hashes:
            raise VerificationError(f'{source}:{number}: "{name}" is listed twice')
        hashes[name] = digest
    return hashes
