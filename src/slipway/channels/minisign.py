"""Signatures and public keys in minisign's format, for people who have nothing but `minisign` at hand.

Format: https://jedisct1.github.io/minisign/ ("Signature format", "Public key format"); the prehashed variant, whose
signature is over the BLAKE2b-512 of the file. minisign cannot revoke a key, so the signed comment says until when a
signature is meant to be relied on.
"""

from __future__ import annotations

import base64
import hashlib
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from securesystemslib.signer import Key, Signer

__all__ = ["public_key", "sign"]


def _raw(key: Key) -> bytes:
    return bytes.fromhex(key.keyval["public"])


def _key_id(key: Key) -> bytes:
    """minisign's key ids are 8 arbitrary bytes; these follow from the key."""
    return hashlib.sha256(_raw(key)).digest()[:8]


def public_key(key: Key, name: str) -> str | None:
    """A public key as `minisign -p` reads it; None for a key that is not ed25519. The second line is what `-P` takes."""
    if key.keytype != "ed25519":
        return None
    return f"untrusted comment: {name}\n{base64.b64encode(b'Ed' + _key_id(key) + _raw(key)).decode()}\n"


def sign(data: bytes, signer: Signer, *, file: str, expires: float) -> bytes | None:
    """A detached signature; None for a key that is not ed25519.

    Args:
        file: What the data is called, for the comment.
        expires: When it should no longer be relied on, in seconds since 1970.
    """
    if signer.public_key.keytype != "ed25519":
        return None
    signature = bytes.fromhex(signer.sign(hashlib.blake2b(data).digest()).signature)
    comment = f"file:{file}\texpires={time.strftime('%Y-%m-%d', time.gmtime(expires))}\thashed"
    over_all = bytes.fromhex(signer.sign(signature + comment.encode()).signature)
    lines = (
        "untrusted comment: signature by slipway",
        base64.b64encode(b"ED" + _key_id(signer.public_key) + signature).decode(),
        f"trusted comment: {comment}",
        base64.b64encode(over_all).decode(),
    )
    return ("\n".join(lines) + "\n").encode()
