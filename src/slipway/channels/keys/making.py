"""Make the keys of a channel, and its first root."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from slipway.channels.keys.files import (
    JOURNAL,
    SIGNERS,
    Change,
    Secret,
    carry_out,
    complete,
    locked,
    new_folder,
)
from slipway.channels.keys.passphrase import encrypted
from slipway.channels.keys.ring import OFFLINE, ROLES, KeyRing, check_channel, expiry, load_ring
from slipway.errors import UsageError

if TYPE_CHECKING:
    from tuf.api.metadata import Metadata, Root

__all__ = ["Made", "generate", "init", "parse_signers"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A new key.

    Attributes:
        entry: Its entry in ``signers.json``.
        files: The private half, by its file below the folder of all keys.
    """

    entry: Mapping[str, Any]
    files: Mapping[str, Secret]

    @property
    def usable(self) -> dict[str, Any]:
        """The entry with the private key in it, to sign before there is a file."""
        secrets = list(self.files.values())
        return {**self.entry, "pem": secrets[0]} if secrets else dict(self.entry)

    def stored(self, passphrase: Secret | None) -> dict[str, Secret]:
        """Return the files, under the passphrase if there is one."""
        return {
            name: encrypted(pem, passphrase) if passphrase else pem
            for name, pem in self.files.items()
        }


class Quorum(TypedDict, total=False):
    """The number of root keys, and the ``threshold``: the number that must sign.

    2 of 3 in production; 1 of 1 by default. Each of several keys is in a folder of its own beside
    the channel's.
    """

    root_keys: int
    threshold: int


def init(
    channel: str,
    directory: Path,
    *,
    signers: Mapping[str, tuple[str, Path]] | None = None,
    passphrase: Secret | None = None,
    now: float | None = None,
    **quorum: Unpack[Quorum],
) -> KeyRing:
    """Make the keys of a channel, and its first root.

    Args:
        signers: For roles with a private key elsewhere, its URI and a file with the public key
            (PEM).
        passphrase: The passphrase for the targets and root keys.
        now: The present time, in seconds since 1970.

    Raises:
        UsageError: There are keys already, or the numbers make no sense.
    """
    root_keys, threshold = quorum.get("root_keys", 1), quorum.get("threshold", 1)
    folder = directory / check_channel(channel)
    if not 1 <= threshold <= root_keys <= 9:
        raise UsageError(
            f"{threshold} of {root_keys} root keys is not possible",
            hint="in production: --root-keys 3 --threshold 2",
        )
    if signers and "root" in signers and root_keys > 1:
        raise UsageError(
            "a root key that is elsewhere is the only one",
            hint="leave --root-keys or --signer root=... out",
        )
    _refuse_existing(channel, folder)
    elsewhere = {role: _elsewhere(*place) for role, place in (signers or {}).items()}
    new_folder(folder)
    with locked(folder):
        if (folder / JOURNAL).exists():
            complete(folder)  # of an interrupted earlier call
            return load_ring(channel, directory)
        _refuse_existing(channel, folder)
        made: dict[str, list[Made]] = {}
        for role in ROLES:
            count = root_keys if role == "root" else 1
            made[role] = [elsewhere[role]] if role in elsewhere else generate(channel, role, count)
        entries = {role: tuple(each.usable for each in its) for role, its in made.items()}
        ring = KeyRing(channel=channel, roots=(), signers=entries)
        private: dict[str, Secret] = {}
        for role, its in made.items():
            for each in its:
                private |= each.stored(passphrase if role in OFFLINE else None)
        change = Change(
            command=f"invoke keys init {channel}",
            private=private,
            public={f"{channel}/1.root.json": ring.sign(_first_root(ring, threshold, now), "root")},
            signers={role: [dict(each.entry) for each in its] for role, its in made.items()},
        )
        carry_out(folder, change)
    return load_ring(channel, directory)


def _refuse_existing(channel: str, folder: Path) -> None:
    if (folder / SIGNERS).exists() and not (folder / JOURNAL).exists():
        raise UsageError(
            f"the channel {channel} has keys already, in {folder}",
            hint=f"to replace them: invoke keys rotate {channel}",
        )


def generate(channel: str, role: str, count: int) -> list[Made]:
    """Make new keys of a role.

    Each of several gets a folder of its own, to be moved away from the others.
    """
    from securesystemslib.signer import CryptoSigner

    made = []
    for _ in range(count):
        signer = CryptoSigner.generate_ed25519()
        key = signer.public_key
        short = key.keyid[:12]
        folder = f"{channel}.root-{short}" if count > 1 else channel
        entry = {"uri": f"file2:{role}-{short}.pem", "keyid": key.keyid, "key": key.to_dict()}
        made.append(
            Made(entry=entry, files={f"{folder}/{role}-{short}.pem": Secret(signer.private_bytes)})
        )
    return made


def parse_signers(texts: Sequence[str]) -> dict[str, tuple[str, Path]]:
    """Parse keys kept elsewhere, as the command line gives them: ``ROLE=URI,PUBLIC.pem``.

    Raises:
        UsageError: A text has another form.
    """
    signers = {}
    for text in texts:
        match = re.fullmatch(r"(\w+)=([^,]+),(.+)", text)
        if not match or match[1] not in ROLES:
            raise UsageError(
                f'"{text}" is not a signer',
                hint=f"write ROLE=URI,PUBLIC.pem, with a role of: {', '.join(ROLES)}",
            )
        signers[match[1]] = (match[2], Path(match[3]))
    return signers


def _elsewhere(uri: str, pem: Path) -> Made:
    """Return a key with its private half elsewhere."""
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from securesystemslib.signer import SIGNER_FOR_URI_SCHEME, SSlibKey

    if uri.partition(":")[0] not in SIGNER_FOR_URI_SCHEME:
        known = ", ".join(sorted(SIGNER_FOR_URI_SCHEME))
        raise UsageError(
            f'"{uri}" is not a key known to securesystemslib', hint=f"choose from: {known}"
        )
    try:
        key = SSlibKey.from_crypto(load_pem_public_key(pem.read_bytes()))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{pem} is not a public key: {error}",
            hint="give it in PEM, as `openssl pkey -pubout` writes it",
        ) from error
    return Made(entry={"uri": uri, "keyid": key.keyid, "key": key.to_dict()}, files={})


def _first_root(ring: KeyRing, threshold: int, now: float | None) -> Metadata[Root]:
    from tuf.api.metadata import Metadata, Root

    root = Root(version=1, expires=expiry(now, "root"), consistent_snapshot=True)
    for role in ROLES:
        for key in ring.public(role):
            root.add_key(key, role)
    root.roles["root"].threshold = threshold
    return Metadata(root)
