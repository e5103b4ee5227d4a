"""A file's content -> whether it is a private key, under any name: armoured text, or a key format.

What goes in: untrusted bytes. What comes out: the kind of key, or nothing. Nothing is unpacked
without a bound. Only the standard library is used: this is a part of the program
:mod:`slipway.disk.hygiene`.
"""

from __future__ import annotations

import base64
import errno
import os
import re
import struct
from collections.abc import Iterator
from typing import IO

__all__ = ["armoured", "binary_key", "large_key", "pieces"]

#: What can be between a key's lines: white space, marks of quoted text, and line breaks written as
#: in JSON or C.
_BETWEEN = rb"""(?:[\s"'+,#>|*]|\\[nrt])*"""
#: A key's armour with a line of its body after it: text that merely speaks of keys has none.
_KEY = re.compile(
    rb"-{4,5} ?BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)? ?-{4,5}"
    + _BETWEEN
    + rb"(?:[A-Za-z-]+: [^\n\\]*"
    + _BETWEEN
    + rb")*(?:[A-Za-z0-9+/=]|\\/){40,}"
    rb"|-----BEGIN OpenVPN Static key V1-----" + _BETWEEN + rb"[0-9a-f]{32}"
    # A key of DNSSEC or TSIG, as BIND keeps it.
    rb"|^Private-key-format: v\d"
    rb"|^PuTTY-User-Key-File-\d: "
    rb"|AGE-SECRET-KEY-1[A-Z0-9]{20}"
    rb"|^[ \t]*(?:Private|Preshared|private-"
    rb"|preshared-)[Kk]ey[ \t]*=[ \t]*[A-Za-z0-9+/]{43}=[ \t]*$"
    # JSON Web Key (RFC 7517): "d" is the private part of RSA and of elliptic curves.
    rb'|"d"\s*:\s*"[A-Za-z0-9_-]{42,}"(?=[^{}]*"kty")|"kty"[^{}]*"d"\s*:\s*"[A-Za-z0-9_-]{42,}"',
    re.MULTILINE,
)
#: One of these is in every match of _KEY; looking for it first is what makes reading a whole tree
#: fast.
_KEY_WORDS = (
    b"PRIVATE KEY",
    b"PuTTY-User",
    b"AGE-SECRET",
    b"PrivateKey",
    b"PresharedKey",
    b"private-key",
    b"preshared-key",
    b"OpenVPN Static",
    b"Private-key-format",
    b'"kty"',
)
#: A key's armour in base64 once more, as in Kubernetes' secrets.
_ENCODED = re.compile(rb"LS0tLS1CRUdJTi[A-Za-z0-9+/\s]{40,}={0,2}")


def armoured(data: bytes) -> bool:
    """Return True if a text holds a private key, as it is or in base64 once more."""
    if any(word in data for word in _KEY_WORDS) and _KEY.search(data):
        return True
    for match in _ENCODED.finditer(data) if b"LS0tLS1CRUdJTi" in data else ():
        text = b"".join(match[0].rstrip(b"=").split())
        if _KEY.search(base64.b64decode(text[: len(text) & ~3])):
            return True
    return False


def pieces(file: IO[bytes], overlap: int) -> Iterator[bytes]:
    """Yield a file's data, each piece with the end of the one before it.

    Holes are passed over: a file of many terabytes can be a few bytes and a hole. In memory, they
    stay holes (a mapped one would be filled with zeros).
    """
    end = 0
    while True:
        try:
            at = os.lseek(file.fileno(), end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole follows (lseek(2))
                return
            raise
        end, before = os.lseek(file.fileno(), at, os.SEEK_HOLE), b""
        while at < end:
            data = os.pread(file.fileno(), min(1 << 20, end - at), at)
            yield before + data
            at, before = at + len(data), (before + data)[-overlap:]


def large_key(file: IO[bytes]) -> bool:
    """Return True if an armoured key is anywhere in a large file."""
    for data in pieces(file, 8192):
        at = data.find(b"PRIVATE KEY")
        while at >= 0:
            if _KEY.search(data[max(0, at - 64) : at + 4096]):
                return True
            at = data.find(b"PRIVATE KEY", at + 1)
    return False


#: PKCS #12: version 3, then content that says what it is (RFC 7292, 4), and its bags that hold keys
#: (RFC 7292, 4.2.1 and 2).
_PKCS12 = re.compile(
    rb"\x02\x01\x03\x30.{1,5}\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07[\x01\x02]", re.DOTALL
)
_KEY_BAGS = (
    b"\x2a\x86\x48\x86\xf7\x0d\x01\x0c\x0a\x01\x01",
    b"\x2a\x86\x48\x86\xf7\x0d\x01\x0c\x0a\x01\x02",
)
#: What follows the outer SEQUENCE of a key in DER: PKCS #1 (RFC 8017, A.1.2), SEC 1 (RFC 5915),
#: PKCS #8 (RFC 5958, 2), and PKCS #8 that is encrypted (RFC 5958, 3) by a scheme of PKCS #5 or PKCS
#: #12.
_DER_KEYS = re.compile(
    rb"\x02\x01\x00\x02(?:\x81.|\x82..|[\x20-\x7f])|\x02\x01\x01\x04[\x14-\x42]"
    rb"|\x02\x01[\x00\x01]\x30[\x05-\x7f]\x06[\x03-\x0b].{3,120}?\x04"
    rb"|\x30[\x0d-\x7f]\x06[\x09\x0a]\x2a\x86\x48\x86\xf7\x0d\x01(?:\x05|\x0c\x01)",
    re.DOTALL,
)
#: libgcrypt's S-expressions, as GnuPG keeps keys.
_GNUPG = re.compile(
    rb"\(\d+:(?:protected-)?private-key|(?:[A-Za-z-]+: [^\n]*\n)*Key: \((?:protected-)?private-key"
)


def binary_key(data: bytes) -> str:
    """Return the kind of a file with a private key in a binary format; "" for any other file."""
    if data.startswith(b"\x05\x02") and _keytab(data):
        return "a keytab"
    if data[:4] in (b"\xfe\xed\xfe\xed", b"\xce\xce\xce\xce"):
        return "a Java key store with a private key" if _java_key(data) else ""
    if _GNUPG.match(data):
        return "a private key of GnuPG"
    if data[:1] and data[0] in range(0x94, 0x98) and _openpgp(data):
        return "a private key of OpenPGP"
    content = _der(data)
    if content and _PKCS12.match(content):
        return "a PKCS #12 file with a private key" if any(bag in data for bag in _KEY_BAGS) else ""
    return "a private key in DER" if content and _DER_KEYS.match(content) else ""


def _der(data: bytes) -> bytes:
    """Return the content of a SEQUENCE over the whole file (ITU-T X.690, 8.1); empty for anything
    else.
    """
    if not data.startswith(b"\x30") or len(data) < 3:
        return b""
    header = 2 + (data[1] & 0x7F if data[1] > 0x80 else 0)
    length = int.from_bytes(data[2:header], "big") if data[1] > 0x80 else data[1]
    return data[header:] if header <= 6 and len(data) - header == length else b""


def _keytab(data: bytes) -> bool:
    """Return True if a keytab of MIT Kerberos, version 2, has an entry: size, number of components,
    realm.
    """
    if len(data) < 12:
        return False
    size, components, realm = struct.unpack_from(">iHH", data, 2)
    return (
        0 < abs(size) <= len(data) - 6
        and 0 < components < 16
        and data[10 : 10 + realm].isascii()
        and 10 + realm < len(data)
    )


def _java_key(data: bytes) -> bool:
    """Return True if a JKS or JCEKS file (sun.security.provider.JavaKeyStore) has more than
    certificates.
    """
    try:
        version, count = struct.unpack_from(">II", data, 4)
        at = 12
        for _ in range(count):
            (tag,) = struct.unpack_from(">I", data, at)
            if tag != 2:
                return True
            at += 6 + struct.unpack_from(">H", data, at + 4)[0] + 8
            at += 2 + struct.unpack_from(">H", data, at)[0] if version == 2 else 0
            at += 4 + struct.unpack_from(">I", data, at)[0]
    except struct.error:
        pass  # longer than what was read: all that was seen are certificates
    return False


def _openpgp(data: bytes) -> bool:
    """Return True if a file begins with a secret key packet, complete and of a known kind.

    The packet is in the old format (RFC 9580, 4.2.2, 5.5.3).
    """
    width = 1 << (data[0] & 3)
    length = int.from_bytes(data[1 : 1 + width], "big") if width < 8 else len(data)
    body = data[1 + width if width < 8 else 1 :]
    return (
        len(body) > 6
        and length <= len(body) + 9
        and body[0] in (3, 4, 5, 6)
        and body[5] in (1, 2, 3, 16, 17, 18, 19, 22, 25, 27)
    )
