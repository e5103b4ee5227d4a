"""Signatures and public keys in minisign's format, for people with nothing but `minisign`.

Format: https://jedisct1.github.io/minisign/ ("Signature format", "Public key format"), in the
prehashed variant: the signature is over the BLAKE2b-512 of the file.

A signature is not bound to its file's place. So the signed comment names the file, for people to
compare. minisign cannot revoke a key, so the comment has an expiry date.
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from securesystemslib.signer import Key, Signer

__all__ = ["public_key", "sign", "verify"]

_COMMENT: Final = "trusted comment: "


def _raw(key: Key) -> bytes:
    return bytes.fromhex(key.keyval["public"])


def _key_id(key: Key) -> bytes:
    """Return minisign's key id: 8 arbitrary bytes, here derived from the key."""
    return hashlib.sha256(_raw(key)).digest()[:8]


def public_key(key: Key, name: str) -> str | None:
    """Return a public key as `minisign -p` reads it; None unless it is an ed25519 key.

    The second line is the argument of `-P`.
    """
    if key.keytype != "ed25519":
        return None
    return (
        f"untrusted comment: {name}\n"
        f"{base64.b64encode(b'Ed' + _key_id(key) + _raw(key)).decode()}\n"
    )


def sign(
    data: bytes,
    signer: Signer,
    *,
    file: str,
    expires: float,
    about: Mapping[str, str] | None = None,
) -> bytes | None:
    """Return a detached signature; None unless the key is an ed25519 key.

    Args:
        file: The name of the data, for the comment.
        expires: The end of the signature's validity, in seconds since 1970.
        about: The first fields of the comment, as name=value, in this order.
    """
    if signer.public_key.keytype != "ed25519":
        return None
    signature = bytes.fromhex(signer.sign(hashlib.blake2b(data).digest()).signature)
    names = "".join(f"{name}={value} " for name, value in (about or {}).items())
    comment = (
        f"{names}file:{file}\texpires={time.strftime('%Y-%m-%d', time.gmtime(expires))}\thashed"
    )
    over_all = bytes.fromhex(signer.sign(signature + comment.encode()).signature)
    lines = (
        "untrusted comment: signature by slipway",
        base64.b64encode(b"ED" + _key_id(signer.public_key) + signature).decode(),
        f"{_COMMENT}{comment}",
        base64.b64encode(over_all).decode(),
    )
    return ("\n".join(lines) + "\n").encode()


def verify(data: bytes, text: bytes, key: Key) -> str | None:
    """Check a detached signature.

    Args:
        data: The signed data.
        text: The signature, as :func:`sign` writes it.
        key: The required key.

    Returns:
        The trusted comment; None unless the signature is one of this key over this data.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    if key.keytype != "ed25519":
        return None
    try:
        _, first, comment, second = text.decode().split("\n")[:4]
        packed, over_all = base64.b64decode(first, validate=True), base64.b64decode(second)
        if packed[:10] != b"ED" + _key_id(key) or not comment.startswith(_COMMENT):
            return None
        public = Ed25519PublicKey.from_public_bytes(_raw(key))
        hashed = hashlib.blake2b(data)
        public.verify(packed[10:], hashed.digest())
        public.verify(over_all, packed[10:] + comment.removeprefix(_COMMENT).encode())
    except (ValueError, InvalidSignature):
        return None
    return comment.removeprefix(_COMMENT)
