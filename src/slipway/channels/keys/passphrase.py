"""Put private keys under a passphrase: PKCS #8 with PBES2, scrypt and AES-256-CBC.

Formats: RFC 5958, RFC 8018, RFC 7914 section 7. ``openssl pkcs8 -topk8 -scrypt`` writes the same,
and openssl reads it. The cryptography package reads it too, but writes only PBKDF2, with few
rounds. So this module writes it.

A passphrase comes from the terminal, or from the file named in ``SLIPWAY_PASSPHRASE_FILE``. It
never comes from an argument: every process of the host can read those.
"""

from __future__ import annotations

import base64
import getpass
import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from slipway.channels.keys.files import Secret, require_own
from slipway.errors import HostError
from slipway.terminal.text import aside

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

__all__ = [
    "PASSPHRASE_FILE",
    "can_ask",
    "encrypted",
    "is_encrypted",
    "new_passphrase",
    "private_key",
]

PASSPHRASE_FILE: Final = "SLIPWAY_PASSPHRASE_FILE"
#: 16 MiB and five rounds of them: openssl refuses to read a key that takes more than 32 MiB.
_N, _R, _P = 2**14, 8, 5
_BEGIN: Final = b"-----BEGIN ENCRYPTED PRIVATE KEY-----"
_END: Final = b"-----END ENCRYPTED PRIVATE KEY-----"
_LONGEST: Final = 1024
#: Asked once per process: several keys of a channel have the same one.
_known: dict[str, Secret] = {}


def is_encrypted(pem: bytes) -> bool:
    """Return True if a PEM file is under a passphrase."""
    return _BEGIN in pem


def encrypted(pem: Secret, passphrase: Secret) -> Secret:
    """Put a private key in PEM under a passphrase."""
    from cryptography.hazmat.primitives import padding
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        load_pem_private_key,
    )

    private: Any = load_pem_private_key(pem.value, None)
    salt, start = os.urandom(16), os.urandom(16)
    padder = padding.PKCS7(128).padder()
    derived = Secret(Scrypt(salt=salt, length=32, n=_N, r=_R, p=_P).derive(passphrase.value))
    cipher = Cipher(algorithms.AES(derived.value), modes.CBC(start)).encryptor()
    body = cipher.update(
        padder.update(private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))
        + padder.finalize()
    )
    body += cipher.finalize()
    parameters = _sequence(_octets(salt), _integer(_N), _integer(_R), _integer(_P))
    scrypt = _sequence(_object("2b06010401da47040b"), parameters)  # 1.3.6.1.4.1.11591.4.11
    aes = _sequence(_object("60864801650304012a"), _octets(start))  # 2.16.840.1.101.3.4.1.42
    # 1.2.840.113549.1.5.13
    pbes2 = _sequence(_object("2a864886f70d01050d"), _sequence(scrypt, aes))
    text = base64.encodebytes(_sequence(pbes2, _octets(body)))
    return Secret(_BEGIN + b"\n" + text + _END + b"\n")


def private_key(pem: Secret, name: str) -> PrivateKeyTypes:
    """Read a private key, and ask for its passphrase if it has one.

    Args:
        name: The key's name for people.

    Raises:
        HostError: The passphrase is wrong, or cannot be asked for.
        ValueError: The data is no private key.
    """
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    if not is_encrypted(pem.value):
        return load_pem_private_key(pem.value, None)
    channel = name.partition("/")[0]
    given = _known.get(channel) or _from_file() or _asked(f"passphrase of {name}: ")
    try:
        private = load_pem_private_key(pem.value, given.value)
    except ValueError:
        private = None
    if private is None:
        _known.pop(channel, None)
        raise HostError(
            f"the passphrase of {name} is wrong",
            hint=f"try again, or check the file that {PASSPHRASE_FILE} names",
        )
    _known[channel] = given
    return private


def can_ask(channel: str) -> bool:
    """Return True if a channel's passphrase can be had: by file, terminal or earlier answer."""
    return channel in _known or bool(os.environ.get(PASSPHRASE_FILE)) or sys.stdin.isatty()


def new_passphrase() -> Secret | None:
    """Return a passphrase for new keys; None if there is neither a file nor a terminal.

    Raises:
        HostError: The passphrase is empty, or the second answer differs.
    """
    given = _from_file()
    if given or not sys.stdin.isatty():
        return given
    given = _asked("passphrase for the targets and root keys: ")
    if given.value != _asked("the same again: ").value:
        raise HostError("the two passphrases differ", hint="run it again")
    return given


def _from_file() -> Secret | None:
    """Return the first line of the file named in the environment, None without a name."""
    name = os.environ.get(PASSPHRASE_FILE)
    if not name:
        return None
    path = Path(name)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if stat.S_ISREG(status.st_mode):
                require_own(path, private=True)
            found = Secret(file.read(_LONGEST).partition(b"\n")[0].rstrip(b"\r"))
    except OSError as error:
        raise HostError(
            f"{PASSPHRASE_FILE}: {path}: {error.strerror}", hint="name a file that you can read"
        ) from None
    return _require_some(found, f"{path} has no passphrase in its first line")


def _asked(prompt: str) -> Secret:
    if not sys.stdin.isatty():
        raise HostError(
            f"{prompt.rstrip(': ')} cannot be asked for: not a terminal",
            hint=f"write it into a file of mode 600, and name that in {PASSPHRASE_FILE}",
        )
    with aside():
        given = Secret(getpass.getpass(prompt).encode())
    return _require_some(given, "the passphrase is empty")


def _require_some(passphrase: Secret, problem: str) -> Secret:
    if not passphrase.value:
        raise HostError(
            problem, hint="a passphrase has at least one character; to have none: --no-passphrase"
        )
    return passphrase


def _der(tag: int, *parts: bytes) -> bytes:
    """Return one element in DER (X.690 section 8.1)."""
    body = b"".join(parts)
    size = len(body)
    if size < 128:
        return bytes([tag, size]) + body
    long = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(long)]) + long + body


def _sequence(*parts: bytes) -> bytes:
    return _der(0x30, *parts)


def _octets(value: bytes) -> bytes:
    return _der(0x04, value)


def _integer(value: int) -> bytes:
    return _der(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _object(identifier: str) -> bytes:
    return _der(0x06, bytes.fromhex(identifier))
