"""What people with nothing but minisign are told: that a signature is good, and until when to rely
on it.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner

from slipway.channels.minisign import public_key, sign

EXPIRES = 1_800_000_000  # 2027-01-15T08:00:00Z


@pytest.fixture(scope="module")
def signer() -> CryptoSigner:
    return CryptoSigner.generate_ed25519()


def verify(
    folder: Path, signer: CryptoSigner, data: bytes, signature: bytes
) -> subprocess.CompletedProcess[str]:
    """Run minisign."""
    key = public_key(signer.public_key, "a key")
    assert key
    for name, content in (("sums", data), ("sums.minisig", signature), ("key.pub", key.encode())):
        (folder / name).write_bytes(content)
    return subprocess.run(
        ["minisign", "-V", "-p", folder / "key.pub", "-m", folder / "sums"],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def test_a_signature_says_until_when_it_is_good(signer: CryptoSigner, tmp_path: Path) -> None:
    signature = sign(b"data\n", signer, file="SHA256SUMS", expires=EXPIRES)
    assert signature
    done = verify(tmp_path, signer, b"data\n", signature)
    assert done.returncode == 0, done.stderr
    assert "Trusted comment: file:SHA256SUMS\texpires=2027-01-15\thashed\n" in done.stdout


@pytest.mark.parametrize(
    ("data", "old", "new"),
    [
        (b"dates\n", b"", b""),
        (b"data\n", b"2027", b"2037"),
        (b"data\n", b"file:SHA256SUMS", b"file:SHA256SUMZ"),
    ],
)
def test_what_was_altered_is_refused(
    signer: CryptoSigner, tmp_path: Path, data: bytes, old: bytes, new: bytes
) -> None:
    signature = sign(b"data\n", signer, file="SHA256SUMS", expires=EXPIRES)
    assert signature
    assert verify(tmp_path, signer, data, signature.replace(old, new)).returncode != 0


def test_a_key_of_another_kind_signs_nothing() -> None:
    other = CryptoSigner.generate_ecdsa()
    assert public_key(other.public_key, "a key") is None
    assert sign(b"data\n", other, file="SHA256SUMS", expires=EXPIRES) is None
