"""SSH keys to throw away: made for one machine's life, never used again."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from slipway.errors import UsageError
from slipway.host import process

__all__ = ["make_key", "require_public"]

#: A line of authorized_keys(5) without options: a kind of key, the key in Base64, a comment.
_PUBLIC: Final = re.compile(rb"(ssh-|ecdsa-|sk-)[a-z0-9@.-]+ [A-Za-z0-9+/]{40,}={0,3}( [^\r\n]*)?")
_MAX_BYTES: Final = 64 << 10


def make_key(path: Path, comment: str) -> str:
    """Make a key without a passphrase, and ``path`` with ``.pub`` beside it.

    Existing files are replaced.

    Returns:
        The public key, on a line without its end.

    Raises:
        HostError: ssh-keygen is not installed.
    """
    public = path.with_name(f"{path.name}.pub")
    for file in (path, public):
        file.unlink(missing_ok=True)
    process.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", path])
    return public.read_text(encoding="utf-8").strip()


def require_public(path: Path) -> None:
    """Refuse a file with anything but public keys in it: it becomes root's authorized_keys.

    Raises:
        UsageError: The file is missing or empty, or holds anything else.
    """
    if not path.is_file():
        raise UsageError(
            f"there is no file {path}",
            hint="--ssh-key needs the path of a public key, as ~/.ssh/id_ed25519.pub",
        )
    with path.open("rb") as file:
        lines = [line for line in file.read(_MAX_BYTES + 1).splitlines() if line.strip()]
    if not lines or not all(_PUBLIC.fullmatch(line.rstrip()) for line in lines):
        public = path.with_name(f"{path.name}.pub")
        hint = (
            f'did you mean "{public}"?'
            if public.is_file()
            else "name the file that ends in .pub; a private key stays where it is"
        )
        raise UsageError(f"{path} is not a public SSH key", hint=hint)
