"""SSH keys that are thrown away: made for one machine's life, never used again."""

from __future__ import annotations

from pathlib import Path

from slipway import process

__all__ = ["make_key"]


def make_key(path: Path, comment: str) -> str:
    """Make a key without a passphrase, and ``path`` with ``.pub`` beside it; what was there is replaced.

    Returns:
        The public key, on a line without its end.

    Raises:
        HostError: ssh-keygen is not installed.
    """
    public = path.with_name(f"{path.name}.pub")
    for file in (path, public):
        file.unlink(missing_ok=True)
    process.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", path])
    return public.read_text().strip()
